"""Datasets of Hugging Face's that a caller holds: tables, texts and images, and what is said of others."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import slipstream
from slipstream.core.errors import ConfigError, DataError

FEW = ("trainer.max_epochs=2", "trainer.device=cpu", "data.batch_size=16")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The package `datasets`, if the extra is installed."""
    return pytest.importorskip("datasets", reason="the extra `hub` is not installed")


def rows(hub, count=60):
    """A number, a category and labels, both by number and name."""
    draw = np.random.default_rng(0)
    kinds = hub.Features(
        {
            "size": hub.Value("float32"),
            "town": hub.ClassLabel(names=["Ulm", "Rom"]),
            "label": hub.ClassLabel(names=["poor", "good"]),
        }
    )
    size, town = draw.normal(size=count).astype(np.float32), draw.integers(0, 2, count)
    made = {"size": size, "town": town, "label": (size + town > 0.5).astype(int)}
    return hub.Dataset.from_dict(made, features=kinds)


@pytest.mark.slow
def test_a_dataset_trains_and_predicts_as_its_table(hub):
    """Classes are their names; the scores are those of a frame with the same values, to the bit."""
    held = rows(hub)
    frame = pd.DataFrame(
        {
            "size": np.array(held["size"], np.float32),
            "town": pd.Categorical.from_codes(held["town"], ["Ulm", "Rom"]),
            "label": np.array(["poor", "good"])[held["label"]],
        }
    )
    run, plain = slipstream.fit(held, "label", *FEW), slipstream.fit(frame, "label", *FEW)
    scores = plain.predict_proba(frame).to_numpy()
    np.testing.assert_array_equal(run.predict_proba(held), scores)
    np.testing.assert_array_equal(run.predict_proba(frame), scores)
    assert set(run.predict(held)) <= {"poor", "good"}
    assert run.evaluate(held).whole.values == plain.evaluate(frame).whole.values
    assert run.evaluate().whole.rows == 9
    assert [each.name for each in run.importance().features] == ["size", "town"]


def test_the_splits_of_a_dataset_are_the_runs(hub):
    """Those called validation and test; a dictionary of splits is no table to predict."""
    held = rows(hub)
    splits = hub.DatasetDict(train=held.select(range(40)), test=held.select(range(40, 60)))
    run = slipstream.fit(splits, "label", *FEW)
    assert run.evaluate().whole.rows == 20
    measured = run.evaluate(splits["test"]).whole.values["accuracy"]
    assert measured == pytest.approx(run.best["test/accuracy"])
    with pytest.raises(DataError, match=r"the splits train, test, expected one.*data\['test'\]"):
        run.predict(splits)
    for wrong, said in (
        (
            lambda: slipstream.fit(held, "labl", *FEW),
            "data.target names 'labl', which is not a column.*label",
        ),
        (lambda: slipstream.fit(held, held["label"], *FEW), "expected the name of a column of the dataset"),
        (lambda: slipstream.fit(held.to_iterable_dataset(), "label"), "found a streamed IterableDataset"),
    ):
        with pytest.raises(DataError, match=said):
            wrong()
    with pytest.raises(ConfigError, match="are passed as arguments"):
        slipstream.fit(held, "label", "data.dataset=mnist")


@pytest.mark.slow
def test_a_column_of_texts_or_of_images_is_the_input(hub, tmp_path):
    """As data=hub reads them from a file; new ones come as a dataset or a list."""
    words = [f"a {'fine' if i % 2 else 'poor'} film" for i in range(60)]
    texts = hub.Dataset.from_dict({"text": words, "stars": [["no", "yes"][i % 2] for i in range(60)]})
    run = slipstream.fit(texts, "stars", "model=rnn", "data.scaling=none", *FEW)
    np.testing.assert_array_equal(run.predict_proba(texts), run.predict_proba(words))
    assert run.evaluate(texts).whole.values == run.evaluate(words, texts["stars"]).whole.values
    texts.to_parquet(tmp_path / "t.parquet")
    typed = ["data=hub", f"data.path={tmp_path / 't.parquet'}", "data.target=stars", "model=rnn"]
    config = slipstream.compose(*typed, "data.scaling=none", *FEW)
    np.testing.assert_array_equal(slipstream.train(config).predict_proba(words), run.predict_proba(words))
    draw = np.random.default_rng(0)
    pictures = [Image.fromarray(draw.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(30)]
    kinds = hub.Features({"shot": hub.Image(), "y": hub.ClassLabel(names=["cat", "dog"])})
    shots = hub.Dataset.from_dict({"shot": pictures, "y": [i % 2 for i in range(30)]}, features=kinds)
    seen = slipstream.fit(shots, "y", "model=convnet", *FEW)
    np.testing.assert_array_equal(seen.predict_proba(shots), seen.predict_proba(pictures))
    own = seen.evaluate()
    assert own.whole.rows == 4
    assert own.whole.values["accuracy"] == pytest.approx(seen.best["test/accuracy"])
    assert seen.evaluate(shots).whole.rows == seen.evaluate(pictures, target=shots["y"]).whole.rows == 30
