"""Trained networks for prediction: `slipstream.load(directory)` returns a `Model` with a `predict`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from slipstream.config.files import completed, defaults
from slipstream.config.run_config import Config
from slipstream.config.schema import CHOICES, options
from slipstream.config.validation import for_target, validate
from slipstream.core.errors import UserError
from slipstream.core.types import DataLike, Plain, Target
from slipstream.core.wording import counted, typed
from slipstream.data import Preprocessing, from_json
from slipstream.data.dataset_rows import examples_of
from slipstream.data.identity import labels as labels_of
from slipstream.data.messages import phrase
from slipstream.models.functional import put_tensors, tensors_of
from slipstream.models.own_network import OFFSET
from slipstream.runs import checkpoints
from slipstream.training.evaluate import chunk_of, side_by_side
from slipstream.training.inputs import ready
from slipstream.training.model_spec import ModelSpec, State
from slipstream.training.pack import signature

LARGEST = 100_000_000  # maximum bytes read of a run's configuration or preprocessing
OFFSETS = ("inputs.standardize.offset", OFFSET)  # buffers of networks that scale images
SHOWN = 6  # names and predictions in a repr


@dataclass(frozen=True)
class Classification:
    """Predicted classes or labels of N examples.

    classes: the labels in the order of the columns, in their original type (text, numbers or booleans).
    scores: float32 [N, C]; larger means more likely. labels: [N], those with the largest score; for
    multilabel bool [N, C].
    """

    classes: tuple[str | float | bool, ...]
    scores: np.ndarray
    labels: np.ndarray
    loss: str
    probabilistic: bool

    def __repr__(self) -> str:
        shown = self.labels[:SHOWN].tolist()
        if self.labels.ndim == 2:  # list the names of each example's labels
            shown = [[name for name, has in zip(self.classes, row, strict=True) if has] for row in shown]
        more = ", ..." if len(self.labels) > SHOWN else ""
        listed = f"[{', '.join(map(repr, shown))}{more}]"
        return f"{counted(len(self.labels), 'prediction')} of {phrase(self.classes, SHOWN)}: {listed}"

    @property
    def probabilities(self) -> np.ndarray:
        """The probabilities [N, C]. Raises UserError for a loss without probabilities, such as hinge."""
        if not self.probabilistic:
            raise UserError(f"a network trained with loss={self.loss} gives no probabilities; use scores")
        return self.scores


class Model:
    """A trained network with everything needed to turn raw inputs into predictions, from `slipstream.load`.

    Attributes:
        module: the network in evaluation mode, which maps the result of `inputs` to logits, or to scaled
            values for regression.
        target: the task, the target columns and the classes.
        networks: the network's tensors by name; for a snapshot ensemble, those of every member. `module` has
            the last one.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=1")
        >>> model = slipstream.load(slipstream.train(config, "runs/iris").directory)
        >>> model.target.classes
        ('setosa', 'versicolor', 'virginica')
        >>> model.predict([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]).probabilities.shape
        (2, 3)
    """

    def __init__(
        self,
        config: Config,
        program: ModelSpec,
        preprocessing: Preprocessing,
        data: Mapping[str, Plain],
        networks: Sequence[Mapping[str, Tensor]] = (),
    ) -> None:
        self.program, self.preprocessing, self.target = program, preprocessing, program.target
        self.numbers, self.data = program.numbers(config), data
        self.module: nn.Module = program.infer.module
        self.networks = networks or [tensors_of(self.module)]

    def __repr__(self) -> str:
        what = "classes" if self.target.classes else "numbers"
        told = f"{what} {phrase(self.target.classes or self.target.names, SHOWN)}"
        return f"<slipstream model of {self.preprocessing} -> {told}>"

    def predict(self, x: DataLike) -> Classification | np.ndarray:
        """Predict N raw examples. Warn about values that the training data lack.

        Args:
            x: an array [N, ...] with the columns in the order of training, a data frame, or a mapping of
                names to values (or to scalars for one row). Other columns, including the target, are ignored.
                For sequences, a table with a row for each step; predictions are in the order of the
                sequences' first rows, as in frame["id"].unique(maintain_order=True). For texts, a list of
                strings. For images, a list of paths or Pillow images, or an array [N, C, H, W].

        Returns:
            A `Classification` for classes. For regression, values in original units, float64 [N], or [N, D]
            for several targets.

        Raises:
            DataError: the inputs do not match those of training.
        """
        return self.prediction(self.scores(self.inputs(x)))

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return the network's outputs for examples.

        Args:
            inputs: the result of `inputs`, [N, ...].

        Returns:
            Logits or scaled values [N, C], or [N, E, C] for an ensemble.
        """
        with torch.no_grad():
            return torch.cat([self._outputs(part) for part in inputs.split(chunk_of(self.program.form))])

    def scores(self, inputs: Tensor) -> np.ndarray:
        """Return the scores of examples.

        Args:
            inputs: the result of `inputs`, [N, ...].

        Returns:
            Class scores float32 [N, C], or values in original units float64 [N, D].
        """
        result: np.ndarray = self.program.scores(self.outputs(inputs), self.numbers).numpy()
        return result

    def prediction(self, scores: np.ndarray) -> Classification | np.ndarray:
        """Convert scores to predictions.

        Args:
            scores: the result of `scores`, [N, C] or [N, D].

        Returns:
            A `Classification` for classes; for regression, values [N], or [N, D] for several targets.
        """
        if self.target.task == "regression":
            return scores[:, 0] if scores.shape[1] == 1 else scores
        if self.target.task == "multilabel":
            labels, names = scores > 0.5, self.target.classes
        else:
            classes = labels_of(self.target.classes, self.target.label_kind)
            labels, names = classes[scores.argmax(axis=1)], tuple(classes.tolist())
        return Classification(names, scores, labels, self.program.loss.name, self.probabilistic)

    @property
    def probabilistic(self) -> bool:
        """True if class scores are probabilities."""
        return self.program.loss.part.traits.probabilistic

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Return [N, C], or [N, E, C] for an ensemble."""
        buffers, names = self.program.infer.buffers, self.program.layout.names
        outputs = [
            self.program.infer([named[n] for n in names], {n: named[n] for n in buffers}, inputs)[0]
            for named in self.networks
        ]
        return outputs[0] if len(outputs) == 1 else side_by_side(outputs)

    def inputs(self, x: DataLike) -> Tensor:
        """Convert raw examples to network inputs: scaled, encoded and imputed.

        Args:
            x: as in `predict`.

        Returns:
            float32 [N, ...], token ids [N, T], or images of bytes [N, C, H, W], which the network scales.

        Raises:
            DataError: the examples do not match those of training.
        """
        x = examples_of(x, self.preprocessing.spec.kind)
        array, unseen = self.preprocessing.transform(x, self.data)
        for warning in unseen:
            warnings.warn(warning, stacklevel=3)
        return ready(torch.from_numpy(array), self.preprocessing.spec, self.program.form)


def _no_run(folder: Path) -> str:
    """Describe a folder that is not a run, and suggest a run below it if there is one."""
    if not folder.is_dir():
        return "no such folder, expected the folder of a run"
    for depth in ("*", "*/*", "*/*/*"):
        if found := sorted(file.parent for file in folder.glob(f"{depth}/config.yaml")):
            many = f"it contains {counted(len(found), 'run')}"
            return f"not a run; {many}: choose one, such as {found[-1]}"
    return "not a run, expected a folder with config.yaml and checkpoints"


def load(directory: str | Path) -> Model:
    """Load the trained network of a run on the CPU, with the weights of its best epoch.

    With early_stopping.restore_best=false, these are the last weights. Nothing in the folder is executed or
    unpickled.

    Args:
        directory: the folder of a run, or of a member of a sweep. The data are not needed.

    Returns:
        A `Model`, whose `predict` takes raw examples.

    Raises:
        UserError: the folder is not a run, has no valid checkpoint, or the run finished no epoch.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=1")
        >>> result = slipstream.train(config, "runs/iris")
        >>> slipstream.load("runs/iris").predict([[5.1, 3.5, 1.4, 0.2]]).scores.shape
        (1, 3)
    """
    folder = Path(directory)
    try:
        raw, fitted = saved_config(folder), json.loads(_read(folder / "preprocessing.json"))
        described = _described(raw, fitted)
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: config.yaml or preprocessing.json is damaged ({error})") from error
    path, damaged = checkpoints.latest(folder / "checkpoints")
    for reason in damaged:
        warnings.warn(f"{reason}; using an earlier checkpoint", stacklevel=2)
    if path is None:
        raise UserError(
            f"{folder}: the run has no checkpoint yet; wait, or continue it with {typed('resume', folder)}"
        )
    tensors, state = checkpoints.load(path)
    if not state["best_epoch"]:
        raise UserError(f"{folder}: no epoch ended with finite weights, so the run has no network")
    try:
        return _model(raw, *described, tensors)
    except (RuntimeError, KeyError) as error:
        raise checkpoints.CheckpointError(
            f"{path}: does not match the network of config.yaml: {error}"
        ) from error


def model_of(
    raw: Mapping[str, Plain],
    fitted: str,
    tensors: Mapping[str, dict[str, Tensor]],
    config: Config | None = None,
    specs: dict[str, ModelSpec] | None = None,
) -> Model:
    """Return the network of a run that has no folder.

    raw: its configuration. fitted: the content of preprocessing.json. tensors: those of its last checkpoint.
    config: the validated one, if there is one. specs: what was built for other runs, by structure; a model
    that takes one of them shares its `module`, and has only `networks` of its own.
    """
    copies = {
        file: {k: v.detach().cpu().clone() for k, v in named.items()} for file, named in tensors.items()
    }
    return _model(raw, *_described(raw, json.loads(fitted), config), copies, specs)


def _described(
    raw: Mapping[str, Plain], fitted: Mapping[str, Plain], config: Config | None = None
) -> tuple[Config, Target, Preprocessing]:
    """Return the configuration, the target and the preprocessing from a run folder's content."""
    told: dict[str, Plain] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fitted["target"].items()
    }
    target = Target(**told)
    config = config or validate({**raw, "data": _no_data(raw["data"], target)})
    return for_target(config, target), target, from_json(fitted["inputs"])


