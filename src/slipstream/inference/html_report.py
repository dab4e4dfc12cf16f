"""A report of a run as one HTML file that needs no network and no JavaScript."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import yaml
from PIL import Image

from slipstream.config.changes import changes, repeating
from slipstream.core import folders, storage
from slipstream.core.errors import UserError
from slipstream.core.types import DataLike
from slipstream.core.version import __version__
from slipstream.core.wording import counted
from slipstream.inference import (
    comparison_files,
    evaluation_files,
    importance_files,
    own_data,
    sweep_section,
)
from slipstream.inference.asked_data import asked_data
from slipstream.inference.ensemble import Ensemble, RunLike, RunOrigin, open_run
from slipstream.inference.evaluation import evaluated
from slipstream.inference.html_table import html_table
from slipstream.inference.permutation_importance import importance_of
from slipstream.sweeps.plan.store import holds_sweep

# The policy keeps a browser from loading anything, whatever text a run contains.
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
caption {{ text-align: left; font-weight: 600 }}
th, td {{ text-align: left; padding: .2rem .8rem; border-bottom: 1px solid #ddd; overflow-wrap: anywhere }}
pre {{ background: #f6f6f6; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere }}
img {{ max-width: 100%; height: auto }}
</style><title>{title}</title></head><body>
"""


def report(run: RunLike, *data: DataLike, target: DataLike = None) -> str:
    """Return a report of a run, a sweep's member or a sweep's best trial as one HTML page.

    It shows the data, the learning curves, metrics with intervals, the largest losses, importances, the
    configuration and the command that repeats the run.

    Args:
        run: the folder of a run or a sweep, or the result of `slipstream.fit`, `train` or `sweep`.
        data: as in `slipstream.evaluate`; without any, the run's test rows are evaluated.
        target: the targets of examples in memory.

    Returns:
        A self-contained HTML page with embedded images.

    Raises:
        UserError: the folder holds no trained run.
        ConfigError, DataError: the data do not match those of training.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=5")
        >>> page = slipstream.report(slipstream.train(config, "runs/iris").directory)
        >>> page.count("<h2>"), "python train.py data=iris trainer.max_epochs=5 seed=0" in page
        (6, True)
    """
    ensemble = open_run(run)
    doubts: tuple[str, ...] = ()
    if data:
        rows, source = asked_data(ensemble, data, target)
        about = str(ensemble.first.preprocessing)
    else:
        own = own_data.unseen_rows(ensemble)
        rows, source, about, doubts = own.data, f"the {own.split} rows of the run", own.card, own.warnings
    measured = replace(evaluated(ensemble, rows), name=source)
    found = importance_of(ensemble, rows, source)
    raw = ensemble.origins[0].config
    title = f"slipstream report of {ensemble}"
    parts = [
        HEAD.format(title=escape(title)),
        f"<h1>{escape(title)}</h1>",
        _text(f"Evaluated on {counted(len(rows), rows.raw.unit)}: {source}."),
        *_sweep(ensemble),
        "<h2>Data</h2>",
        _code(about),
        *map(_text, doubts),
        "<h2>Training</h2>",
        *_pictures(comparison_files.history_pictures(_named(ensemble), found.metric)),
        "<h2>Evaluation</h2>",
        *map(html_table, evaluation_files.tables(measured)),
        *_pictures(evaluation_files.pictures(measured)),
        *_why(ensemble),
        "<h2>Importance</h2>",
        _text(importance_files.explanation(found)),
        *map(html_table, importance_files.tables(found)),
        *_pictures(importance_files.pictures(found)),
        "<h2>Configuration</h2>",
        _text("Settings that differ from the defaults:"),
        _code("\n".join(changes(raw)) or "nothing"),
        "<details><summary>All settings</summary>",
        _code(yaml.safe_dump(dict(raw), sort_keys=False, allow_unicode=True)),
        "</details>",
        "<h2>Repeating the run</h2>",
        _code("\n".join(repeating(origin.config) for origin in ensemble.origins)),
        _text(f"Written by slipstream {__version__}."),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def require_new(output: Path) -> None:
    """Raise UserError if a file exists or its name does not end in .html."""
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"-o {output}: expected a file name that ends in .html")
    if output.exists():
        raise UserError(f"{output}: already exists; choose another file")


def write(page: str, output: Path) -> None:
    """Write a page to a new file. Raises StorageError if it cannot be written."""
    with storage.writing(output):
        folders.mkdir(output.parent)
    storage.replace(output, page)


def _sweep(ensemble: Ensemble) -> Iterator[str]:
    """Yield the leaderboard and the statistics of a sweep; nothing for a run."""
    if holds_sweep(ensemble.path):
        found = sweep_section.read_report(ensemble.path)
        yield "<h2>Sweep</h2>"
        yield html_table(sweep_section.leaderboard(found))
        yield from map(_text, sweep_section.remarks(found))


def _why(ensemble: Ensemble) -> Iterator[str]:
    """Yield what `slipstream why` found out about the runs that it was asked about."""
    for origin in ensemble.origins:
        file = None if origin.folder is None else origin.folder / "why.json"
        if file is not None and file.exists():
            yield "<h2>Why</h2>"
            yield _code("\n".join(json.loads(file.read_text("utf-8"))["text"]))
            picture = file.with_suffix(".png")
            if picture.exists():
                yield from _pictures([("gain of each change", Image.open(picture))])


def _named(ensemble: Ensemble) -> dict[str, RunOrigin]:
    return {origin.name: origin for origin in ensemble.origins}


def _text(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _pictures(pictures: Iterable[tuple[str, Image.Image]]) -> Iterator[str]:
    for name, picture in pictures:
        held = io.BytesIO()
        picture.save(held, "PNG", optimize=True)
        data = base64.b64encode(held.getvalue()).decode()
        yield f'<p><img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}"></p>'
