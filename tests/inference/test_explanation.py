"""Explanations of single rows: they add up, and are Shapley's values where these are known."""

import sys
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest

import slipstream
from slipstream.cli import main
from slipstream.core.errors import ConfigError, UserError

FEW = ("trainer.max_epochs=3", "model.width=8", "trainer.device=cpu", "data.batch_size=16")
ROWS = 40  # fewer than those that stand for absent values, so that these are all


@pytest.fixture
def captum():
    """The library, if the extra is installed."""
    return pytest.importorskip("captum", reason="the extra `explain` is not installed")


def table():
    """Numbers, one with gaps, a category and a value that they tell."""
    draw = np.random.default_rng(0)
    made = {name: draw.normal(size=ROWS) for name in "abc"}
    y = made["a"] * 3 + made["b"] * (made["c"] > 0) + 10
    made["b"] = np.where(draw.random(ROWS) < 0.2, np.nan, made["b"])
    return pd.DataFrame(made | {"city": draw.choice(["Rome", "Oslo"], ROWS), "y": y})


def shapley(value, names):
    """Shapley's values by their definition: v(S with the feature) - v(S), weighted by the size of S."""
    found = {}
    for name in names:
        others = [other for other in names if other != name]
        found[name] = sum(
            (value({*some, name}) - value(set(some))) / (len(names) * comb(len(others), size))
            for size in range(len(names))
            for some in combinations(others, size)
        )
    return found


def test_contributions_are_shapleys_values(captum):
    """Of a table of 4 columns, one with gaps and one of categories, against the definition."""
    frame = table()
    run = slipstream.fit(frame, "y", *FEW)
    found = run.explain(frame, row=17)

    def value(present):
        mixed = frame.copy()
        for name in present:
            mixed[name] = frame[name].iloc[16]
        return run.predict(mixed).mean()

    names = [*"abc", "city"]
    for name, expected in shapley(value, names).items():
        given = next(each for each in found.contributions if each.name == name)
        assert given.adds == pytest.approx(expected, abs=2e-5)
    assert found.exact
    assert found.base == pytest.approx(run.predict(frame).mean(), abs=1e-5)
    assert found.prediction == pytest.approx(run.predict(frame).iloc[16], abs=1e-5)
    told = {each.name: each.value for each in found.contributions}
    assert told["city"] == frame["city"].iloc[16]
    assert float(told["a"]) == pytest.approx(frame["a"].iloc[16], abs=1e-4)
    gap = int(np.flatnonzero(frame["b"].isna())[0])
    missing = {each.name: each.value for each in run.explain(frame, row=gap + 1).contributions}
    assert missing["b"] == "(missing)"


def runs():
    """A wide table, images, texts and sequences of numbers, each with new examples."""
    draw = np.random.default_rng(0)
    wide = pd.DataFrame(draw.normal(size=(ROWS, 7)), columns=list("abcdefg"))
    wide["y"] = np.where(wide["a"] > 0, "yes", "no")
    yield slipstream.fit(wide, "y", *FEW), (wide,), wide["y"].iloc[4]
    images = draw.integers(0, 255, (ROWS, 3, 8, 8)).astype(np.uint8)
    labels = np.arange(ROWS) % 3
    yield slipstream.fit(images, labels, "model=convnet", *FEW[:1]), (images,), labels
    steps = draw.normal(size=(ROWS, 5, 3)).astype(np.float32)
    yield slipstream.fit(steps, steps[:, :, 0].sum(1), "model=rnn", *FEW[:1]), (steps,), steps[:, 0, 0]


@pytest.mark.slow
def test_contributions_add_up_to_the_prediction(captum):
    """Base and contributions are the prediction, for columns, regions and steps, and the explained class."""
    for run, data, target in runs():
        given = None if isinstance(target, str) else target
        found = run.explain(*data, row=5, target=given)
        total = found.base + sum(each.adds for each in found.contributions)
        assert total == pytest.approx(found.prediction, abs=1e-5)
        assert found == run.explain(*data, row=5, target=given)
        if len(run.classes):
            scores = np.asarray(run.predict_proba(*data))[4]
            assert found.prediction == pytest.approx(scores.max(), abs=1e-6)
            other = str(run.classes[scores.argmin()])
            assert run.explain(*data, row=5, target=given, output=other).prediction < found.prediction


@pytest.mark.slow
def test_a_row_is_explained_on_the_command_line(captum, tmp_path, capsys, monkeypatch):
    """A run's own test row by its number, with files; a word of a text; what is wrong in a sentence."""
    monkeypatch.chdir(tmp_path)
    run = slipstream.train(slipstream.compose("data=iris", *FEW), "run")
    with pytest.raises(SystemExit) as ended:
        main(["importance", "run", "--row", "3", "-o", "out"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "the test rows of the run, row 3:" in told
    assert "petal length" in told
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "explanation.csv",
        "explanation.json",
        "explanation.png",
    ]
    for words, said in (
        (["--row", "99"], "row: found 99, expected 1 to 22 of the test rows of the run"),
        (["--of", "setosa"], "--of setosa: needs a row to explain; add --row N"),
        (["--row", "1", "--of", "setoza"], "did you mean setosa"),
        (["--row", "0"], "found '0', expected a whole number >= 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["importance", "run", *words])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    texts = [f"a {'fine' if i % 2 else 'poor'} film" for i in range(60)]
    labels = ["good" if i % 2 else "bad" for i in range(60)]
    pd.DataFrame({"t": texts, "y": labels}).to_csv("t.csv", index=False)
    words = ["data=text", "data.path=t.csv", "data.text=t", "data.target=y", "model=rnn", *FEW[:1]]
    read = slipstream.train(slipstream.compose(*words))
    found = read.explain(["a fine film"], target=["good"])
    assert {each.name for each in found.contributions} == {"a", "fine", "film"}
    total = found.base + sum(each.adds for each in found.contributions)
    assert total == pytest.approx(found.prediction, abs=1e-5)
    assert run.explain(row=3).name == "run"


@pytest.mark.slow
def test_without_captum_the_line_to_type_is_said(monkeypatch):
    """The package is named as pip takes it, and nothing of captum is needed before."""
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    run = slipstream.fit(table(), "y", *FEW)
    with pytest.raises(UserError, match=r'needs captum; install with: pip install "captum>=0.9"'):
        run.explain()
    with pytest.raises(ConfigError, match="'z': no such target in this run, one of: y"):
        run.explain(output="z")