def _model(
    raw: Mapping[str, Plain],
    config: Config,
    target: Target,
    preprocessing: Preprocessing,
    tensors: Mapping[str, dict[str, Tensor]],
    specs: dict[str, ModelSpec] | None = None,
) -> Model:
    form = preprocessing.spec
    if not any(name in tensors["weights"] for name in OFFSETS):  # images were scaled before training
        form = replace(form, scaling=None)
    key = f"{signature(config)} {target!r} {form!r}"
    shared = None if specs is None else specs.get(key)
    program = shared or ModelSpec(config, target, form)
    networks = _networks(program, _weights(config, program, tensors))
    if shared is None:
        put_tensors(program.infer.module, networks[-1])
        networks = networks if len(networks) > 1 else []
        if specs is not None:
            specs[key] = program
    return Model(config, program, preprocessing, raw["data"], networks)


def saved_config(folder: Path) -> dict[str, Plain]:
    """Return the configuration in a run's folder, with defaults for settings newer than the run.

    Loggers that are not registered are removed, since only training needs them. Raises UserError if the
    folder is not a run, or if another component is not registered.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: {_no_run(folder)}")
    raw = completed(yaml.safe_load(_read(folder / "config.yaml")))
    if isinstance(loggers := raw.get("logger"), dict):
        raw["logger"] = {name: value for name, value in loggers.items() if name in options("logger")}
    for group in CHOICES:
        name = raw[group]["name"]
        if name not in options(group):
            raise UserError(
                f"{folder}: was trained with {group}={name}, which is not registered here. Import the module "
                "that registers it; on the command line, use the program that imports it, such as "
                "python train.py, instead of slipstream"
            )
    return raw


def _weights(
    config: Config, program: ModelSpec, tensors: Mapping[str, dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return parameters and buffers by name: the best epoch's, or those used to evaluate the last epoch."""
    if config.early_stopping.settings["restore_best"]:
        return tensors["best"]
    named, optimizer = tensors["weights"], tensors["optimizer"]
    params = torch.cat([named[name].flatten() for name in program.layout.names])
    rule, kept = (
        {k.removeprefix(kind): v for k, v in optimizer.items() if k.startswith(kind)}
        for kind in ("rule.", "kept.")
    )
    evaluated, buffers = program.evaluated(State(params, named, rule, kept), program.numbers(config))
    return buffers | program.layout.unflatten(evaluated)


def _networks(program: ModelSpec, named: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the tensors of each network: a single one, or each member of an ensemble."""
    shapes = dict(zip(program.layout.names, program.layout.shapes, strict=True)) | program.running
    first = program.layout.names[0]
    if named[first].dim() == len(shapes[first]):
        return [named]
    return [named | {name: named[name][e] for name in shapes} for e in range(len(named[first]))]


def _no_data(saved: Mapping[str, Plain], target: Target) -> dict[str, Plain]:
    """Return substitutes for those data settings that rules read, since the run's files may be missing."""
    plain = defaults("data", "arrays")
    kept = {name: saved[name] for name in ("batch_size", "validation", "target_scaling")}
    return plain | kept | {"name": "arrays", "path": ".", "task": target.task}


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: is too large for a file that slipstream writes")
        return path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
