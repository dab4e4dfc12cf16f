"""The base of the estimators that follow scikit-learn's API: parameters, training, saving."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from numbers import Number, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from slipstream.config.run_config import Config
from slipstream.config.validation import compose, validate
from slipstream.core.errors import UserError
from slipstream.core.storage import replace as write_file
from slipstream.core.types import DataLike, Plain
from slipstream.data.in_memory import InMemory
from slipstream.inference.packed_training import PendingFit, submit
from slipstream.runs import checkpoints
from slipstream.runs.prediction import Model, model_of, saved_config
from slipstream.runs.summary import Result
from slipstream.runs.trained import Trained
from slipstream.training.model_spec import ModelSpec

BATCH = 200  # rows per update, as in scikit-learn's MLPClassifier
MERGED = 10 * BATCH  # duplicate rows are merged only in data with at most this many rows
ESTIMATOR = "estimator.json"  # next to the run's files in a saved folder
QUIET = (
    "data=memory",
    "data.target=target",
    "data.test=0",
    "data.scaling=none",
    "data.target_scaling=none",
    "logger=none",
    "trainer.compile=false",
    "trainer.observations=false",  # an estimator has no place for them
)


class SlipstreamEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The parameters and the training that both estimators share.

    Inputs and regression targets are scaled to mean 0 and standard deviation 1 over the weighted rows: a row
    of weight 2 counts as two rows.
    """

    def __init__(
        self,
        width: int | Sequence[int] = 64,
        depth: int | None = 2,
        *,
        model: str = "mlp",
        activation: str = "relu",
        optimizer: str = "adam",
        lr: float | None = 0.01,
        batch_size: int | str = "auto",
        max_epochs: int = 100,
        validation: float = 0.0,
        regularizer: Sequence[str] = (),
        settings: Sequence[str] = (),
        random_state: Any = None,  # a seed, a RandomState or None, as in scikit-learn
    ) -> None:
        self.width = width
        self.depth = depth
        self.model = model
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation = validation
        self.regularizer = regularizer
        self.settings = settings
        self.random_state = random_state

    def _overrides(self, rows: int, seed: int) -> list[str]:
        """Return the parameters as overrides of a run's configuration."""
        chosen: dict[str, Plain] = {"model.width": self.width, "model.depth": self.depth}
        if not self._sets_lr:
            chosen["optimizer.lr"] = self.lr
        spelled = {key: str(v).replace(" ", "") for key, v in chosen.items() if v is not None}
        size = self.batch_size
        spelled["data.batch_size"] = str((BATCH if rows > BATCH else "full") if size == "auto" else size)
        spelled |= {"seed": str(seed), "data.validation": str(self.validation)}
        stop = "patience" if self.validation else "none"
        spelled |= {"early_stopping": stop, "trainer.max_epochs": str(self.max_epochs)}
        if not self.validation:
            spelled |= {"trainer.monitor": "train/loss", "early_stopping.restore_best": "false"}
        else:  # otherwise nothing is drawn, and seeds share their data
            spelled["data.split_seed"] = str(seed)
        groups = {"model": self.model, "activation": self.activation, "optimizer": self.optimizer}
        groups["regularizer"] = f"[{','.join(self.regularizer)}]"
        return [*QUIET, *(f"{key}={value}" for key, value in (groups | spelled).items()), *self.settings]

    @property
    def _sets_lr(self) -> bool:
        """True if lr is set in the composed configuration, so that candidates of a search share it."""
        return isinstance(self.lr, Real) and not any("optimizer.lr" in text for text in self.settings)

    def _config(self, words: Sequence[str], target: Mapping[str, Plain]) -> Config:
        """Return the configuration of a run. words: its overrides. Raises ConfigError."""
        config = deepcopy(composed_once(tuple(words)))
        if self._sets_lr:
            config["optimizer"]["lr"] = float(self.lr)  # type: ignore[arg-type]  # it is a number
        config["data"]["task"] = target["task"]
        if target["classes"]:
            config["data"]["classes"] = [str(i) for i in range(len(target["classes"]))]
        return validate(config)

    def _train(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, target: dict[str, Plain]
    ) -> None:
        """Train on scaled inputs x [N, C] and targets [N] or [N, D], and keep a network for original units.

        target: the description of the target for preprocessing.json.
        """
        if len(x) < 2:
            raise ValueError(f"found n_samples = {len(x)}, expected at least 2 rows to train on")
        if weights is not None:
            x, y, weights = x[weights > 0], y[weights > 0], weights[weights > 0]
        if not self.validation and self.batch_size == "auto" and len(x) <= MERGED:
            x, y, weights = merged(x, y, weights)
        offset, scale = moments(x, weights)
        scaled = ((x - offset) / scale).astype(np.float32)
        if target["task"] == "regression":
            middle, spread = moments(y.reshape(len(y), -1), weights)
            y = (y - middle) / spread
            target |= {"offset": middle.tolist(), "scale": spread.tolist()}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            words = self._overrides(len(x), seed)
            config = self._config(words, target)
            given = InMemory(inputs=scaled, targets=y, weights=weights)

            def finish(result: Result, trained: Trained, specs: dict[str, ModelSpec]) -> None:
                self._keep(self._in_original_units(result, trained, target, offset, scale), config, specs)

            words += [f"optimizer.lr={config.optimizer.settings['lr']}"] if self._sets_lr else []
            submit(PendingFit(config, given, words, finish))
        except UserError as error:
            raise ValueError(str(error)) from error

    def _in_original_units(
        self,
        result: Result,
        trained: Trained,
        target: dict[str, Plain],
        offset: np.ndarray,
        scale: np.ndarray,
    ) -> Trained:
        """Return the network in original units: inputs are scaled by offset and scale [C].

        Raises ValueError if no epoch was sound.
        """
        if not result.best_epoch:
            raise ValueError(f"no epoch ended with finite weights ({result.reason}); lower lr")
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(len(offset))])
        fitted = json.loads(trained.fitted)
        columns = zip(fitted["inputs"]["columns"], names, offset, scale, strict=True)
        for column, name, mean, deviation in columns:
            column |= {"name": str(name), "offset": float(mean), "factor": float(1 / deviation)}
        fitted["target"] |= dict(target)
        self.n_iter_ = len(result.records)
        self.loss_curve_ = [record["train/loss"] for record in result.records]
        # Indented only when saved: json indents in Python, which took a quarter of a search's time.
        return replace(trained, fitted=json.dumps(fitted))

    def _keep(
        self, trained: Trained, config: Config | None = None, specs: dict[str, ModelSpec] | None = None
    ) -> None:
        self._trained = trained
        self._network: Model = model_of(trained.raw, trained.fitted, trained.tensors, config, specs)
        # In float64, the prediction of a row does not depend visibly on the other rows of the batch.
        self._network.networks = [in_float64(named) for named in self._network.networks]

    def _scores(self, x: DataLike) -> np.ndarray:
        """Return class scores [N, C], or values [N, D], of inputs [N, C]."""
        check_is_fitted(self)
        checked = validate_data(self, x, reset=False, dtype=np.float64)
        return self._network.scores(self._network.inputs(checked).double())

    def __getstate__(self) -> dict[str, Any]:  # called by pickle and copy
        """Return the parameters, with the network as safetensors and JSON."""
        state = dict(super().__getstate__())
        state.pop("_network", None)
        trained: Trained | None = state.pop("_trained", None)
        if trained is not None:
            own = {f: {n: t.cpu().clone() for n, t in named.items()} for f, named in trained.tensors.items()}
            state["_tensors"] = {file: save_tensors(named) for file, named in own.items()}
            described = {name: value for name, value in vars(trained).items() if name != "tensors"}
            state["_described"] = json.dumps(described)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:  # called by pickle and copy
        """Restore the parameters and the network."""
        tensors, described = state.pop("_tensors", None), state.pop("_described", None)
        super().__setstate__(state)
        if tensors is not None:
            named = {file: load_tensors(content) for file, content in tensors.items()}
            self._keep(Trained(tensors=named, **json.loads(described)))

    def save(self, directory: str | Path) -> Path:
        """Write the fitted estimator to a run folder that `load` and `slipstream.load` read.

        Args:
            directory: a folder that does not exist or holds no run.

        Returns:
            The path of the folder.

        Raises:
            UserError: the folder already holds a run.
        """
        check_is_fitted(self)
        folder = Path(directory)
        fitted = json.dumps(json.loads(self._trained.fitted), indent=1) + "\n"
        readable = replace(self._trained, fitted=fitted)
        readable.save(folder)
        shown = {name: value for name, value in self.get_params().items() if name != "random_state"}
        saved = {"parameters": shown, "features": list(getattr(self, "feature_names_in_", []))}
        saved |= {"inputs": self.n_features_in_, "class": type(self).__name__}
        write_file(
            folder / ESTIMATOR, json.dumps(saved, indent=1, default=lambda number: number.item()) + "\n"
        )
        return folder

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Load an estimator that `save` wrote, without unpickling anything.

        Args:
            directory: the folder that was passed to `save`.

        Returns:
            The fitted estimator.

        Raises:
            UserError: the folder holds no estimator, or one of another class.
        """
        folder = Path(directory)
        try:
            saved = json.loads((folder / ESTIMATOR).read_text("utf-8"))
            if saved["class"] != cls.__name__:
                raise UserError(f"{folder}: holds a {saved['class']}; use slipstream.{saved['class']}.load")
            made = cls(**saved["parameters"])
            fitted = (folder / "preprocessing.json").read_text("utf-8")
            summary = (folder / "summary.json").read_text("utf-8")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: holds no estimator ({error}); write one with save") from error
        path, _ = checkpoints.latest(folder / "checkpoints")
        if path is None:
            raise UserError(f"{folder}: the checkpoint is missing; save the estimator again")
        tensors, state = checkpoints.load(path)
        step = int(state["step"])
        made._keep(Trained(saved_config(folder), fitted, step, tensors, state, summary))
        made.n_features_in_ = saved["inputs"]
        if saved["features"]:
            made.feature_names_in_ = np.array(saved["features"], dtype=object)
        made.n_iter_, made.loss_curve_ = len(state["records"]), [r["train/loss"] for r in state["records"]]
        made._restore(made._network)
        return made

    def _restore(self, network: Model) -> None:
        """Set the fitted attributes from the network."""


@lru_cache(maxsize=256)
def composed_once(words: tuple[str, ...]) -> dict[str, Plain]:
    """Return the composed configuration of some overrides, which takes Hydra 15 ms. Do not change it."""
    return compose(words)


def checked_weights(weights: DataLike, x: np.ndarray) -> np.ndarray | None:
    """Return the weights of rows [N], >= 0 and not all 0, or None if none are given."""
    if weights is None:
        return None
    if isinstance(weights, Number):
        weights = np.full(len(x), weights, np.float64)
    found: np.ndarray = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if found.shape != (len(x),):
        raise ValueError(f"sample_weight.shape == {found.shape}, expected ({len(x)},), one weight per row")
    if (found < 0).any():
        raise ValueError("sample_weight: found a negative weight, expected weights >= 0")
    if not found.any():
        raise ValueError("Sample weights must contain at least one non-zero number, but all are 0")
    return found


def in_float64(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with floating-point ones converted to float64."""
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in named.items()}


def merged(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Merge equal rows into one row with the sum of their weights, if one update then takes all rows.

    In that case a row of weight 2 equals two rows to the last bit, since an update sees only weighted means.
    """
    own = np.ones(len(x)) if weights is None else weights
    pairs = np.column_stack([x, y])
    rows, first, place = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    if len(rows) > BATCH:
        return x, y, weights
    sums = np.bincount(place.ravel(), own)
    return x[first], y[first], None if (sums == sums[0]).all() else sums


def moments(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of columns [N, C] over weighted rows; 1 for constant columns."""
    mean = np.average(values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    flat = deviation <= 1e-12 * np.abs(values).max(axis=0, initial=0)
    return mean, np.where(flat, 1.0, deviation)
