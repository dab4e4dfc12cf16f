"""All checks of a run's data, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from slipstream.config.run_config import Config
from slipstream.core.errors import UserError
from slipstream.core.registry import component
from slipstream.data.dataset import Data, RawData, Settings
from slipstream.data.loading import load, read
from slipstream.data.splits import split_rows
from slipstream.diagnosis.data_checks.checked_data import CheckedData, raw_columns
from slipstream.diagnosis.data_checks.column_checks import constants, identifiers, outliers
from slipstream.diagnosis.data_checks.duplicate_checks import duplicates
from slipstream.diagnosis.data_checks.finding import SURE, Finding
from slipstream.diagnosis.data_checks.label_checks import imbalance, label_noise, no_signal
from slipstream.diagnosis.data_checks.order_checks import cut_off, leakage_by_time
from slipstream.diagnosis.data_checks.part_checks import shift, wrong_order
from slipstream.diagnosis.data_checks.scale_checks import inputs_not_scaled, target_not_scaled
from slipstream.diagnosis.data_checks.signal_checks import leaks, uninformative

CHECKS: tuple[Callable[[CheckedData], Iterator[Finding]], ...] = (
    *(inputs_not_scaled, target_not_scaled, outliers, constants, identifiers, leaks, uninformative),
    *(duplicates, wrong_order, shift, leakage_by_time, no_signal, label_noise, imbalance, cut_off),
)
# What a cause explains: findings of these are its consequences and are left out.
EXPLAINS = {
    "split in wrong order": ("distribution shift", "label noise", "class imbalance"),
    "no signal": ("features without signal", "label noise", "class imbalance"),
    "identifier column": ("leaking feature",),
    "duplicates across parts": ("leakage by time",),
    "constant features": ("no signal", "features without signal", "class imbalance"),
}


def data_findings(config: Config, data: Data | None = None) -> list[Finding]:
    """Return the causes of poor results that lie in the data of a run, the strongest first.

    Findings of strength 0.5 and more are causes; weaker ones are remarks. The quick models use at most 500
    training rows, drawn with a fixed seed.

    Args:
        config: the run's configuration.
        data: its data; None loads them.

    Returns:
        The findings. Data that cannot be read again get only the checks that need no raw columns.

    Raises:
        ConfigError, DataError: the data cannot be loaded.
    """
    checked = checked_data(config, data)
    found = [finding for check in CHECKS for finding in check(checked)]
    for cause in [finding.cause for finding in found if finding.strength >= SURE]:
        found = [one for one in found if one.cause not in EXPLAINS.get(cause, ())]
    return sorted(found, key=lambda finding: -finding.strength)


def checked_data(config: Config, data: Data | None) -> CheckedData:
    """Read the data of a run again as far as the checks need it."""
    settings: Settings = {"name": config.data.name, **config.data.settings}
    raw = _raw(settings)
    if data is None:
        data = load(settings)
    if raw is None:
        return _from_tensors(config, data)
    how, rows = split_rows(raw, settings)
    given = raw.parts is not None and bool((raw.parts > 0).any())
    return CheckedData(config, data, "" if given else how, tuple(rows), raw, raw_columns(raw), raw.targets)


def _raw(settings: Settings) -> RawData | None:
    """Return the data as read, None if they were in memory or cannot be read again."""
    if component("data", settings["name"]).traits.in_memory:
        return None
    try:
        return read(settings)
    except UserError:
        return None


def _from_tensors(config: Config, data: Data) -> CheckedData:
    """Return what is known without the raw data; rows are numbered through train, validation and test."""
    splits = (data.train, data.validation, data.test)
    ends = np.cumsum([0, *map(len, splits)])
    parts = tuple(np.arange(a, b) for a, b in pairwise(ends))
    of = [s.targets if s.metric_targets is None else s.metric_targets for s in splits]
    return CheckedData(config, data, "", parts, None, (), np.concatenate([one.numpy() for one in of]))
