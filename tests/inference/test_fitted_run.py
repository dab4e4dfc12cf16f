"""A run as an object: every method, whoever trained it, in the caller's library, and nothing on disk."""

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

import slipstream
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.inference import notebook_curve
from slipstream.inference.run_display import curves_svg

FEW = ("trainer.max_epochs=3", "model.width=8", "trainer.device=cpu")


def columns(rows=240):
    """A number, a category, a weight, and labels that they tell."""
    draw = np.random.default_rng(0)
    age, city = draw.normal(45, 15, rows).round(1), draw.choice(["Rome", "Oslo"], rows)
    told = age + 20 * (city == "Oslo") + draw.normal(0, 5, rows) > 55
    return {"age": age, "city": city, "w": draw.uniform(0.5, 2, rows), "y": np.where(told, "yes", "no")}


@pytest.fixture(scope="module")
def frame():
    """The table with an index of its own."""
    made = pd.DataFrame(columns())
    return made.set_index(pd.Index([f"r{i}" for i in range(len(made))], name="patient"))


@pytest.fixture(scope="module")
def run(frame):
    """A run on the table, in memory."""
    return slipstream.fit(frame, "y", "data.weight_column=w", *FEW)


@pytest.mark.slow
def test_predictions_come_in_the_callers_library(run, frame):
    """A column or a frame of it, with pandas' index; arrays for mappings; the same values everywhere."""
    labels, scores = run.predict(frame), run.predict_proba(frame)
    assert (labels.name, labels.index.name, list(scores.columns)) == ("y", "patient", ["no", "yes"])
    assert labels.index.equals(frame.index)
    assert scores.index.equals(frame.index)
    plain = frame.reset_index(drop=True)
    for table, kind, several in (
        (pl.from_pandas(plain), pl.Series, pl.DataFrame),
        (pa.Table.from_pandas(plain), pa.ChunkedArray, pa.Table),
        ({name: plain[name].tolist() for name in plain}, np.ndarray, np.ndarray),
    ):
        found, proba = run.predict(table), run.predict_proba(table)
        assert isinstance(found, kind)
        assert isinstance(proba, several)
        np.testing.assert_array_equal(np.asarray(found).astype(str), labels)
        np.testing.assert_array_equal(np.asarray(proba), scores)
    assert slipstream.predict(run, frame).equals(labels)
    assert slipstream.predict_proba(run, frame).equals(scores)


@pytest.mark.slow
def test_numbers_labels_and_tensors_keep_their_kind():
    """Several numbers are a frame of their names, booleans stay booleans, a tensor gives a tensor."""
    x = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    table = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "p": 5 * x[:, 0], "q": x[:, 1] + 100})
    both = slipstream.fit(table, ["p", "q"], *FEW).predict(table)
    assert both.columns == ["p", "q"]
    assert both["q"].mean() > 90
    flags = table.with_columns(p=pl.col("a") > 0, q=pl.col("b") > 0)
    assert slipstream.fit(flags, ["p", "q"], *FEW).predict(flags).schema == {"p": pl.Boolean, "q": pl.Boolean}
    tensors = slipstream.fit(torch.from_numpy(x), torch.from_numpy(x[:, 0] > 0), *FEW)
    assert tensors.predict(torch.from_numpy(x)).dtype == torch.bool
    assert tensors.predict_proba(torch.from_numpy(x)).shape == (90, 2)


@pytest.mark.slow
def test_metrics_are_scikit_learns(run, frame):
    """Of given rows with the run's weights; of its own test rows they are those of its end."""
    found = run.evaluate(frame)
    scores, w = run.predict_proba(frame).to_numpy(), frame["w"].to_numpy()
    assert found.whole.values["accuracy"] == pytest.approx(
        accuracy_score(frame["y"], run.predict(frame), sample_weight=w), abs=1e-6
    )
    scores = scores / scores.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = log_loss(frame["y"], scores, sample_weight=w, labels=["no", "yes"])
    assert found.whole.values["log_loss"] == pytest.approx(expected, rel=1e-5)
    own = run.evaluate()
    assert own.name == "the test rows of the run"
    for name in ("loss", "accuracy", "roc_auc"):
        assert own.whole.values[name] == pytest.approx(run.best[f"test/{name}"], rel=1e-6)
    assert set(run.evaluate(frame, by="city").groups) == {"Rome", "Oslo"}
    given = run.evaluate(frame, frame["y"]).whole.values
    assert given == found.whole.values


