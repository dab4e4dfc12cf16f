"""Exported folders: the same scores as the run, from rows as they are, without slipstream."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import subprocess
import sys
import venv
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import slipstream
from slipstream.cli import main
from slipstream.core.errors import UserError
from slipstream.data.image.image_files import ImageFormat, read_images
from slipstream.inference.ensemble import open_run
from slipstream.inference.export import example_files, exporting, loader, self_check
from slipstream.inference.export.exporting import export
from slipstream.inference.export.standalone import standalone

pytest.importorskip("onnxruntime")
QUIET = ("trainer.progress=none", "logger=none", "trainer.max_epochs=2", "trainer.device=cpu")
ROUNDING = 1e-5  # of float32 sums in another order


def table(rows, seed):
    """Numbers with gaps, signs, thousands marks, times of day, dates, booleans, categories, rare ones."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "size": [None if draw.random() < 0.1 else round(v, 3) for v in draw.normal(3, 1, rows).tolist()],
            "price": [f"$1,{i % 900 + 100:03}.50" for i in range(rows)],
            "at": [f"{i % 24:02}:30" for i in range(rows)],
            "member": draw.choice(["yes", "no"], rows),
            "grade": [None if draw.random() < 0.1 else w for w in draw.choice(["1", "2", "3"], rows)],
            "city": draw.choice(["Rome", "Oslo, East", 'Ky"iv'], rows),
            "place": [f"w{i}" for i in draw.zipf(1.5, rows) % 30],
            "day": [f"{d:02}/03/2021" for d in draw.integers(1, 29, rows)],
            "y": draw.choice(["no", "yes"], rows),
            "v": draw.normal(1e9, 50, rows),
        }
    )


def write_data(folder):
    """One file for each kind of data."""
    draw = np.random.default_rng(3)
    table(200, 1).write_csv(folder / "t.csv")
    targets = draw.integers(0, 3, 60)
    np.savez(
        folder / "bytes.npz", inputs=draw.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8), targets=targets
    )
    np.savez(folder / "floats.npz", inputs=draw.normal(size=(60, 1, 8, 8)), targets=targets)
    np.savez(folder / "vectors.npz", inputs=draw.normal(2, 3, (60, 7)), targets=draw.normal(5, 9, (60, 2)))
    np.savez(folder / "steps.npz", inputs=draw.normal(2, 3, (60, 6, 4)), targets=targets)
    many = [int(n) for n in draw.integers(2, 7, 40)]
    steps = {
        "id": [f"p{i}" for i, n in enumerate(many) for _ in range(n)],
        "hour": [j for n in many for j in range(n)],
        "a": [None if draw.random() < 0.2 else float(draw.normal()) for _ in range(sum(many))],
        "b": [None if draw.random() < 0.2 else str(draw.choice(["u", "v"])) for _ in range(sum(many))],
        "y": [["p", "q"][i % 2] for i, n in enumerate(many) for _ in range(n)],
    }
    pl.DataFrame(steps).sample(fraction=1, shuffle=True, seed=1).write_csv(folder / "s.csv")
    words = ["good", "bad", "it's", "fine", "Über", "no", "3.5", "!"]
    texts = [" ".join(draw.choice(words, draw.integers(1, 9))) for _ in range(80)]
    pl.DataFrame({"text": texts, "y": draw.choice(["p", "q", "r"], 80)}).write_csv(folder / "x.csv")


