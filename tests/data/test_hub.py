"""Hugging Face's data sets: local files of every kind, and what is said where there is no connection."""

import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sampling import slow_after
from slipstream import data
from slipstream.core.errors import ConfigError, DataError

FRAME = pl.DataFrame(
    {
        "size": [i * 0.5 for i in range(40)],
        "town": ["Ulm" if i % 3 else "Aalen" for i in range(40)],
        "words": [f"a {'fine' if i % 2 else 'poor'} film, number {i % 5}" for i in range(40)],
        "label": ["good" if i % 2 else "bad" for i in range(40)],
    }
)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The package `datasets`, with its caches in a folder of the test and its hub out of reach."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    found = pytest.importorskip("datasets", reason="the extra `hub` is not installed")
    monkeypatch.setattr(found.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "home")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return found


def save(frame, path):
    """A file of the kind that its name says."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix in (".json", ".jsonl"):
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return str(path)


@pytest.mark.parametrize("file", slow_after(1, ["t.csv", "t.tsv", "t.jsonl", "t.parquet"]))
def test_a_local_table_is_what_data_table_makes_of_it(hub, tmp_path, load, file):
    """Every format gives the tensors and the preprocessing of the same table read without the package."""
    frame = FRAME.drop("words")
    ours = load("hub", path=save(frame, tmp_path / file), target="label")
    plain = load("table", path=save(frame, tmp_path / "plain.csv"), target="label")
    assert ours.preprocessing == plain.preprocessing
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(ours, part).inputs, getattr(plain, part).inputs)
        assert np.array_equal(getattr(ours, part).targets, getattr(plain, part).targets)


def test_one_column_of_words_is_text(hub, tmp_path, load):
    """Ids, vocabulary and preprocessing are those of data=text."""
    frame = FRAME.select("words", "label")
    ours = load("hub", path=save(frame, tmp_path / "t.parquet"), target="label", scaling="none")
    plain = load("text", path=save(frame, tmp_path / "t.csv"), text="words", target="label")
    assert ours.form == plain.form
    assert ours.preprocessing == plain.preprocessing
    assert np.array_equal(ours.train.inputs, plain.train.inputs)
    table = load(
        "hub", path=str(tmp_path / "t.parquet"), target="label", kind="table", kinds={"words": "category"}
    )
    assert table.form.kind == "vector"


def test_splits_that_were_saved_are_the_parts(hub, tmp_path, load):
    """What save_to_disk wrote is read, its classes by name, its splits as the parts that settings name."""
    features = hub.Features(
        {"x": hub.Value("float32"), "y": hub.ClassLabel(names=["cat", "dog"])},
    )
    rows = {"x": [0.5 * i for i in range(20)], "y": [i % 2 for i in range(20)]}
    whole = hub.Dataset.from_dict(rows, features=features)
    hub.DatasetDict(train=whole, held_out=whole.select(range(4))).save_to_disk(tmp_path / "saved")
    found = load("hub", path=str(tmp_path / "saved"), target="y", test_split="held_out", validation=0)
    assert found.target.classes == ("cat", "dog")
    assert (len(found.train), len(found.validation), len(found.test)) == (20, 0, 4)
    with pytest.raises(DataError, match=r"has no split 'held', did you mean held_out\?"):
        load("hub", path=str(tmp_path / "saved"), target="y", test_split="held")


@pytest.mark.slow
def test_a_folder_of_images(hub, tmp_path, load):
    """A folder for each class gives raw images; other sizes need data.size; a broken file is named."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    path = str(tmp_path / "images")
    found = load("hub", path=path, target="label", validation=0, test=0)
    assert found.form.kind == "image"
    assert found.train.inputs.shape == (20, 3, 6, 6)
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    assert np.array_equal(found.train.inputs, pixels[order].transpose(0, 3, 1, 2))
    Image.fromarray(pixels[0, :, :4]).save(tmp_path / "images" / "a" / "00.png")
    with pytest.raises(DataError, match=r"images of different sizes \(6 x 4, 6 x 6\): set data\.size"):
        load("hub", path=path, target="label")
    assert load("hub", path=path, target="label", size=5).form.shape == (3, 5, 5)
    (tmp_path / "images" / "a" / "00.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="row 1: the image cannot be read"):
        load("hub", path=path, target="label")


def test_numbers_dates_and_times_are_spelled_as_in_a_table(hub, tmp_path, load):
    """Money, days first and times of day are what data=table makes of them, and said as there."""
    frame = FRAME.drop("words").with_columns(
        money=pl.Series([f"${i},100.50" for i in range(1, 41)]),
        day=pl.Series([f"{i % 28 + 1}.03.2020" for i in range(40)]),
        time=pl.Series([f"{i % 24}:{i:02}" for i in range(40)]),
    )
    ours = load("hub", path=save(frame, tmp_path / "t.csv"), target="label")
    plain = load("table", path=save(frame, tmp_path / "plain.csv"), target="label")
    assert ours.preprocessing == plain.preprocessing
    assert ours.warnings == plain.warnings
    assert np.array_equal(ours.train.inputs, plain.train.inputs)


def test_a_missing_target_is_an_error_or_left_out(hub, tmp_path, load):
    """It is named with its row; without it, labels of whole numbers are numbers."""
    labels = pl.Series([None, *(i % 2 for i in range(39))])
    path = save(FRAME.select("size", "town").with_columns(label=labels), tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"the target is missing in 1 of 40 rows \(row 1\): correct it, or"):
        load("hub", path=path, target="label")
    found = load("hub", path=path, target="label", missing_target="drop")
    assert (found.target.classes, found.target.label_kind) == (("0", "1"), "number")


@pytest.mark.slow
def test_images_of_16_bits_are_rounded_to_8(hub, tmp_path, load):
    """Pillow's own way would make white of all above 255."""
    values = np.arange(20 * 36).reshape(20, 6, 6).astype(np.uint16) * 91
    for i, image in enumerate(values):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    found = load("hub", path=str(tmp_path / "images"), target="label", validation=0, test=0)
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    assert np.array_equal(found.train.inputs[:, 0], np.round(values[order] / 257))


def test_without_a_connection_one_sentence_says_so(hub, load):
    """A data set that is neither here nor to be reached is an error of one line."""
    with pytest.raises(DataError, match=r"nobody/nothing: cannot be loaded: .*") as caught:
        load("hub", dataset="nobody/nothing", target="y")
    assert "\n" not in str(caught.value)
    assert "read local files with data.path" in str(caught.value)


@pytest.mark.slow
def test_what_cannot_be_read_is_named(hub, tmp_path, load):
    """A damaged file, a column that is not there and rows without target are errors with the place."""
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be loaded: "):
        load("hub", path=str(tmp_path / "t.parquet"), target="label")
    path = save(FRAME, tmp_path / "t.csv")
    with pytest.raises(
        DataError, match=r"data\.target names 'lable', which is not a column, did you mean label\?"
    ):
        load("hub", path=path, target="lable")
    with pytest.raises(
        DataError, match=r"data\.inputs names 'sise', which is not a column, did you mean size\?"
    ):
        load("hub", path=path, target="label", inputs=["sise"])
    gaps = save(FRAME.with_columns(label=pl.when(pl.col("size") > 1).then("label")), tmp_path / "gaps.csv")
    with pytest.raises(DataError, match="the target is missing in 3 of 40 rows"):
        load("hub", path=gaps, target="label")
    assert (
        len(load("hub", path=gaps, target="label", missing_target="drop", test=0, validation=0).train) == 37
    )


def test_without_the_package_its_extra_is_named(monkeypatch, tmp_path, load):
    """Where `datasets` is not installed the message says how to install it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'pip install "datasets>=4"'):
        load("hub", path=save(FRAME, tmp_path / "t.csv"), target="label")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"data\.dataset: is not set"),
        ({"dataset": "mnist", "path": "."}, r"data\.path: the data already come from data\.dataset"),
        ({"path": ".", "subset": "en"}, r"data\.subset: is for data sets of the hub"),
        ({"path": "nowhere"}, r"data\.path: nowhere does not exist"),
        (
            {"dataset": "mnist", "test_split": "train"},
            r"data\.train_split: the same name is used for two splits",
        ),
        ({"dataset": "mnist", "target": None}, r"data\.target: is not set"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, changes, message):
    """What can be told without reading is told before."""
    with pytest.raises(ConfigError, match=message):
        data.load(settings("hub", **{"target": "y"} | changes))