@pytest.mark.slow
def test_a_run_on_a_file_and_its_member_of_a_pack_are_the_same_object(tmp_path):
    """`train` and `train_pack` return runs with every method; a folder gives the same; save copies."""
    table = pl.DataFrame(columns())
    table.write_csv(tmp_path / "t.csv")
    words = ["data=table", f"data.path={tmp_path / 't.csv'}", "data.target=y", *FEW]
    run = slipstream.train(slipstream.compose(words), tmp_path / "run")
    assert run.predict(table).equals(slipstream.predict(tmp_path / "run", table))
    assert run.evaluate().whole.values == slipstream.evaluate(tmp_path / "run").whole.values
    assert run.importance().features == slipstream.importance(str(tmp_path / "run")).features
    run.save(tmp_path / "copy")
    assert slipstream.compare([tmp_path / "copy", run]).others[0].differences["accuracy"].difference == 0
    pair = slipstream.train_pack([slipstream.compose([*words, f"seed={k}"]) for k in (1, 2)])
    assert [type(one.predict(table)) for one in pair] == [pl.Series, pl.Series]
    rows = slipstream.compose("data=memory", "data.target=y", *FEW)
    held = slipstream.train(rows, data=table)
    assert held.predict_proba(table).equals(slipstream.fit(table, "y", *FEW).predict_proba(table))
    with pytest.raises(ConfigError, match="data=table reads its own; compose data=memory"):
        slipstream.train(slipstream.compose(words), data=table)


@pytest.mark.slow
def test_everything_else_takes_a_run_in_memory(run, frame, tmp_path, monkeypatch):
    """Importance, comparison, report and export of a run that has no folder."""
    assert run.importance().features[0].name == "age"
    assert run.importance(frame, metric="accuracy").rows == len(frame)
    better = slipstream.fit(frame, "y", "data.weight_column=w", "trainer.max_epochs=30")
    found = slipstream.compare([run, better])
    assert (found.names, found.others[0].verdict) == (("run 1", "run 2"), "better")
    assert slipstream.compare([run, better], frame).rows == len(frame)
    page = slipstream.report(run)
    assert page.count("<h2>") == 6
    assert "<img" in page.partition("<h2>Evaluation</h2>")[0]  # curves of the history
    assert (run.export("torch", tmp_path / "exported") / "model.pt2").is_file()
    with pytest.raises(UserError, match="found 'tflite', expected onnx or torch"):
        run.export("tflite", tmp_path / "other")


@pytest.mark.slow
def test_a_sweep_on_rows_in_memory(frame, tmp_path):
    """Its best trial's members predict together; without a folder it is temporary, as the result is."""
    common = {"repeats": 2, "data": frame, "target": "y"}
    found = slipstream.sweep({"optimizer.lr": [1e-5, 0.01]}, *FEW, **common)
    assert found.best.values == {"optimizer.lr": 0.01}
    labels = slipstream.predict(found, frame)
    mean = np.mean([slipstream.load(m.directory).predict(frame).scores for m in found.best.members], axis=0)
    np.testing.assert_allclose(slipstream.predict_proba(found, frame), mean, rtol=1e-6)
    measured = slipstream.evaluate(found, frame).whole.values["accuracy"]
    assert measured == pytest.approx(accuracy_score(frame["y"], labels), abs=1e-6)
    assert slipstream.evaluate(found).whole.rows == slipstream.importance(found).rows
    folder = found.directory
    assert folder.is_dir()
    del found
    assert not folder.exists()
    slipstream.sweep({"optimizer.lr": [0.01]}, *FEW, directory=tmp_path / "s", **common)
    assert (tmp_path / "s" / "report.json").is_file()
    with pytest.raises(ConfigError, match=r"sweep.workers: only this process has the rows"):
        slipstream.sweep({"optimizer.lr": [0.01]}, *FEW, workers=2, **common)
    with pytest.raises(ConfigError, match=r"passed as arguments; remove data=\.\.\."):
        slipstream.sweep({"optimizer.lr": [0.01]}, "data=iris", **common)


@pytest.mark.slow
def test_a_run_prints_as_a_table_and_shows_its_curve(run):
    """In a terminal and, with a drawing that loads nothing, in a notebook; words are escaped."""
    said = repr(run)
    assert "accuracy" in said
    assert "finished: all 3 epochs done" in said
    assert "vector data: columns age, city -> classes no, yes" in said
    page = run._repr_html_()
    assert page.count("<polyline") == 2
    assert "<table>" in page
    assert not {"http:", "src=", "<script"} & set(page.replace("http://www.w3.org", "").split())
    assert curves_svg([]) == ""
    assert "nan" not in curves_svg([{"train/loss": float("nan")}, {"train/loss": 1.0}])
    assert len(curves_svg([{"train/loss": k} for k in range(100_000)])) < 20_000
    assert "-&gt; classes" in page


