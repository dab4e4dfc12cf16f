"""The examples that a caller asks about: new ones in a file or in memory, or a run's own."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipstream.core.errors import ConfigError, DataError
from slipstream.core.types import DataLike, Plain
from slipstream.inference import new_data, own_data
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.given_data import given_data
from slipstream.inference.new_data import NewData


def asked_data(
    ensemble: Ensemble, data: Sequence[DataLike], target: DataLike = None, by: str | None = None
) -> tuple[NewData, str]:
    """Return the examples that a caller names, and their description.

    data: overrides of the run's data settings, such as "data.path=new.csv", or one table, array or dataset;
    nothing means the run's test rows, else its validation rows, else its training rows. target: the targets
    of examples in memory, None for the columns of their table. by: a column whose values are groups.
    """
    configs = [origin.config for origin in ensemble.origins]
    texts = [one for one in data if isinstance(one, str)]
    if len(data) > len(texts):
        if len(data) > 1:
            raise ConfigError(
                [f"found {len(data)} data, expected one table or array; its targets are target=..."]
            )
        if isinstance(data[0], Path):
            raise ConfigError([f"{data[0]}: is a path; files are named by 'data.path={data[0]}'"])
        return given_data(ensemble.models, configs[0]["data"], data[0], target, by), "the rows given"
    if target is not None:
        raise DataError("target: is for examples in memory, and none are given; files have their own columns")
    if texts:
        return new_data.read_as(ensemble.models, configs, texts, by), " ".join(texts)
    if by is not None:
        raise ConfigError([f"by={by!r}: names a column of new data; add data.path=FILE, or give a table"])
    own = own_data.unseen_rows(ensemble)
    return own.data, f"the {own.split} rows of the run"


def trained_on(configs: Sequence[Mapping[str, Plain]], overrides: Sequence[str]) -> list[str]:
    """Return a warning if the file that is named is one that the run was trained on."""
    paths = [text.removeprefix("data.path=") for text in overrides if text.startswith("data.path=")]
    own = [config["data"].get("path") for config in configs]
    if not paths or not any(path is not None and same_file(Path(paths[-1]), Path(path)) for path in own):
        return []
    what = "examples of this folder" if Path(paths[-1]).is_dir() else "rows of this file"
    known = f"{paths[-1]}: the run was trained on {what}, which it knows"
    return [f"{known}: it does better on them than on new ones; without data.path its test rows are taken"]


def predicted_again(configs: Sequence[Mapping[str, Plain]], source: str) -> list[str]:
    """Return a warning if a file to predict is one that the run was trained on."""
    return [text.partition(";")[0] for text in trained_on(configs, [f"data.path={source}"])]


def same_file(one: Path, other: Path) -> bool:
    """Return True if two paths are of one file, or of files with the same content."""
    try:
        return one.samefile(other) or (one.is_file() and filecmp.cmp(one, other, shallow=False))
    except OSError:  # the run's own file is gone
        return False
