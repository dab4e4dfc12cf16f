"""Predictions of whole files: the same numbers as in memory, whatever the format and the blocks."""

from __future__ import annotations

import gzip
import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

import slipstream
from slipstream.core.errors import DataError, UserError
from slipstream.inference import prediction_files
from slipstream.inference.ensemble import open_run
from slipstream.inference.prediction_files import predict_file

QUIET = ("trainer.progress=none", "logger=none", "trainer.max_epochs=2", "trainer.device=cpu")


def frame(rows, seed):
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "id": [f"a{i}" for i in range(rows)],
            "size": [None if draw.random() < 0.1 else round(v, 3) for v in draw.normal(3, 1, rows).tolist()],
            "city": draw.choice(["Rome", "Oslo, East", 'Ky"iv'], rows),
            "day": [f"{d:02}/03/2021" for d in draw.integers(1, 29, rows)],
            "y": draw.choice(["no", "yes"], rows),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    frame(200, 1).write_csv(folder / "train.csv")
    words = [f"data.path={folder / 'train.csv'}", "data.target=y", "data.kinds={id: ignore}"]
    slipstream.train(slipstream.compose("data=table", *words, *QUIET), folder / "run")
    return open_run(folder / "run")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("output", [".csv", ".jsonl", ".parquet"])
def test_a_file_is_predicted_as_its_rows_in_memory(run, tmp_path, monkeypatch, suffix, output):
    """In blocks of a few rows, with quotes, gaps and dates; ids stay beside their predictions."""
    monkeypatch.setattr(prediction_files, "ROWS", 7)
    monkeypatch.setattr("slipstream.data.tabular.csv_records.BLOCK", 500)
    new, source = frame(60, 2).drop("y"), tmp_path / f"new{suffix}"
    if suffix == ".parquet":
        new.write_parquet(source)
    else:
        new.write_csv(source, separator="\t" if suffix == ".tsv" else ",")
    target = tmp_path / f"out{output}"
    assert predict_file(run, str(source), str(target), "id") == 60
    read = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}[output]
    found = read(target)
    expected = run.predict(new)
    assert found.columns == ["id", "prediction", "probability no", "probability yes"]
    assert found["id"].to_list() == new["id"].to_list()
    assert found["prediction"].to_list() == expected.labels.tolist()
    # Another batch size: float32 sums in another order.
    np.testing.assert_allclose(found["probability yes"], expected.scores[:, 1], rtol=1e-5)


def test_standard_streams(run, monkeypatch, capsys):
    """A table on standard input, CSV on standard output."""
    text = frame(20, 3).write_csv()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert predict_file(run, "-", "-", "none") == 20
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "prediction,probability no,probability yes"
    assert len(lines) == 21


def test_all_columns_are_kept_as_they_are_written(run, tmp_path):
    """Numbers keep their spelling; a column called prediction keeps its name."""
    text = "size,city,day,prediction\n3.10,Rome,01/03/2021,7\n,Oslo,02/03/2021,8\n"
    (tmp_path / "new.csv").write_text(text)
    with pytest.warns(UserWarning, match="is not in the training split"):
        predict_file(run, str(tmp_path / "new.csv"), str(tmp_path / "out.csv"))
    found = (tmp_path / "out.csv").read_text().splitlines()
    assert found[0].startswith("size,city,day,prediction,prediction_,probability no")
    assert found[1].startswith("3.10,Rome,01/03/2021,7,")


def test_what_cannot_be_predicted_is_named_and_nothing_is_left(run, tmp_path):
    source, target = tmp_path / "new.csv", tmp_path / "out.csv"
    frame(5, 1).drop("city").write_csv(source)
    with pytest.raises(DataError, match="lacks the column 'city', which the run was trained on"):
        predict_file(run, str(source), str(target))
    with pytest.raises(UserError, match="no such file"):
        predict_file(run, str(tmp_path / "nothing.csv"), str(target))
    frame(5, 1).write_csv(source)
    with pytest.raises(UserError, match=r"--keep idd: .* did you mean id"):
        predict_file(run, str(source), str(target), "idd")
    with pytest.raises(UserError, match="expected a file name that ends in"):
        predict_file(run, str(source), str(tmp_path / "out.xlsx"))
    with pytest.raises(UserError, match="is the input file"):
        predict_file(run, str(source), str(source))
    target.write_text("kept")
    with pytest.raises(UserError, match="already exists"):
        predict_file(run, str(source), str(target))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]
    assert target.read_text() == "kept"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_value_that_does_not_fit_is_found_in_its_row(run, tmp_path, monkeypatch, suffix):
    """Of the file, not of the block; and the advice names no setting, which a trained run does not take."""
    monkeypatch.setattr(prediction_files, "ROWS", 7)
    monkeypatch.setattr("slipstream.data.tabular.csv_records.BLOCK", 500)
    new, source = frame(60, 2).with_columns(pl.col("size").cast(pl.String)), tmp_path / f"new{suffix}"
    new[42, "size"] = "big"
    new.write_parquet(source) if suffix == ".parquet" else new.write_csv(source)
    with pytest.raises(DataError) as told:
        predict_file(run, str(source), str(tmp_path / "out.csv"))
    assert str(told.value).startswith(f"{source}: column 'size', row 43: found 'big', expected a number")
    assert str(told.value).endswith("Correct it")


def test_a_file_without_rows_needs_no_three(run, tmp_path):
    (tmp_path / "new.csv").write_text("size,city,day\n")
    with pytest.raises(DataError, match=r"found no rows below the header \(size, city, day\)$"):
        predict_file(run, str(tmp_path / "new.csv"), str(tmp_path / "out.csv"))


