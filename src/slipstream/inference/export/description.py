"""The description of an exported folder: vocabulary.json for its loader, and a model card for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from slipstream.core.types import Plain
from slipstream.core.version import __version__
from slipstream.core.wording import axes, counted
from slipstream.data.array_preprocessing import ArrayPreprocessing
from slipstream.data.identity import labels, missing_words
from slipstream.data.image.image_files import bits_of
from slipstream.data.image.image_preprocessing import ImagePreprocessing
from slipstream.data.messages import phrase
from slipstream.data.sequence.long_table import SequencePreprocessing
from slipstream.data.text.vocabulary import TextPreprocessing
from slipstream.inference.ensemble import Ensemble, RunOrigin
from slipstream.inference.export.portable import Words, common_words
from slipstream.runs.prediction import Model

if TYPE_CHECKING:
    from slipstream.inference.export.self_check import Checked


@dataclass(frozen=True)
class GraphInput:
    """An input [N, *shape] of the graph. least: its lowest allowed value."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    least: int = 0


@dataclass(frozen=True)
class Described:
    """The graph's inputs, their vocabularies, and the content of vocabulary.json."""

    inputs: tuple[GraphInput, ...]
    words: Words
    json: dict[str, Plain]


def described(ensemble: Ensemble, file: str) -> Described:
    """Describe the networks of a run for the loader. file: the name of the graph's file."""
    model, target = ensemble.first, ensemble.target
    words = common_words(ensemble.models)
    saved, settings = model.preprocessing.to_json(), model.data
    kind, inputs = _inputs(model)
    columns = [dict(column) for column in saved["columns"]]
    known = iter(words)
    for column in columns:
        column.setdefault("format", "")
        if column["kind"] == "category":
            column["words"] = list(next(known))
    classes: list[Plain] = []
    if target.classes:
        named = (
            list(target.classes) if target.task == "multilabel" else labels(target.classes, target.label_kind)
        )
        classes = [
            one if isinstance(one, str | int | float | bool) else str(one)
            for one in np.asarray(named).tolist()
        ]
    about = {
        "slipstream": __version__,
        "model": file,
        "kind": kind,
        "task": target.task,
        "names": list(target.names),
        "classes": classes,
        "probabilistic": all(one.probabilistic for one in ensemble.models),
        "networks": sum(len(one.networks) for one in ensemble.models),
        "inputs": [
            {"name": one.name, "type": str(one.dtype).removeprefix("torch."), "shape": ["N", *one.shape]}
            for one in inputs
        ],
        "outputs": [{"name": "scores", "shape": ["N", len(target.classes or target.names)]}],
        "shape": list(model.preprocessing.spec.shape),
        "masked": model.preprocessing.spec.masked,
        "columns": columns,
        "columns_named": kind in ("table", "text", "sequence")
        or (kind == "array" and len(saved["shape"]) == 1),
        "missing": sorted(missing_words(settings.get("missing", ()))),
        "separator": settings.get("separator"),
        "header": settings.get("header", True),
        "tokenizer": saved["tokenizer"],
        "steps": saved["steps"],
        "pictures": {
            "fit": settings.get("fit", "crop"),
            "background": settings.get("background", "black"),
            "bits": bits_of(settings.get("bits", "auto")),
        },
        "vocabulary": list(words[0]) if kind == "text" else list(saved["vocabulary"]),
    }
    return Described(inputs, words, about)


def _inputs(model: Model) -> tuple[str, tuple[GraphInput, ...]]:
    """Return the kind of the examples and the graph's inputs."""
    preprocessing = model.preprocessing
    shape = preprocessing.spec.shape
    if isinstance(preprocessing, TextPreprocessing):
        return "text", (GraphInput("ids", torch.int64, shape),)
    if isinstance(preprocessing, ImagePreprocessing):
        whole = preprocessing.span == (0.0, 255.0)
        return "image", (GraphInput("images", torch.uint8 if whole else torch.float32, shape),)
    if isinstance(preprocessing, ArrayPreprocessing):
        if preprocessing.kind == "tokens":
            return "tokens", (GraphInput("ids", torch.int64, shape),)
        return "array", (GraphInput("inputs", torch.float64, shape),)
    categories = sum(column.kind == "category" for column in preprocessing.columns)
    numbers = len(preprocessing.columns) - categories
    steps = isinstance(preprocessing, SequencePreprocessing)
    lead = shape[:1] if steps else ()
    made = [GraphInput("numbers", torch.float64, (*lead, numbers))] if numbers else []
    made += [GraphInput("categories", torch.int64, (*lead, categories))] if categories else []
    made += [GraphInput("lengths", torch.int64, (), 1)] if steps else []
    return "sequence" if steps else "table", tuple(made)


