"""`export`: a folder that predicts without slipstream, checked against its run."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.export import Dim, ExportedProgram

from slipstream.core import folders
from slipstream.core.console import quiet
from slipstream.core.errors import UserError
from slipstream.core.storage import write_new, writing
from slipstream.core.wording import install
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.export import loader
from slipstream.inference.export.description import Described, card, described
from slipstream.inference.export.portable import Portable
from slipstream.inference.export.self_check import Checked, check
from slipstream.inference.export.standalone import standalone

Format = Literal["onnx", "torch"]
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
NEEDS = ("onnx", "onnxscript", "onnxruntime")
TRACED = 3  # examples to trace the graph with; torch would treat the sizes 0 and 1 as constants


@dataclass(frozen=True)
class Exported:
    """An exported folder, its files and the result of its check."""

    folder: Path
    files: tuple[Path, ...]
    checked: Checked


def export(ensemble: Ensemble, to: Format, folder: Path) -> Exported:
    """Write a run's networks to a new folder and compare its predictions with those of the run.

    Args:
        ensemble: the trained networks, from `open_run`.
        to: the format, "onnx" or "torch".
        folder: a folder that does not exist.

    Returns:
        The folder, its files and the largest difference from the run's own scores.

    Raises:
        UserError: the folder exists, a package is missing, the network cannot be exported, or the predictions
            differ by more than rounding.
    """
    if folder.exists():
        raise UserError(f"{folder}: already exists; choose another folder with -o DIR")
    if to == "onnx":
        _require_packages()
    about = described(ensemble, FILES[to])
    program = _traced(Portable(ensemble.models, about.words).eval(), about)
    with writing(folder):
        folders.mkdir(folder.parent)
    made = folders.temporary(folder)
    try:
        with writing(folder):
            folders.mkdir(made)
            _save(program, about, made / FILES[to], to)
            told = json.dumps(about.json, indent=1, ensure_ascii=False) + "\n"
            write_new(made / "vocabulary.json", told)
            write_new(made / "predict.py", standalone(loader))
            checked = check(ensemble, made)
            write_new(made / "README.md", card(ensemble, about, checked, to))
            folders.rename(made, folder)
    finally:
        if made.is_dir():  # an error was raised
            folders.remove_folder(made, [path.name for path in made.iterdir()])
    return Exported(folder, tuple(sorted(folder.iterdir())), checked)


def _require_packages() -> None:
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(
            f"export --to onnx: needs {', '.join(absent)}; install with: {install('export')}, "
            "or use --to torch"
        )


def _traced(network: Portable, about: Described) -> ExportedProgram:
    """Return the graph of a network for any number of examples."""
    examples = tuple(torch.zeros((TRACED, *one.shape), dtype=one.dtype) + one.least for one in about.inputs)
    batch = Dim("batch", min=1)
    try:
        with torch.no_grad(), quiet("torch.onnx"):
            # The inputs are one variadic argument.
            program = torch.export.export(
                network, examples, dynamic_shapes=(tuple({0: batch} for _ in examples),)
            )
            made: ExportedProgram = program.run_decompositions({})
            return made
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"export: torch cannot trace this network for any number of examples: {type(error).__name__}: "
            f"{reason[0] if reason else 'no reason given'}; use slipstream predict with the run instead"
        ) from error


def _save(program: ExportedProgram, about: Described, path: Path, to: Format) -> None:
    with quiet("torch.onnx"), torch.no_grad():
        if to == "torch":
            program.example_inputs = None
            torch.export.save(program, path)
            return
        try:
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[one.name for one in about.inputs],
                output_names=["scores"],
            )
        except Exception as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(
                f"export: ONNX does not support an operation of this network: {reason}; use --to torch"
            ) from error
        assert made is not None
        made.save(path)
