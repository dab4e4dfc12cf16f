"""Initial weights from a safetensors file: names and shapes must fit, parts can be left out by pattern."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from slipstream.core.errors import ConfigError, nearest
from slipstream.core.wording import spell
from slipstream.models.own_network import layers_with_statistics
from slipstream.models.parameter_patterns import matches, require_found

SHOWN = 4  # names that a message lists
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def digest(path: str) -> str:
    """Return the SHA-256 of a file of weights. Raises ConfigError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError([f"model.weights: {path}: {error.strerror or error}; expected a file"]) from error


@torch.no_grad()
def load_weights(network: nn.Module, path: str, skip: Sequence[str], *, own: bool) -> None:
    """Give a network the weights of a file, of 16 or 32 bits, by name.

    Weights are parameters and running statistics, and of a user's own network all that its state_dict has.
    What our layers keep besides (keys, rates) stays as configured. skip: patterns of names that the network
    keeps as they are and that the file may have. own: the network is a user's. Raises ConfigError that lists
    what is missing, unexpected or of another shape.
    """
    there = _read(path)
    places = _places(network, own=own)
    require_found("model.weights_skip", skip, [*places, *there])
    for name in [name for name in (*places, *there) if matches(skip, name)]:
        places.pop(name, None)
        there.pop(name, None)
    tied = _tied(network)
    found = {name: next((n for n in tied.get(name, [name]) if n in there), name) for name in places}
    others = {name for names in tied.values() for name in names} | dict(network.named_buffers()).keys()
    if problems := list(_problems(path, places, found, there, others)):
        raise ConfigError(problems)
    for name, place in places.items():
        value = there[found[name]]
        if value.is_floating_point() and not value.isfinite().all():
            raise ConfigError([f"model.weights: {path}: {found[name]} holds NaN or infinity"])
        place.copy_(value)


def _read(path: str) -> dict[str, Tensor]:
    if Path(path).suffix in PICKLED:
        raise ConfigError(
            [
                f"model.weights: {path}: pickled files can run code and are not read; convert it: "
                "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
            ]
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError([f"model.weights: {path}: no safetensors file can be read ({error})"]) from error


def _places(network: nn.Module, *, own: bool) -> dict[str, Tensor]:
    """Return the tensors that a file gives values, by name."""
    places = {name: p.detach() for name, p in network.named_parameters()}
    buffers = dict(network.named_buffers())
    for name, _, running in layers_with_statistics(network):
        places |= {key: buffers[key] for key in (f"{name}.{one}".lstrip(".") for one in running)}
    if own:
        saved = network.state_dict()
        places |= {
            name: b for name, b in buffers.items() if name in saved and not name.startswith("standardize_")
        }
    return places


def _tied(network: nn.Module) -> dict[str, list[str]]:
    """Return all names of each parameter, by its first one."""
    by_id: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        by_id.setdefault(id(parameter), []).append(name)
    return {names[0]: names for names in by_id.values()}


def _problems(
    path: str,
    places: Mapping[str, Tensor],
    found: Mapping[str, str],
    there: Mapping[str, Tensor],
    rest: Set[str],
) -> Iterator[str]:
    """Yield what does not fit, and at the end what to type. rest: names of the file that are not weights."""
    missing = [name for name, source in found.items() if source not in there]
    unexpected = [name for name in there if name not in places and name not in rest]
    wrong = [n for n in places if found[n] in there and there[found[n]].shape != places[n].shape]
    if missing:
        near = nearest(missing[0], unexpected)
        hint = f" (is {missing[0]} what the file calls {near}?)" if near else ""
        yield f"model.weights: {path} lacks {_listed(missing)}{hint}"
    if unexpected:
        yield f"model.weights: {path} has {_listed(unexpected)}, which this network does not have"
    if wrong:
        one, more = wrong[0], f", and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
        shapes = f"{list(there[found[one]].shape)}, in this network {list(places[one].shape)}"
        yield f"model.weights: {path}: the shape of {one} is {shapes}{more}"
    if missing or unexpected or wrong:
        patterns = spell(_patterns([*missing, *unexpected, *wrong]))
        yield f"model.weights_skip={patterns} leaves these out; the network keeps random values there"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _patterns(names: Sequence[str]) -> list[str]:
    """Return patterns of layers that fit these names, of larger ones if there are many."""
    layers = dict.fromkeys(name.rpartition(".")[0] + ".*" if "." in name else name for name in names)
    parts = dict.fromkeys(name.partition(".")[0] + ".*" if "." in name else name for name in names)
    return list(layers if len(layers) <= SHOWN else parts)