TABLE = ("data=table", "data.path=t.csv", "data.target=y", "data.kinds={v: ignore, grade: category}")
STEPS = ("data=sequences", "data.path=s.csv", "data.id=id", "data.time=hour", "data.target=y", "model=rnn")
TEXTS = ("data=text", "data.path=x.csv", "data.text=text", "data.target=y", "model=rnn", "model.width=8")
ARRAYS = ("data=arrays",)
REGRESSION = ("data=table", "data.path=t.csv", "data.target=v", "data.kinds={y: ignore}")
MORE = pytest.mark.exhaustive
RUNS = {
    "table": (*TABLE, "data.max_categories=10"),
    "bytes": (*ARRAYS, "data.path=bytes.npz", "model=convnet"),
    "lstm": (*STEPS, "model.cell=lstm", "model.width=8"),
    "texts": (*TEXTS, "model.cell=gru", "data.max_length=5", "data.keep=last"),
}
FURTHER = {
    "regression": (*REGRESSION, "data.scaling=robust"),
    "gru both ways": (
        *(*STEPS, "model.cell=gru", "model.width=8", "model.bidirectional=true", "model.depth=2"),
        *("model.pooling=mean", "regularizer=layer_norm", "data.impute=forward"),
    ),
    "snapshots": ("data=iris", "regularizer=snapshot_ensemble", "regularizer.snapshot_ensemble.cycles=2"),
    "perceptron": ("data=iris", "model=perceptron"),
    "hinge": ("data=iris", "loss=hinge"),
    "vectors": (*ARRAYS, "data.path=vectors.npz", "data.task=regression"),
    "floats": (*ARRAYS, "data.path=floats.npz", "model=convnet", "regularizer=[batch_norm,dropout]"),
    "augmented": (*ARRAYS, "data.path=floats.npz", "model=convnet", "augmentation=[rotation]"),
    "resnet": (*ARRAYS, "data.path=bytes.npz", "model=resnet", "regularizer=batch_norm"),
    "realmlp": (*TABLE, "experiment=realmlp"),
    "tabm": (*TABLE, "experiment=tabm"),
    "bfloat16": (*TABLE, "trainer.dtype=bfloat16"),
    "average": (*TABLE, "regularizer=[swa,layer_norm,spectral_norm]", "regularizer.swa.start=0.4"),
    "simple": (*STEPS, "model.cell=simple", "model.width=8"),
    "relu": (*STEPS, "model.cell=simple", "model.width=8", "activation=relu"),
    "glu": (*STEPS, "model.cell=lstm", "model.width=8", "activation=glu", "model.pooling=max"),
    "steps as arrays": (*ARRAYS, "data.path=steps.npz", "model=rnn", "model.width=8"),
    "characters": (*TEXTS, "data.level=character"),
    "ids": ("data=adding_problem", "model=rnn", "model.cell=gru", "model.width=8"),
}
SLOW = pytest.mark.slow
CASES = [pytest.param(name, marks=SLOW) for name in RUNS]
CASES += [pytest.param(name, marks=MORE) for name in FURTHER]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function from the name of a run to its folder; each is trained once."""
    base = tmp_path_factory.mktemp("export")
    write_data(base)
    known = RUNS | FURTHER

    def of(name):
        folder = base / name.replace(" ", "_")
        if not folder.exists():
            with _silent():
                slipstream.train(slipstream.compose(*known[name], *QUIET), folder)
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        yield of


@pytest.fixture(scope="module")
def exported(trained):
    """A function from the name of a run to what was exported of it, once."""
    made = {}

    def of(name, to="onnx"):
        if (name, to) not in made:
            with _silent():
                made[name, to] = export(open_run(trained(name)), to, trained(name).parent / f"{name} as {to}")
        return made[name, to]

    return of


def _silent():
    return warnings.catch_warnings(action="ignore")


@pytest.mark.parametrize("to", ["onnx", pytest.param("torch", marks=MORE)])
@pytest.mark.parametrize("name", CASES)
def test_every_network_and_kind_of_data_gives_the_runs_own_scores(exported, name, to):
    """On the run's test rows, by the exported loader; the folder holds all that it needs."""
    made = exported(name, to)
    assert made.checked.on == "of the run's test split"
    assert made.checked.rows > 2
    assert made.checked.difference <= (0.05 if name == "bfloat16" else ROUNDING)
    names = [path.name for path in made.files]
    assert names == [
        "README.md",
        f"model.{'onnx' if to == 'onnx' else 'pt2'}",
        "predict.py",
        "vocabulary.json",
    ]


