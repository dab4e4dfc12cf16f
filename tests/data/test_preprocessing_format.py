"""preprocessing.json and the training data of every kind are what earlier versions made of the same files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sampling import slow_after
from slipstream.data import from_json

# Written by the version before a class for each kind of data; the text and the fingerprint of every case.
BEFORE = json.loads(Path(__file__).with_suffix(".json").read_text())
ALL_TRAIN = {"validation": 0, "test": 0}  # 64 rows: sums and means are exact, on every processor
ROWS = 64
SCALINGS = ("standard", "minmax", "robust", "none")


def numbers(shape, dtype=np.float64, high=16):
    """Whole numbers that are powers of two in number, so that every mean is exact."""
    return np.random.default_rng(5).integers(0, high, (ROWS, *shape)).astype(dtype)


def arrays(path, shape, dtype=np.float64, **changes):
    np.savez(path / "a.npz", inputs=numbers(shape, dtype), targets=np.arange(ROWS) % 3)
    return "arrays", {"path": str(path / "a.npz"), **changes}


def table(path, **changes):
    """Numbers with decimal commas, missing values, booleans, categories, rare ones, a constant."""
    i = np.arange(ROWS)
    frame = pl.DataFrame(
        {
            "whole": [str(v) if v % 16 else "NA" for v in i],
            "comma": [f"{v % 8},5" for v in i],
            "flag": ["yes" if v % 2 else "no" for v in i],
            "town": [("Ulm", "Bonn", "Köln", "Rom", "")[v % 5] if v > 1 else "Graz" for v in i],
            "same": ["7"] * ROWS,
            "y": [str(v % 3) for v in i],
        }
    )
    frame.write_csv(path / "t.csv", separator=";")
    settings = {"path": str(path / "t.csv"), "target": "y", "decimal": ",", "max_categories": 4}
    return "table", settings | {"split": "random"} | changes


def dates(path, **changes):
    """Days and times of day, whose cycles are sines."""
    days = [f"2026-{v % 12 + 1:02}-{v % 28 + 1:02}" for v in range(ROWS)]
    hours = [f"{v % 24}:30" for v in range(ROWS)]
    y = [f"{v}.25" for v in range(ROWS)]
    pl.DataFrame({"day": days, "hour": hours, "y": y}).write_csv(path / "t.csv")
    settings = {"path": str(path / "t.csv"), "target": "y", "scaling": "none", "split": "random"}
    return "table", settings | changes


def sequences(path, lengths=(1, 2, 4, 1), **changes):
    """Steps of a number with gaps and of a category, of equal or different lengths."""
    steps = [(i, t) for i in range(ROWS) for t in range(lengths[i % len(lengths)])]
    frame = pl.DataFrame(
        {
            "who": [f"s{i}" for i, _ in steps],
            "when": [str(t) for _, t in steps],
            "value": [str((3 * i + t) % 8) if (i + t) % 8 else "" for i, t in steps],
            "word": ["abc"[(i + t) % 3] for i, t in steps],
            "y": [str(i % 2) for i, _ in steps],
        }
    )
    frame.write_csv(path / "t.csv")
    names = {"path": str(path / "t.csv"), "id": "who", "time": "when", "target": "y"}
    return "sequences", names | changes


def text(path, **changes):
    lines = [f"{'ab'[i % 2]}\tWord {i % 4} of, {'x ' * (i % 5)}größe" for i in range(ROWS)]
    (path / "t.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "text", {"path": str(path / "t.txt"), **changes}


def images(path, **changes):
    for i, pixels in enumerate(numbers((4, 4, 3), np.uint8, 256)):
        (path / "abc"[i % 3]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path / "abc"[i % 3] / f"{i:02}.png")
    return "images", {"path": str(path), "cache": None, "streaming": "never", **changes}


CASES = {
    **{f"vector {s}": (arrays, {"shape": (3,), "scaling": s}) for s in (*SCALINGS, "global")},
    **{f"windows {s}": (arrays, {"shape": (5, 2), "scaling": s}) for s in SCALINGS},
    **{f"images {s}": (arrays, {"shape": (2, 4, 4), "scaling": s}) for s in ("standard", "global", "none")},
    **{f"bytes {s}": (images, {"scaling": s}) for s in ("standard", "minmax", "global")},
    **{f"table {s}": (table, {"scaling": s}) for s in SCALINGS},
    **{f"table {i}": (table, {"impute": i}) for i in ("mean", "most_frequent")},
    "dates": (dates, {}),
    **{f"sequences {s}": (sequences, {"scaling": s}) for s in SCALINGS},
    "sequences forward": (sequences, {"impute": "forward"}),
    "sequences of one length": (sequences, {"lengths": (2,)}),
    "sequences cut": (sequences, {"max_length": 2, "keep": "last"}),
    "words": (text, {"max_length": 6}),
    "characters": (text, {"level": "character", "min_count": 3}),
}


@pytest.mark.parametrize("case", slow_after(3, CASES))
def test_the_format_and_the_data_are_those_of_before(case, tmp_path, load):
    """The JSON text and the fingerprint over all tensors are the same; JSON makes the same object."""
    make, settings = CASES[case]
    name, chosen = make(tmp_path, **settings)
    found = load(name, **chosen, **ALL_TRAIN)
    text, fingerprint = BEFORE[case]
    assert found.fitted == text
    if case != "dates":  # sines may differ from processor to processor
        assert found.fingerprint == fingerprint
    again = from_json(json.loads(text)["inputs"])
    assert again.to_json() == found.preprocessing
    assert again.spec == found.form
