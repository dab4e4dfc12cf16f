"""Checkpoints that survive a crash at any moment and are used only after verification.

A checkpoint is a folder `checkpoints/step-XXXXXXXX` with safetensors and JSON files and, written last,
`manifest.json` with the size and SHA-256 of each. It is created in a `tmp-` folder, synced and renamed. Older
ones are removed only after the new one has been read back and verified. The latest checkpoint is the one with
the highest step that verifies; there is no pointer to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from operator import index
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from slipstream.core import folders
from slipstream.core.storage import CheckpointError as CheckpointError
from slipstream.core.storage import go_on
from slipstream.core.types import Plain
from slipstream.core.wording import counted

FORMAT = 1
MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{8,})")
TENSOR_FILES = ("weights", "optimizer", "best")
FILES = {*(f"{name}.safetensors" for name in TENSOR_FILES), "state.json"}
# Prefixes of an interrupted save and of a checkpoint being removed. Earlier versions used the shorter names.
LEFT_OVER = re.compile(r"tmp-(?:step-\d{8,}(?:-[0-9a-f]{4,32})?|[0-9a-f]{8})")


def save(
    directory: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Plain],
    keep: int,
) -> Path:
    """Write a checkpoint, verify it, and remove all but the `keep` newest valid ones.

    tensors: file name (weights, optimizer, best) -> named tensors. Raises CheckpointError with the path and
    the system's reason if the disk is full or read-only. Older checkpoints are not affected.
    """
    with folders.held(_made(directory.parent)):
        return _save(directory / f"step-{step:08d}", step, tensors, state, keep)


def _made(folder: Path) -> Path:
    try:
        folders.mkdir(folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be created ({error.strerror or error}). Fix the problem, then {go_on(folder)}"
        ) from error
    return folder


def _save(
    target: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Plain],
    keep: int,
) -> Path:
    if not _is_complete(target):  # otherwise this step was already saved: a repeated step has the same bytes
        files = {f"{name}.safetensors": save_tensors(_contiguous(named)) for name, named in tensors.items()}
        files["state.json"] = _json(dict(state) | {"format": FORMAT, "step": step})
        try:
            _create(target, files)
        except OSError as error:
            need = sum(len(content) for content in files.values())
            raise CheckpointError(
                f"{target}: the checkpoint ({need:,} bytes) could not be written: {error.strerror or error}. "
                f"Earlier checkpoints are not affected. Fix the problem, then {go_on(target)}"
            ) from error
    try:
        prune(target.parent, keep, target)
    except OSError as error:
        why = error.strerror or error
        raise CheckpointError(
            f"{target} is saved, but an older checkpoint cannot be removed ({why}). Fix the problem, "
            f"then {go_on(target)}"
        ) from error
    return target


def _create(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the files and their manifest next to `target`, rename the folder to it and verify it."""
    directory = target.parent
    temporary = _aside(target)
    manifest = {name: {"bytes": len(b), "sha256": _digest(b)} for name, b in files.items()}
    try:
        folders.mkdir(directory)
        folders.sync(directory.parent)
        folders.make(temporary)
        for name, content in files.items():
            _write(temporary / name, content)
        _write(temporary / MANIFEST, _json({"format": FORMAT, "files": manifest}))
        folders.sync(temporary)
        if target.exists():  # a damaged one is moved aside to make room for the new one
            folders.rename(target, _aside(target))
        folders.rename(temporary, target)
        folders.sync(directory)
        verify(target)
    except OSError:
        _remove(temporary)
        raise


def _aside(target: Path) -> Path:
    return target.with_name(f"tmp-{target.name}-{secrets.token_hex(16)}")


def _remove(path: Path) -> None:
    """Remove only the files of a checkpoint, as far as possible."""
    with suppress(OSError):
        folders.remove_folder(path, (*FILES, MANIFEST))


