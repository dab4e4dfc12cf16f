"""A report of a run as one HTML file, which needs no network and no JavaScript."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import yaml
from PIL import Image
from rich.table import Table

from slipstream.config.changes import changes, repeating
from slipstream.core import folders, storage
from slipstream.core.errors import UserError
from slipstream.core.version import __version__
from slipstream.core.wording import counted
from slipstream.inference import (
    comparison_files,
    evaluation_files,
    importance_files,
    new_data,
    own_data,
)
from slipstream.inference.ensemble import Ensemble, open_run
from slipstream.inference.evaluation import evaluated
from slipstream.inference.permutation_importance import importance_of
from slipstream.runs.prediction import saved_config

# The policy forbids a browser to load anything, whatever text a run brings.
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


def report(run: str | Path, *overrides: str) -> str:
    """Return a report of a run, a sweep's member or a sweep's best trial as one HTML page.

    It has the data, the curves, metrics with intervals, the largest losses, importances, the configuration
    and the command that repeats the run.

    Args:
        run: the folder of a run or a sweep.
        overrides: settings of the run's data that change, such as "data.path=new.csv"; without them the run's
            test rows are evaluated.

    Returns:
        HTML that loads nothing; pictures are inside.

    Raises:
        UserError: the folder is no run. ConfigError, DataError: the data do not fit it.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=5")
        >>> page = slipstream.report(slipstream.train(config, "runs/iris").directory)
        >>> page.count("<h2>"), "python train.py data=iris trainer.max_epochs=5 seed=0" in page
        (6, True)
    """
    ensemble = open_run(run)
    doubts: tuple[str, ...] = ()
    if overrides:
        data, source = new_data.read(ensemble.models, ensemble.folders, overrides), " ".join(overrides)
        about = str(ensemble.first.preprocessing)
    else:
        own = own_data.unseen_rows(ensemble)
        data, source, about, doubts = own.data, f"the {own.split} rows of the run", own.card, own.warnings
    measured = replace(evaluated(ensemble, data), name=source)
    found = importance_of(ensemble, data, source)
    raw = saved_config(ensemble.folders[0])
    title = f"slipstream report of {ensemble}"
    parts = [
        HEAD.format(title=escape(title)),
        f"<h1>{escape(title)}</h1>",
        _text(f"Evaluated on {counted(len(data), data.raw.unit)}: {source}."),
        "<h2>Data</h2>",
        _code(about),
        *map(_text, doubts),
        "<h2>Training</h2>",
        *_pictures(comparison_files.history_pictures(_named(ensemble), found.metric)),
        "<h2>Evaluation</h2>",
        *map(_table, evaluation_files.tables(measured)),
        *_pictures(evaluation_files.pictures(measured)),
        "<h2>Importance</h2>",
        _text(importance_files.told(found)),
        *map(_table, importance_files.tables(found)),
        *_pictures(importance_files.pictures(found)),
        "<h2>Configuration</h2>",
        _text("What differs from the defaults:"),
        _code("\n".join(changes(raw)) or "nothing"),
        "<details><summary>All settings</summary>",
        _code(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)),
        "</details>",
        "<h2>Repeating it</h2>",
        _code("\n".join(repeating(saved_config(folder)) for folder in ensemble.folders)),
        _text(f"Written by slipstream {__version__}."),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def require_new(output: Path) -> None:
    """Raise UserError if a file exists or is no HTML."""
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"-o {output}: expected a file in .html")
    if output.exists():
        raise UserError(f"{output}: exists already; choose another file")


def write(page: str, output: Path) -> None:
    """Write a page to a new file. Raises StorageError if that fails."""
    with storage.writing(output):
        folders.mkdir(output.parent)
    storage.replace(output, page)


def _named(ensemble: Ensemble) -> dict[str, Path]:
    return {folder.name: folder for folder in ensemble.folders}


def _text(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _table(table: Table) -> str:
    """Return a table as it is on the screen, in HTML."""
    heads = "".join(f'<th scope="col">{escape(str(column.header))}</th>' for column in table.columns)
    rows: Iterable[tuple[object, ...]] = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    caption = f"<caption>{escape(str(table.title))}</caption>" if table.title else ""
    return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _pictures(pictures: Iterable[tuple[str, Image.Image]]) -> Iterator[str]:
    for name, picture in pictures:
        held = io.BytesIO()
        picture.save(held, "PNG", optimize=True)
        data = base64.b64encode(held.getvalue()).decode()
        yield f'<p><img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}"></p>'