@pytest.mark.slow
def test_a_notebook_shows_a_curve_that_ends_as_the_table(frame, monkeypatch):
    """IPython's display is used only inside its kernel: one place, drawn again, and no bar."""
    shown = []

    class Handle:
        display = update = staticmethod(shown.append)

    kernel = type("ZMQInteractiveShell", (), {})()
    display = SimpleNamespace(HTML=str, DisplayHandle=Handle)
    notebook = SimpleNamespace(get_ipython=lambda: kernel, display=display)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(notebook_curve, "SECONDS", 0)
    run = slipstream.fit(frame, "y", *FEW)
    assert shown[0] == "training"
    assert [text.count("<polyline") for text in shown[1:]] == [2, 2, 2, 2]
    assert shown[-1] == run._repr_html_()
    kernel.__class__.__name__ = "TerminalInteractiveShell"
    slipstream.fit(frame, "y", *FEW)
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda run, f: run.evaluate(f.drop(columns="y")), "lacks the target y, .*; or pass the values"),
        (lambda run, f: run.evaluate(f, f["y"][:5]), "240 examples and 5 targets, expected one target"),
        (lambda run, f: run.evaluate(f, target="y"), "found the name 'y', expected values"),
        (lambda run, f: run.evaluate(f.assign(y="maybe")), "maybe"),
        (lambda run, f: run.evaluate(f.assign(y=None)), r"target is missing in 240 of 240 rows \(row 1\)"),
        (lambda run, f: run.evaluate(f, by="contry"), "by='contry': the table has no such column"),
        (lambda run, f: run.evaluate(f, by="y"), "by='y': is the column of data.target"),
        (lambda run, f: run.evaluate(f.drop(columns="w")), "lacks the column of weights, 'w'"),
        (lambda run, f: run.evaluate(f[["age", "y", "w"]]), "lacks columns of the training data: city"),
        (lambda run, f: run.evaluate(f["age"].to_numpy()), "the data are not a table with a column y"),
        (lambda run, f: run.evaluate("new.csv"), "expected a data setting, such as data.path=new.csv"),
        (lambda run, f: run.predict(7), "found builtins.int, expected an array, a data frame"),
        (lambda run, f: run.importance(metric="acuracy"), "did you mean accuracy"),
        (lambda run, f: slipstream.evaluate(f, f), "run: found DataFrame, expected the folder of a run"),
        (lambda run, f: slipstream.predict("nowhere", f), "nowhere: no such folder"),
        (lambda run, f: slipstream.compare([run]), "found one run, expected at least two"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_a_sentence(run, frame, asked, said):
    """What was found, where, and what was expected; never an error of another library."""
    with pytest.raises(UserError, match=said):
        asked(run, frame)


@pytest.mark.slow
def test_classes_may_be_given_by_number():
    """Of a run whose classes have names; a label that is neither is refused."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    run = slipstream.train(slipstream.compose("data=iris", *FEW))
    names = np.array(run.classes)[y]
    assert run.evaluate(x, y).whole.values == run.evaluate(x, names).whole.values
    with pytest.raises(DataError, match=r"row 101: found class 3, expected a name, or 0 to 2 for setosa"):
        run.evaluate(x, y + 1)


WATCHED = """
import os, sys, tempfile
tempfile.gettempdir()  # tries, once, whether the folder can be written
opened = []
def seen(event, given):
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    flags = given[2] if event == "open" and isinstance(given[2], int) else 0
    unnamed = os.path.isdir(given[0]) if flags else False  # a temporary file that is gone when it is closed
    if flags & writes and not unnamed and given[0] != os.devnull:
        opened.append(given[0])
    if event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.remove"):
        opened.append((event, *given))
import slipstream, numpy, polars
from slipstream.inference import fitting
sys.addaudithook(seen)
table = polars.DataFrame({"x": range(80), "c": ["u", "v"] * 40, "y": ["no", "no", "yes", "yes"] * 20})
run = slipstream.fit(table, "y", "trainer.max_epochs=2", "regularizer=dropout")
run.predict(table), run.evaluate(table), run.evaluate(), run.importance(), repr(run), run._repr_html_()
slipstream.fit(numpy.random.rand(50, 3), numpy.arange(50) % 2, "trainer.max_epochs=1")
slipstream.compare([run, run]), slipstream.report(run)
print(opened)
"""


@pytest.mark.slow
def test_nothing_is_written_where_no_directory_is_given(tmp_path):
    """No file is opened for writing, no folder made anywhere, from the reading of rows to a report."""
    for name in ("home", "tmp", "here"):
        (tmp_path / name).mkdir()
    env = os.environ | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-B", "-c", textwrap.dedent(WATCHED)]
    done = subprocess.run(command, env=env, cwd=tmp_path / "here", capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert [path for name in ("home", "here", "tmp") for path in (tmp_path / name).rglob("*")] == []


@pytest.mark.slow
def test_results_print_short_without_their_rows(run, frame):
    """What a prompt shows of an evaluation, importances or a comparison is what they say."""
    found = run.evaluate(frame)
    assert repr(found).startswith("<evaluation of the run, 240 rows: loss ")
    assert f"accuracy {found.whole.values['accuracy']:.4g}" in repr(found)
    assert "age 0." in repr(run.importance(frame, repeats=1))
    assert slipstream.compare([run, run], frame).others[0].sentence in repr(
        slipstream.compare([run, run], frame)
    )
    assert all(len(repr(one)) < 500 for one in (found, run.importance(frame, repeats=1)))


def test_saving_over_a_run_is_refused_in_words_of_python(run, tmp_path):
    """A saved run is not overwritten, and the advice is no override of the command line."""
    run.save(tmp_path / "run")
    with pytest.raises(UserError, match="choose another folder") as error:
        run.save(tmp_path / "run")
    assert "hydra" not in str(error.value)