def prune(directory: Path, keep: int, verified: Path | None = None) -> None:
    """Remove all but the `keep` newest valid checkpoints, and the remains of interrupted saves.

    verified: one that has just been read back.
    """
    clean(directory)
    good = [path for path in steps(directory) if path == verified or _is_complete(path)]
    for path in steps(directory):
        if path not in good[:keep]:
            # Rename first, so that a partially removed folder does not look like a checkpoint.
            folders.rename(path, _aside(path))
    clean(directory)


def clean(directory: Path) -> None:
    """Remove the remains of an interrupted save or removal."""
    if not directory.is_dir():
        return
    with folders.held(directory.parent):
        for path in directory.glob("tmp-*"):
            if LEFT_OVER.fullmatch(path.name):
                _remove(path)


def latest(directory: Path) -> tuple[Path | None, list[str]]:
    """Return the newest valid checkpoint, and the reason for rejecting each newer one.

    Return None if no checkpoint was ever saved. Raises CheckpointError if all of them are damaged, since
    starting over would discard the training so far.
    """
    damaged: list[str] = []
    for path in steps(directory):
        try:
            verify(path)
        except CheckpointError as error:
            damaged.append(str(error))
        else:
            return path, damaged
    if damaged:
        raise CheckpointError("\n".join([f"{directory}: no checkpoint is valid; start a new run", *damaged]))
    return None, []


def verify(path: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint after checking their sizes and SHA-256 against the manifest.

    Nothing is parsed before it is checked. Raises CheckpointError that names the file.
    """
    if path.is_symlink():
        raise CheckpointError(f"{path}: is a symbolic link, expected a folder of the run")
    try:
        manifest = json.loads(_read(path / MANIFEST))
        declared = manifest["files"]
        found_format = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: is damaged, expected a manifest") from error
    if found_format != FORMAT:
        age = "newer" if isinstance(found_format, int) and found_format > FORMAT else "unknown"
        raise CheckpointError(
            f"{path}: format {found_format!r} is {age}, this version reads {FORMAT}; upgrade slipstream"
        )
    # File names are fixed, so names from a manifest cannot lead outside the checkpoint's folder.
    if not isinstance(declared, dict) or set(declared) != FILES:
        raise CheckpointError(f"{path / MANIFEST}: is damaged, expected the files {', '.join(sorted(FILES))}")
    return {name: _verified(path, name, entry) for name, entry in declared.items()}


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Plain]]:
    """Return the tensors by file and the state of a checkpoint. Raises CheckpointError."""
    files = verify(path)
    try:
        tensors = {name: load_tensors(files[f"{name}.safetensors"]) for name in TENSOR_FILES}
        return tensors, json.loads(files["state.json"])
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def _is_complete(path: Path) -> bool:
    try:
        return bool(verify(path))
    except CheckpointError:
        return False


def _verified(path: Path, name: str, entry: Plain) -> bytes:
    content = _read(path / name)
    try:
        size, digest = index(entry["bytes"]), entry["sha256"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path / MANIFEST}: is damaged, expected size and SHA-256 of {name}"
        ) from error
    if len(content) != size:
        raise CheckpointError(
            f"{path / name}: is damaged: found {counted(len(content), 'byte')}, expected {size:,} "
            f"as in the manifest"
        )
    if _digest(content) != digest:
        raise CheckpointError(f"{path / name}: is damaged: its SHA-256 differs from the manifest")
    return content


def _read(file: Path) -> bytes:
    try:
        if file.is_symlink():
            raise CheckpointError(f"{file}: is a symbolic link, expected a file of the checkpoint")
        return file.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: is missing") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error})") from error


def steps(directory: Path) -> list[Path]:
    """Return the checkpoint folders in descending order of steps."""
    found = [(int(match[1]), p) for p in directory.glob("step-*") if (match := NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def _contiguous(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Views of one flat vector share its storage, but safetensors needs tensors with separate storage.
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named.items()}


def _json(value: Mapping[str, Plain]) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with folders.opened(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