def card(ensemble: Ensemble, about: Described, checked: Checked, to: str) -> str:
    """Return the model card in Markdown."""
    saved = about.json
    config = ensemble.origins[0].config
    names = {group: config[group]["name"] for group in ("data", "model", "loss", "optimizer")}
    runs = counted(len(ensemble.models), "run")
    what = f"Predicts {phrase(ensemble.target.names, 6)}: {ensemble.target.task}"
    what += f" with the classes {phrase([str(c) for c in saved['classes']], 12)}" if saved["classes"] else ""
    lines = [
        f"# {ensemble.path.name or 'A trained network'}",
        "",
        f"{what}. Trained by slipstream {__version__} with model={names['model']}, loss={names['loss']}, "
        f"optimizer={names['optimizer']} on data={names['data']}; {runs}, "
        f"{counted(saved['networks'], 'network')} with averaged scores.",
        "",
        "## Use",
        "",
        "```",
        f"pip install numpy {'onnxruntime' if to == 'onnx' else 'torch'}{_more(saved)}",
        f"python predict.py {_example(saved)} -o predicted.csv",
        "```",
        "",
        "```python",
        "from predict import Predictor",
        "found = Predictor().predict(examples)  # " + _taken(saved),
        'found["prediction"], found["scores"]',
        "```",
        "",
        "## Inputs and outputs of the graph",
        "",
        "| name | type | shape |",
        "| --- | --- | --- |",
        *(f"| {one['name']} | {one['type']} | {_axes(one['shape'])} |" for one in saved["inputs"]),
        f"| scores (output) | {'float64' if saved['task'] == 'regression' else 'float32'} | "
        f"{_axes(saved['outputs'][0]['shape'])} |",
        "",
        *_meaning(saved),
        "",
        "## Metrics",
        "",
        *_metrics(ensemble.origins),
        "",
        "## Check",
        "",
        f"{checked}.",
        "",
    ]
    return "\n".join(lines)


def _axes(shape: Sequence[Plain]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _example(about: dict[str, Plain]) -> str:
    if about["kind"] == "image":
        return "photos"
    return "new.csv" if about["columns_named"] else "new.npy"


def _more(about: dict[str, Plain]) -> str:
    """Return the packages that files need."""
    files = {"image": " pillow  # for files of images; arrays need none"}
    return files.get(about["kind"], "  # and pyarrow, for Parquet" if about["columns_named"] else "")


def _taken(about: dict[str, Plain]) -> str:
    shape = axes(tuple(about["shape"]))
    return {
        "table": "a mapping of columns, or a data frame",
        "sequence": "a mapping of columns, or a data frame, with a row for each step",
        "text": "a list of texts",
        "image": f"paths of images, or a numpy array [N, ...] of {shape}",
    }.get(about["kind"], f"a numpy array [N, ...] of {shape}")


def _meaning(about: dict[str, Plain]) -> list[str]:
    """Return sentences that describe the inputs and list the columns in order."""
    if about["kind"] in ("table", "sequence"):
        told = (
            "`numbers` contains NaN for a missing value, dates as days since 1970, times of day as hours, "
            "and booleans as 0 and 1. `categories` contains the index of the word in vocabulary.json, or the "
            "next index for missing, or the one after it for unknown. Scaling, imputation, missing flags and "
            "one-hot columns are part of the graph."
        )
        kinds = [f"{i}. {column['name']}: {column['kind']}" for i, column in enumerate(about["columns"], 1)]
        more = (
            [f"`lengths` contains the number of steps of each sequence, at most {about['shape'][0]}."]
            if about["steps"]
            else []
        )
        return [told, *more, "", *kinds]
    if about["kind"] == "text":
        return ["`ids` contains indices into vocabulary.json: 0 is padding at the end, 1 an unknown word."]
    if about["kind"] == "image":
        return ["Images have the size, channels and range of training. Scaling is part of the graph."]
    return ["Arrays have the shape of training. Scaling is part of the graph."]


def _metrics(runs: Sequence[RunOrigin]) -> list[str]:
    """Return a table of the best epoch's metrics from summary.json, averaged over the runs."""
    found = []
    for origin in runs:
        try:
            found.append(json.loads(origin.summary()))
        except (OSError, ValueError):
            continue
    best = [one.get("best", {}) for one in found]
    names = [name for name, value in (best[0] if best else {}).items() if isinstance(value, int | float)]
    if not names:
        return ["The run has no summary.json."]
    rows = []
    for name in names:
        values = [one[name] for one in best if isinstance(one.get(name), int | float)]
        rows.append(f"| {name} | {np.mean(values):.6g} |")
    return ["| metric of the best epoch | value |", "| --- | --- |", *rows]
