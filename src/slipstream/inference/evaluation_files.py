"""The terminal output and the files of an evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from slipstream.core.console import number, print_table
from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.inference.evaluation import Evaluation, Measured
from slipstream.inference.reliability_diagram import calibration, calibration_picture
from slipstream.inference.result_files import write_result
from slipstream.metrics import final
from slipstream.runs.diagnostics import confusion_picture, scatter_picture

if TYPE_CHECKING:
    from rich.console import Console

WORST = 10  # rows shown
CLASSES = 30  # classes and groups shown
NUMBERS, ROWS = "evaluation.json", "rows.csv"


def show(screen: Console, found: Evaluation) -> None:
    """Show the metrics with intervals, the classes, the groups and the rows with the largest losses."""
    for table in tables(found):
        print_table(screen, table)
    if len(found.groups) > CLASSES:
        screen.print(f"and {counted(len(found.groups) - CLASSES, 'more group')}; see {NUMBERS}")


def tables(found: Evaluation) -> Iterator[Table]:
    """Yield the tables of an evaluation."""
    title = f"{found.name}, {counted(len(found.data), found.data.raw.unit)}"
    yield _metrics(found.whole, title, "loss" if found.networks == 1 else "loss, per network")
    if found.per_class:
        yield _classes(found)
    if found.groups:
        yield _groups(found)
    yield _worst(found)


def _metrics(measured: Measured, title: str, loss: str) -> Table:
    table = Table("metric", "value", "95 % interval", title=title, title_justify="left")
    for name, value in measured.values.items():
        table.add_row(loss if name == "loss" else name, number(value), _interval(measured, name))
    return table


def _interval(measured: Measured, name: str) -> str:
    interval = measured.intervals[name]
    return "" if interval is None else " to ".join(map(number, interval))


def _groups(found: Evaluation) -> Table:
    target = found.target
    names = final(target.task, len(target.classes), found.probabilistic, ())
    table = Table(
        "group", "rows", "loss", *names, f"interval of {names[0]}", title="by group", title_justify="left"
    )
    for label, each in list(found.groups.items())[:CLASSES]:
        values = [number(each.values[name]) for name in ("loss", *names)]
        table.add_row(label, str(each.rows), *values, _interval(each, names[0]))
    return table


def _classes(found: Evaluation) -> Table:
    table = Table("class", "precision", "recall", "f1", "examples", title="by class", title_justify="left")
    for row in found.per_class[:CLASSES]:
        table.add_row(
            str(row["class"]), *(number(row[key]) for key in ("precision", "recall", "f1", "examples"))
        )
    return table


def _worst(found: Evaluation) -> Table:
    table = Table("where", "true", "predicted", "loss", title="largest losses", title_justify="left")
    truth, predicted = columns(found)
    for row in found.worst(WORST):
        table.add_row(
            found.data.where(row), _cell(truth, row), _cell(predicted, row), number(float(found.losses[row]))
        )
    return table


def _cell(columns: Mapping[str, np.ndarray], row: int) -> str:
    values = [column[row] for column in columns.values()]
    cells = [number(float(v)) if isinstance(v, np.floating) else str(v) for v in values]
    return ", ".join(cells)


def columns(found: Evaluation) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the true and the predicted values by column name."""
    target = found.target
    if target.task == "regression":
        named = list(enumerate(target.names))
        return (
            {f"true {n}": found.targets[:, i] for i, n in named},
            {f"predicted {n}": found.scores[:, i] for i, n in named},
        )
    if target.task == "multilabel":
        labels = list(enumerate(target.classes))
        return (
            {f"true {n}": found.targets[:, i].astype(bool) for i, n in labels},
            {f"predicted {n}": found.scores[:, i] > 0.5 for i, n in labels},
        )
    classes = np.array(target.classes, object)
    return {"true": classes[found.targets]}, {"predicted": classes[found.scores.argmax(axis=1)]}


def write(found: Evaluation, folder: Path) -> list[Path]:
    """Write evaluation.json, rows.csv and plots into a folder, and return the files.

    Raises StorageError if a file cannot be written.
    """
    return write_result(folder, as_json(found), _rows(found), pictures(found), (NUMBERS, ROWS))


def as_json(found: Evaluation) -> dict[str, Plain]:
    """Return the content of evaluation.json."""
    confusion = found.confusion
    return {
        "run": found.name,
        "rows": len(found.data),
        "metrics": _measured(found.whole),
        "classes": found.per_class,
        "confusion": None if confusion is None else confusion.tolist(),
        "groups": {label: {"rows": m.rows, "metrics": _measured(m)} for label, m in found.groups.items()},
    }


def _measured(found: Measured) -> dict[str, Plain]:
    return {
        name: {"value": value, "interval": None if (i := found.intervals[name]) is None else list(i)}
        for name, value in found.values.items()
    }


def _rows(found: Evaluation) -> str:
    """Return a CSV line for each row: its number (from 1), true value, prediction, scores and loss."""
    truth, predicted = columns(found)
    shown = {**truth, **predicted}
    if found.target.classes:
        kind = "probability" if found.probabilistic else "score"
        shown |= {f"{kind} {n}": found.scores[:, i] for i, n in enumerate(found.target.classes)}
    shown["loss"] = found.losses
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["row", *shown])
    for row, values in enumerate(zip(*(column.tolist() for column in shown.values()), strict=True), start=1):
        table.writerow([row, *values])
    return written.getvalue()


def pictures(found: Evaluation) -> Iterator[tuple[str, Plain]]:
    """Yield plots by name: confusion matrix and calibration of classes, or predicted against true values."""
    if found.confusion is not None:
        yield "confusion_matrix", confusion_picture(found.confusion, found.target.classes)
        if found.probabilistic:
            two = len(found.target.classes) == 2
            what = f"of {found.target.classes[1]}" if two else "of the predicted class"
            compared = calibration(found.scores, found.targets, found.weights)
            yield "calibration", calibration_picture(compared, what)
    if found.target.task == "regression":
        for i, name in enumerate(found.target.names):
            picture = scatter_picture(found.targets[:, i], found.scores[:, i], name)
            yield f"predicted_against_true_{i + 1}", picture