class TextRun:
    """The part of a run on texts that `_texts` reads."""

    def __init__(self):
        self.first, self.data = self, {"text": "review", "separator": None}


def test_texts_are_read_as_in_training(tmp_path):
    """From gzip, with another separator, as the only column, as lines; a line of Latin-1 is named."""
    texts, rows = prediction_files._texts, "review;stars\ngood word;1\nbad one;2\n"
    for name, content in {
        "semicolons.csv": rows.encode(),
        "packed.csv.gz": gzip.compress(rows.encode()),
        "alone.csv": b"review\ngood word\nbad one\n",
        "lines.txt": b"good word\r\nbad one\n",
        "lines.txt.gz": gzip.compress(b"good word\nbad one"),
    }.items():
        (tmp_path / name).write_bytes(content)
        found = [text for _, block in texts(TextRun(), tmp_path / name, "all") for text in block]
        assert found == ["good word", "bad one"], name
    (tmp_path / "latin.txt").write_bytes("good\ncafé\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt: line 2 holds byte 0xe9, .* Latin-1: 'café'\): save it"):
        list(texts(TextRun(), tmp_path / "latin.txt", "all"))


@pytest.mark.slow
def test_images_texts_and_sequences(tmp_path):
    """A folder of images, lines of text, a table of steps."""
    draw = np.random.default_rng(0)
    for kind in ("dark", "light"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for i in range(8):
            pixels = draw.integers(0, 100, (8, 8)) + 120 * (kind == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / kind / f"{i}.png")
    (tmp_path / "texts.tsv").write_text(
        "".join(f"{word}\t{word} word {i}\n" for i in range(12) for word in ("good", "bad"))
    )
    steps = [f"{s},{t},{draw.normal()},{'ab'[s % 2]}" for s in range(20) for t in range(3 + s % 2)]
    (tmp_path / "steps.csv").write_text("who,when,x,y\n" + "\n".join(steps) + "\n")
    lines = {
        "images": [
            "data=images",
            f"data.path={tmp_path / 'images'}",
            "model=convnet",
            "model.channels=2",
            "data.cache=null",
        ],
        "texts": [
            "data=text",
            f"data.path={tmp_path / 'texts.tsv'}",
            "model=convnet",
            "model.channels=2",
            "data.min_count=1",
            "model.pooling=none",
        ],
        "steps": [
            "data=sequences",
            f"data.path={tmp_path / 'steps.csv'}",
            "data.id=who",
            "data.time=when",
            "data.target=y",
            "model=rnn",
        ],
    }
    for name, words in lines.items():
        slipstream.train(slipstream.compose(*words, *QUIET), tmp_path / "runs" / name)
    (tmp_path / "lines.txt").write_text("good word\nbad word\n")
    steps_run = open_run(tmp_path / "runs" / "steps")
    predict_file(steps_run, str(tmp_path / "steps.csv"), str(tmp_path / "commas.csv"))
    (tmp_path / "semicolons.csv").write_text((tmp_path / "steps.csv").read_text().replace(",", ";"))
    predict_file(steps_run, str(tmp_path / "semicolons.csv"), str(tmp_path / "same.csv"))
    assert (tmp_path / "same.csv").read_text() == (tmp_path / "commas.csv").read_text()
    found = {}
    for name, source in (("images", "images"), ("texts", "lines.txt"), ("steps", "steps.csv")):
        target = tmp_path / f"{name}.jsonl"
        predict_file(open_run(tmp_path / "runs" / name), str(tmp_path / source), str(target))
        found[name] = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["file"] for row in found["images"]][:2] == ["dark/0.png", "dark/1.png"]
    assert [row["text"] for row in found["texts"]] == ["good word", "bad word"]
    assert [row["who"] for row in found["steps"]] == [str(s) for s in range(20)]
    model = slipstream.load(tmp_path / "runs" / "images")
    expected = model.predict(sorted((tmp_path / "images").rglob("*.png"))).labels.tolist()
    assert [row["prediction"] for row in found["images"]] == expected


@pytest.mark.slow
def test_a_sweep_predicts_with_its_best_trial(tmp_path):
    """The mean of the probabilities of the best trial's seeds; a member is a run."""
    found = slipstream.sweep(
        {"optimizer.lr": [1e-9, 0.05]}, "data=iris", *QUIET, directory=tmp_path / "s", repeats=3
    )
    ensemble = open_run(tmp_path / "s")
    assert [folder.name for folder in ensemble.folders] == [str(m.number) for m in found.best.members]
    x = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]
    alone = [slipstream.load(folder).predict(x).scores for folder in ensemble.folders]
    np.testing.assert_allclose(ensemble.predict(x).scores, np.mean(alone, axis=0), rtol=1e-6)
    assert len(open_run(tmp_path / "s" / "0").models) == 1
    with pytest.raises(UserError, match="not a run"):
        open_run(tmp_path)
    (tmp_path / "s" / "report.json").unlink()
    with pytest.raises(UserError, match=r"has no report yet; finish it with python train\.py resume="):
        open_run(tmp_path / "s")


def test_a_file_of_arrays_is_refused_with_the_way_in_python(run, tmp_path):
    """NumPy's files are not read as text."""
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    with pytest.raises(UserError, match=r"arrays are predicted in Python: slipstream.load\('.*'\).predict"):
        predict_file(run, tmp_path / "x.npy", tmp_path / "p.csv")
