"""The examples that a caller names: new ones in a file or in memory, or the run's own."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipstream.core.errors import ConfigError, DataError
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import shell
from slipstream.inference import new_data, own_data
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.given_data import given_data
from slipstream.inference.new_data import NewData


def asked_data(
    ensemble: Ensemble, data: Sequence[DataLike], target: DataLike = None, by: str | None = None
) -> tuple[NewData, str]:
    """Return the examples that a caller names, and their description.

    data: overrides of the run's data settings, such as "data.path=new.csv", or one table, array or dataset;
    without any, the run's test rows, or its validation or training rows if it has no others. target: the
    targets of examples in memory, None for the table's own columns. by: a column whose values are groups.
    """
    configs = [origin.config for origin in ensemble.origins]
    texts = [one for one in data if isinstance(one, str)]
    if len(data) > len(texts):
        if len(data) > 1:
            raise ConfigError(
                [f"found {len(data)} data arguments, expected one table or array; pass targets as target=..."]
            )
        if isinstance(data[0], Path):
            raise ConfigError([f"{data[0]}: is a path; pass files as 'data.path={data[0]}'"])
        return given_data(ensemble.models, configs[0]["data"], data[0], target, by), "the given rows"
    if target is not None:
        raise DataError("target: only for examples in memory, but none are given; files have target columns")
    if texts:
        try:
            return new_data.read_as(ensemble.models, configs, texts, by), " ".join(texts)
        except DataError as error:
            if "data.target names" not in str(error):
                raise
            paths = [text.removeprefix("data.path=") for text in texts if text.startswith("data.path=")]
            words = " ".join(map(shell, [str(ensemble.path), *paths[-1:]]))
            raise DataError(f"{error}; to predict rows without targets: slipstream predict {words}") from None
    if by is not None:
        raise ConfigError([f"by={by!r}: names a column of new data; add data.path=FILE, or pass a table"])
    own = own_data.unseen_rows(ensemble)
    return own.data, f"the {own.split} rows of the run"


def trained_on(configs: Sequence[Mapping[str, Plain]], overrides: Sequence[str]) -> list[str]:
    """Return a warning if the named file is one that the run was trained on."""
    paths = [text.removeprefix("data.path=") for text in overrides if text.startswith("data.path=")]
    own = [config["data"].get("path") for config in configs]
    if not paths or not any(path is not None and same_file(Path(paths[-1]), Path(path)) for path in own):
        return []
    what = "examples of this folder" if Path(paths[-1]).is_dir() else "rows of this file"
    known = f"{paths[-1]}: the run was trained on {what}"
    return [f"{known}, so it does better on them than on new ones; without data.path its test rows are used"]


def predicted_again(configs: Sequence[Mapping[str, Plain]], source: str) -> list[str]:
    """Return a warning if a file to predict is one that the run was trained on."""
    return [text.partition(";")[0] for text in trained_on(configs, [f"data.path={source}"])]


def same_file(one: Path, other: Path) -> bool:
    """Return True if two paths name the same file, or files with the same content."""
    try:
        return one.samefile(other) or (one.is_file() and filecmp.cmp(one, other, shallow=False))
    except OSError:  # the run's own file is gone
        return False
