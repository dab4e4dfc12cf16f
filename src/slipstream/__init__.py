"""slipstream: a PyTorch training toolkit driven by Hydra YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipstream.core import kernels
from slipstream.core.version import __version__ as __version__

if TYPE_CHECKING:
    from slipstream.config.validation import compose as compose
    from slipstream.core.errors import ConfigError as ConfigError
    from slipstream.core.errors import DataError as DataError
    from slipstream.core.errors import UserError as UserError
    from slipstream.core.registry import register as register
    from slipstream.diagnosis.ablation import ablate as ablate
    from slipstream.diagnosis.forking import fork as fork
    from slipstream.diagnosis.learning_rates import find_lr as find_lr
    from slipstream.diagnosis.verification import verify as verify
    from slipstream.diagnosis.why import why as why
    from slipstream.inference.estimators import SlipstreamClassifier as SlipstreamClassifier
    from slipstream.inference.estimators import SlipstreamRegressor as SlipstreamRegressor
    from slipstream.inference.evaluation import Evaluation as Evaluation
    from slipstream.inference.evaluation import evaluate as evaluate
    from slipstream.inference.explanation import explain as explain
    from slipstream.inference.fitted_run import FittedRun as FittedRun
    from slipstream.inference.fitted_run import predict as predict
    from slipstream.inference.fitted_run import predict_proba as predict_proba
    from slipstream.inference.fitting import fit as fit
    from slipstream.inference.fitting import sweep as sweep
    from slipstream.inference.fitting import train as train
    from slipstream.inference.fitting import train_pack as train_pack
    from slipstream.inference.html_report import report as report
    from slipstream.inference.packed_search import PackedSearchCV as PackedSearchCV
    from slipstream.inference.paired_comparison import compare as compare
    from slipstream.inference.permutation_importance import importance as importance
    from slipstream.runs.prediction import load as load
    from slipstream.runs.summary import Result as Result
    from slipstream.sweeps.api import SweepResult as SweepResult


kernels.choose()  # here, because any other import may load torch

_HOMES = {
    "ablate": "slipstream.diagnosis.ablation",
    "compare": "slipstream.inference.paired_comparison",
    "compose": "slipstream.config",
    **dict.fromkeys(("ConfigError", "DataError", "UserError"), "slipstream.core.errors"),
    "Evaluation": "slipstream.inference.evaluation",
    "evaluate": "slipstream.inference.evaluation",
    "find_lr": "slipstream.diagnosis.learning_rates",
    "fork": "slipstream.diagnosis.forking",
    "importance": "slipstream.inference.permutation_importance",
    "explain": "slipstream.inference.explanation",
    **dict.fromkeys(("FittedRun", "predict", "predict_proba"), "slipstream.inference.fitted_run"),
    **dict.fromkeys(("fit", "sweep", "train", "train_pack"), "slipstream.inference.fitting"),
    "load": "slipstream.runs.prediction",
    "PackedSearchCV": "slipstream.inference.packed_search",
    "register": "slipstream.core.registry",
    "report": "slipstream.inference.html_report",
    "Result": "slipstream.runs.summary",
    "SweepResult": "slipstream.sweeps.api",
    **dict.fromkeys(("SlipstreamClassifier", "SlipstreamRegressor"), "slipstream.inference.estimators"),
    "verify": "slipstream.diagnosis.verification",
    "why": "slipstream.diagnosis.why",
}


def __getattr__(name: str) -> Any:  # what the name stands for
    # Imported on first use: the command line does not need torch until it trains.
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_HOMES, "__version__"]