def predicted_by(folder, file):
    """The rows that the folder's own program prints, which imports neither slipstream nor torch."""
    code = "import sys, runpy\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "assert not {'slipstream', 'torch', 'polars', 'onnx'} & set(sys.modules)"
    words = [sys.executable, "-c", code, str(folder / "predict.py"), str(file)]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return pl.DataFrame(list(csv.DictReader(io.StringIO(found))), infer_schema_length=None)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        pytest.param("table", "t.csv", marks=SLOW),
        pytest.param("regression", "t.csv", marks=MORE),
        pytest.param("gru both ways", "s.csv", marks=MORE),
        pytest.param("texts", "x.csv", marks=SLOW),
    ],
)
def test_the_loader_reads_a_file_as_the_run_does(trained, exported, tmp_path, name, file):
    """Decimal signs, dates, gaps, unseen categories, steps in any order, words that are too many."""
    new = pl.read_csv(file, infer_schema=False) if file != "t.csv" else table(50, 2).cast({"size": str})
    if file == "t.csv":
        new = new.with_columns(city=pl.Series(["nowhere", None, *new["city"].to_list()[2:]]))
        new.write_csv(tmp_path / file)
    else:
        new.write_csv(tmp_path / file)
    with _silent():
        run = open_run(trained(name))
        expected = run.scores(new["text"].to_list() if name == "texts" else new)
    found = predicted_by(exported(name).folder, tmp_path / file)
    scores = found.select(pl.exclude("prediction") if len(found.columns) > 1 else pl.all())
    unit = run.target.scale[0] if run.target.scale else 1.0
    assert np.abs(scores.cast(pl.Float64).to_numpy() - expected).max() / unit <= ROUNDING
    if run.target.classes:
        labels = [run.target.classes[i] for i in expected.argmax(1)]
        assert found["prediction"].to_list() == labels


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images in several sizes and modes, one of them deeper, and what is no image."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(4)
    (folder / "b").mkdir()
    for name, size in (("z.png", (8, 8)), ("a.jpg", (19, 30)), ("b/c.webp", (40, 7))):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(draw.integers(0, 2**16, (9, 9), dtype=np.uint16)).save(folder / "deep.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@SLOW
def test_the_loader_reads_a_folder_of_images_as_the_run_does(trained, exported, photos, tmp_path):
    """Resized, converted and scaled to the bit, with the names in the first column; one file, too."""
    files = ["a.jpg", "b/c.webp", "deep.png", "z.png"]
    with _silent():
        expected = open_run(trained("bytes")).scores([str(photos / file) for file in files])
    folder = exported("bytes").folder
    found = predicted_by(folder, photos)
    assert found["file"].to_list() == files
    scores = found.select(pl.exclude("file", "prediction")).cast(pl.Float64).to_numpy()
    assert np.abs(scores - expected).max() <= ROUNDING
    assert predicted_by(folder, photos / "z.png")["file"].to_list() == ["z.png"]
    predictor = self_check._loaded(folder / "predict.py").Predictor(folder)
    with Image.open(photos / "a.jpg") as picture:
        assert np.abs(predictor.scores(picture) - expected[:1]).max() <= ROUNDING
    np.savez(tmp_path / "some.npz", inputs=np.zeros((2, 3, 8, 8), np.uint8), others=[1])
    assert len(predicted_by(folder, tmp_path / "some.npz")) == 2
    with pytest.raises(ValueError, match=r"notes.txt is not a PNG, JPEG or WebP image"):
        predictor.predict([photos / "notes.txt"])


@SLOW
def test_the_loader_reads_parquet_as_the_run_does(trained, exported, tmp_path):
    """Typed columns: dates, booleans, numbers with gaps."""
    rows = table(50, 2).with_columns(
        pl.col("day").str.to_date("%d/%m/%Y"), pl.col("member") == "yes", pl.col("grade").cast(int)
    )
    rows.write_parquet(tmp_path / "new.parquet")
    with _silent():
        expected = open_run(trained("table")).scores(rows)
    scores = predicted_by(exported("table").folder, tmp_path / "new.parquet").select(pl.exclude("prediction"))
    assert np.abs(scores.cast(pl.Float64).to_numpy() - expected).max() <= ROUNDING


IMAGES = {"kind": "image", "shape": [3, 8, 8], "pictures": {"fit": "pad", "background": "white", "bits": 16}}


def test_images_of_an_exported_folder_fit_as_in_training(photos):
    """The settings of the run's files count: here a wide picture gets white above and below."""
    (made,) = example_files.pixels([photos / "b" / "c.webp"], IMAGES)
    settings = {"fit": "pad", "background": "white"}
    (expected,) = read_images([photos / "b" / "c.webp"], ImageFormat((8, 8), 3, **settings))
    assert np.array_equal(made, expected)


@pytest.mark.parametrize(
    ("name", "package", "said"),
    [
        ("z.png", "PIL", "z.png: image files need Pillow; install it with pip install pillow, or"),
        ("t.parquet", "pyarrow.parquet", "t.parquet: Parquet files need pyarrow; install it with pip"),
        ("two.npz", "nothing", "two.npz: has the arrays a, b; expected a single one, or `inputs`"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_cure(
    monkeypatch, photos, tmp_path, name, package, said
):
    np.savez(tmp_path / "two.npz", a=[1], b=[2])
    monkeypatch.setitem(sys.modules, package, None)
    file = photos / name if name == "z.png" else tmp_path / name
    about = IMAGES if name == "z.png" else {"kind": "table", "columns_named": True}
    with pytest.raises(ValueError, match=re.escape(said)):
        example_files.pixels(example_files.read(str(file), about), about)


@SLOW
def test_the_loader_takes_columns_single_rows_and_frames(trained, exported):
    with _silent():
        run = open_run(trained("table"))
    folder = exported("table").folder
    found = self_check._loaded(folder / "predict.py").Predictor(folder)
    rows = table(9, 5).with_columns(member=pl.Series([True, False, None] * 3), grade=pl.Series([1, 2, 3] * 3))
    with _silent():
        expected = run.scores(rows)
        for examples in (rows, rows.to_dict(as_series=False), {"more": [0] * 9} | rows.to_dict()):
            assert np.abs(found.scores(examples) - expected).max() <= ROUNDING
        one = rows.to_dicts()[4]
        assert np.abs(found.predict(one)["scores"] - expected[4:5]).max() <= ROUNDING
    with pytest.raises(ValueError, match="missing the columns size"):
        found.predict({"price": [1]})
    with pytest.raises(ValueError, match="column 'size', row 1: found 'big', expected a number"):
        found.predict(one | {"size": "big"})


@SLOW
def test_the_loader_names_the_file_that_it_cannot_read(trained, exported, tmp_path, monkeypatch):
    loader = self_check._loaded(exported("table").folder / "predict.py")
    (tmp_path / "two.csv").write_text("price,rooms\n1,2\n")
    for name, said in (("none.csv", "No such file or directory"), ("two.csv", "missing the columns size")):
        monkeypatch.setattr("sys.argv", ["predict.py", str(tmp_path / name)])
        with pytest.raises(SystemExit, match=re.escape(f"{tmp_path / name}: {said}")):
            loader.main()


@SLOW
def test_one_sweep_is_the_mean_of_its_best_trials_folds(tmp_path, monkeypatch):
    """Folds have other scales and other categories; each is inside the graph."""
    monkeypatch.chdir(tmp_path)
    table(120, 1).write_csv("t.csv")
    words = [*TABLE, "data.folds=3", "data.fold=0,1,2", "hydra.sweep.dir=sweep", *QUIET]
    with _silent(), pytest.raises(SystemExit) as ended:
        main(["-m", *words])
    assert ended.value.code in (0, None)
    with _silent():
        run = open_run("sweep")
        assert len(run.models) == 3
        made = export(run, "onnx", tmp_path / "out")
    assert made.checked.difference <= ROUNDING
    assert json.loads((tmp_path / "out" / "vocabulary.json").read_text())["networks"] == 3


@SLOW
def test_data_that_are_gone_are_replaced_by_drawn_ones(trained, tmp_path):
    folder = trained("table")
    kept = Path("t.csv").rename("kept.csv")
    try:
        made = export(open_run(folder), "onnx", tmp_path / "out")
    finally:
        kept.rename("t.csv")
    assert "drawn at random, because the run's data cannot be read" in str(made.checked)
    assert made.checked.difference <= ROUNDING
    assert str(made.checked) in (tmp_path / "out" / "README.md").read_text()


@SLOW
def test_other_scores_are_an_error_and_nothing_is_left(trained, tmp_path, monkeypatch):
    run = open_run(trained("table"))
    traced = exporting._traced

    def wrong(network, about):
        network.members[0].reader.offset += 1.0
        return traced(network, about)

    monkeypatch.setattr(exporting, "_traced", wrong)
    with _silent(), pytest.raises(UserError, match="Nothing was written"):
        export(run, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_the_packages_the_message_says_what_to_install(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs onnx, onnxscript, onnxruntime; install with: pip install"):
        export(open_run(trained("table")), "onnx", tmp_path / "out")


def test_an_existing_folder_is_not_touched(trained, tmp_path):
    with pytest.raises(UserError, match="already exists"):
        export(open_run(trained("table")), "onnx", tmp_path)


@pytest.mark.slow
def test_the_loader_is_one_file_without_slipstream():
    tree = ast.parse(standalone(loader))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    roots = {name.split(".")[0] for name in names}
    assert roots - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "torch", "PIL", "pyarrow"}


@pytest.mark.exhaustive
def test_a_fresh_environment_with_numpy_and_onnxruntime_predicts(trained, exported, photos, tmp_path):
    """`python -m venv`, pip install numpy onnxruntime, python predict.py."""
    with _silent():
        expected = open_run(trained("table")).scores(table(50, 2))
    table(50, 2).write_csv(tmp_path / "new.csv")
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "onnxruntime"], check=True)
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in listed
    out = tmp_path / "predicted.csv"
    clean = {"PATH": "/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
    words = [python, str(exported("table").folder / "predict.py"), str(tmp_path / "new.csv"), "-o", str(out)]
    subprocess.run(words, check=True, env=clean, cwd="/")
    found = pl.read_csv(out).select(pl.exclude("prediction")).to_numpy()
    assert np.abs(found - expected).max() <= ROUNDING
    np.save(tmp_path / "pixels.npy", np.zeros((2, 3, 8, 8), np.uint8))
    for file, said in (
        (tmp_path / "pixels.npy", ""),
        (photos / "z.png", "image files need Pillow; install it with pip install pillow"),
    ):
        words = [python, str(exported("bytes").folder / "predict.py"), str(file)]
        done = subprocess.run(words, env=clean, cwd="/", capture_output=True, text=True, check=False)
        assert (done.returncode == 0, said in done.stderr) == (not said, True)
        assert len(done.stderr.splitlines()) == bool(said)


def test_a_table_without_header_is_read_by_the_places_of_its_columns(tmp_path):
    (tmp_path / "t.csv").write_text("1,a\n2,b\n")
    about = {"kind": "table", "columns_named": True, "separator": None, "header": False}
    assert loader.read(str(tmp_path / "t.csv"), about) == {"column 1": ["1", "2"], "column 2": ["a", "b"]}


@pytest.mark.exhaustive
def test_openvino_reads_the_onnx_file(trained, exported):
    """Its CPU plugin computes doubles in float32, so dates are rounded; its default may be bfloat16."""
    openvino = pytest.importorskip("openvino")
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    made = exported("table")
    with _silent():
        expected = open_run(trained("table")).scores(table(50, 2))
        found = self_check._loaded(made.folder / "predict.py").Predictor(made.folder)
        feed = found.inputs(table(50, 2))
        compiled = openvino.compile_model(made.folder / "model.onnx", "CPU", precise)
        scores = next(iter(compiled(feed).values()))
    assert np.abs(scores - expected).max() <= 1e-3


@SLOW
def test_the_command_prints_the_difference(trained, tmp_path, capsys):
    with _silent(), pytest.raises(SystemExit) as ended:
        main(["export", str(trained("table")), "-o", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert not ended.value.code
    assert "Largest difference from the run's own scores" in told
    assert f"{Path(tmp_path / 'out' / 'predict.py')}" in told
