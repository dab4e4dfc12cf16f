"""The data files of the planted cases: seeded tables, whole and spoiled in one way, series, texts, images.

Beside `NAME_SPOILED.csv` lies `NAME_SPOILED_fresh.csv`: rows of the same origin that no run has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from sklearn import datasets

ROWS, FRESH = 480, 400
Tables = dict[str, pl.DataFrame]


def whole(name: str, seed: int, rows: int) -> pl.DataFrame:
    """Return rows of a table. Its last column is the target: `kind`, of classes, or `value`."""
    return MAKERS[name](np.random.default_rng(seed), rows)


def _numbers(inputs: np.ndarray, target: np.ndarray) -> pl.DataFrame:
    """Name the columns a, b, c ...; integers are classes and become words."""
    columns = {chr(97 + k): np.round(column, 4) for k, column in enumerate(inputs.T)}
    if target.dtype.kind in "iu":
        return pl.DataFrame({**columns, "kind": [f"k{label}" for label in target]})
    return pl.DataFrame({**columns, "value": np.round(target, 4)})


def _blobs(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    centers = np.random.default_rng(5).normal(size=(8, 6)) * 1.6  # two clusters for each of four classes
    place = rng.integers(8, size=rows)
    inputs = centers[place] + rng.normal(size=(rows, 6)) * 0.7
    return _numbers(inputs * [1, 500, 1, 0.01, 60, 1], place % 4)


def _peaks(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    inputs, target = datasets.make_friedman1(rows, 6, noise=0.5, random_state=rng.integers(2**31))
    return _numbers(inputs * [1, 300, 1, 1, 1, 40], target * 100 + 900)


def _shop(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    city, plan = rng.choice(["Ulm", "Rom", "Bonn", "Oslo"], rows), rng.choice(["free", "paid"], rows)
    age, spent = rng.integers(18, 80, rows), rng.gamma(2, 40, rows)
    score = (city == "Ulm") * 2.0 - (city == "Oslo") * 2 + np.where(plan == "paid", 1, -1) * (age - 49) / 9
    stays = score + spent / 60 - 1.3 > rng.logistic(size=rows) * 0.2
    table = {"city": city, "plan": plan, "age": age, "spent": np.round(spent, 2)}
    return pl.DataFrame({**table, "kind": np.where(stays, "stays", "leaves")})


def _rings(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    inputs = rng.normal(size=(rows, 4))
    radius = np.linalg.norm(inputs, axis=1)
    return _numbers(inputs * [200, 1, 1, 0.05], np.digitize(radius, [1.5, 2.2]))


def _circuit(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    return _numbers(*datasets.make_friedman2(rows, noise=20, random_state=rng.integers(2**31)))


def _rent(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    part, heated = rng.choice(["north", "south", "old", "port"], rows), rng.choice(["gas", "wood"], rows)
    area, floor = rng.uniform(20, 140, rows), rng.integers(0, 8, rows)
    price = area * np.select([part == "old", part == "port"], [14, 9], 11) + 40 * np.abs(floor - 3)
    value = price + np.where(heated == "gas", 90, 0) + rng.normal(size=rows) * 25
    table = {"district": part, "heated": heated, "area": np.round(area, 1), "floor": floor}
    return pl.DataFrame({**table, "value": np.round(value, 1)})


def _waves(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    inputs = rng.uniform(-1, 1, size=(rows, 3))
    target = np.sin(3 * inputs[:, 0]) + inputs[:, 1] * inputs[:, 2] + 0.5 * inputs[:, 1] ** 2
    return _numbers(inputs * [1, 90, 1], (target + rng.normal(size=rows) * 0.05) * 400 + 2000)


def _stones(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    kind = rng.integers(3, size=rows)
    inputs = rng.normal(size=(rows, 5)) * 0.6 + np.random.default_rng(9).normal(size=(3, 5))[kind] * 1.5
    return _numbers(np.exp(inputs / 2), kind)


MAKERS: dict[str, Callable[[np.random.Generator, int], pl.DataFrame]] = {
    "blobs": _blobs,
    "peaks": _peaks,
    "shop": _shop,
    "waves": _waves,
    "rings": _rings,
    "circuit": _circuit,
    "rent": _rent,
    "stones": _stones,
}


def target_of(table: pl.DataFrame) -> str:
    """Return the column to predict."""
    return table.columns[-1]


def numeric(table: pl.DataFrame) -> list[str]:
    """Return the inputs that are numbers."""
    return [name for name, kind in table.schema.items() if kind.is_numeric() and name != target_of(table)]


def _with(table: pl.DataFrame, name: str, values: np.ndarray | list[str]) -> pl.DataFrame:
    return pl.DataFrame({name: values}).hstack(table)


def _shuffled(table: pl.DataFrame, rng: np.random.Generator) -> pl.Series:
    return table[target_of(table)].gather(rng.permutation(len(table)))


def _code(table: pl.DataFrame) -> np.ndarray:
    """Return the target as numbers, the classes in their order."""
    column = table[target_of(table)]
    return (column if column.dtype.is_numeric() else column.rank("dense")).to_numpy().astype(float)


def _parts(table: pl.DataFrame) -> pl.DataFrame:
    part = np.repeat(["train", "validation", "test"], [280, 80, len(table) - 360])
    return _with(table, "part", part)


def spoiled(name: str, table: pl.DataFrame, fresh: pl.DataFrame, rng: np.random.Generator) -> Tables:
    """Return the table spoiled in each way, by file name, with fresh rows where only they show the fault."""
    target, numbers = target_of(table), numeric(table)
    out: Tables = {"": table, "_fresh": fresh}

    def hint(rows: pl.DataFrame, rng: np.random.Generator) -> np.ndarray:
        return np.round(_code(rows) * 2 + 5 + rng.normal(size=len(rows)) * 0.05 * _code(rows).std(), 3)

    out["_leak"] = _with(table, "visits", hint(table, rng))
    out["_leak_fresh"] = _with(fresh, "visits", rng.permutation(hint(fresh, rng)))
    ordered = table.sort(target)
    out["_entry"] = _with(ordered, "entry", 1000 + np.arange(len(table)))
    out["_entry_fresh"] = _with(fresh, "entry", 1000 + rng.integers(len(table), size=len(fresh)))
    out["_sorted"] = ordered
    few = table.head(140)
    twice = pl.concat([_with(few, "lot", [f"lot {k}" for k in range(140)])] * 4)
    twice = twice.with_columns(_blurred(twice, target, rng))
    out["_twice"] = twice.sample(fraction=1, shuffle=True, seed=1)
    out["_twice_fresh"] = _with(fresh, "lot", [f"lot {900 + k}" for k in range(len(fresh))])
    out["_random"] = table.with_columns(_shuffled(table, rng).alias(target))
    more = {f"n{k}": np.round(rng.normal(size=len(table)), 3) for k in range(160)}
    out["_noise"] = pl.DataFrame(more).hstack(table)
    flat = {column: [table[column][0]] * len(table) for column in table.columns if column != target}
    out["_flat"] = pl.DataFrame({**flat, target: table[target]})
    dirty = table
    for column in numbers[:3]:
        wild = rng.random(len(table)) < 0.04
        values = np.where(wild, 999999.0, dirty[column].to_numpy())
        dirty = dirty.with_columns(pl.Series(column, values))
    out["_sentinel"] = dirty
    out["_parts"] = _parts(table)
    wrong = rng.random(len(table)) < np.where(np.arange(len(table)) < 360, 0.45, 0.0)
    labels = pl.Series(np.where(wrong, _shuffled(table, rng).to_numpy(), table[target].to_numpy()))
    out["_mislabeled"] = out["_parts"].with_columns(labels.alias(target))
    late = pl.Series(np.arange(len(table)) >= 360)
    moved = [
        pl.when(late).then(pl.col(c) + table[c].std() * (-1) ** k * 2).otherwise(pl.col(c)).alias(c)
        for k, c in enumerate(numbers)
    ]
    out["_shifted"] = out["_parts"].with_columns(moved)
    if target == "kind":
        rare = _code(table) == 1
        out["_rare"] = table.filter(~pl.Series(rare) | pl.Series(rng.random(len(table)) < 0.25))
    return {f"{name}{suffix}": rows for suffix, rows in out.items()}


def _blurred(table: pl.DataFrame, target: str, rng: np.random.Generator) -> pl.Series:
    """Return a target with half of it shuffled by lot, so that knowing a lot is worth more than learning."""
    values = table[target].to_numpy()
    lots = {lot: k for k, lot in enumerate(table["lot"].unique(maintain_order=True))}
    other = rng.permutation(values[: len(lots)])
    taken = rng.random(len(lots)) < 0.6
    place = [lots[lot] for lot in table["lot"]]
    return pl.Series(target, [other[k] if taken[k] else values[k] for k in place])


def series(rng: np.random.Generator, kind: str, count: int = 360, steps: int = 14) -> pl.DataFrame:
    """Return series, a row for each step: `tones` differ in frequency, others in their first step."""
    label = rng.integers(2 if kind == "flags" else 3, size=count)
    time = np.arange(steps)
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    if kind == "tones":
        values = np.sin(time * (0.4 + 0.5 * label[:, None]) + phase) + rng.normal(size=(count, steps)) * 0.2
    else:
        values = rng.normal(size=(count, steps)) * 0.5
        values[:, 0] = np.where(label == 1, 2, -2) if kind == "flags" else 2.0 * label - 2
    table = {"who": np.repeat(np.arange(count), steps), "when": np.tile(time, count)}
    return pl.DataFrame(
        {**table, "value": np.round(values, 3).ravel(), "kind": np.repeat(label, steps)}
    ).cast({"kind": pl.String})


def texts(rng: np.random.Generator, kind: str, count: int = 360) -> pl.DataFrame:
    """Return texts of 12 words, of which two near the end decide the class."""
    topics = {
        "notes": ["warm kind fine", "cold rude late", "cheap quick small"],
        "orders": ["bread milk eggs", "screw nail drill"],
    }[kind]
    filler = ["the", "a", "of", "we", "and", "it", "was", "so", "on", "at", "my", "by"]
    rows = []
    for label in rng.integers(len(topics), size=count):
        words = list(rng.choice(filler, 12))
        for place in rng.choice(np.arange(6, 12), 2, replace=False):
            words[place] = rng.choice(topics[label].split())
        rows.append((" ".join(words), f"t{label}"))
    return pl.DataFrame(rows, schema=["words", "kind"], orient="row")


def stripes(rng: np.random.Generator, count: int = 480, size: int = 8) -> dict[str, np.ndarray]:
    """Return images of stripes in four directions, 45 degrees apart, as arrays."""
    label = rng.integers(4, size=count)
    y, x = np.mgrid[:size, :size]
    angle = (label * np.pi / 4 + rng.normal(size=count) * 0.08)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    image = np.sin(1.6 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    image += rng.normal(size=image.shape) * 0.4
    return {"inputs": image[:, None].astype(np.float32), "targets": label.astype(np.int64)}


def write(folder: Path) -> None:
    """Write every file of the cases. The same bytes each time, with the same libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(MAKERS):
        rng = np.random.default_rng(100 + number)
        table, fresh = whole(name, 10 + number, ROWS), whole(name, 50 + number, FRESH)
        for file, rows in spoiled(name, table, fresh, rng).items():
            rows.write_csv(folder / f"{file}.csv")
    for number, name in enumerate(("tones", "flags")):
        series(np.random.default_rng(200 + number), name).write_csv(folder / f"{name}.csv")
    marks = series(np.random.default_rng(250), "marks", steps=24)
    marks.write_csv(folder / "marks.csv")
    for number, name in enumerate(("notes", "orders")):
        texts(np.random.default_rng(300 + number), name).write_csv(folder / f"{name}.csv")
    np.savez(folder / "stripes.npz", **stripes(np.random.default_rng(400)))
