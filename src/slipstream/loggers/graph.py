"""A network's graph for TensorBoard, its nodes under the names that its layers and weights have."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SCOPE = re.compile(r"[^\[\]]*\[(.*)\]")  # torch calls a layer Linear[linear]
# Beside layers that are called `inputs` and `output`.
ENDS = {"input": "example", "output": "prediction"}
CONSTANT, WEIGHT = "prim::Constant", "prim::GetAttr"


def trace(module: nn.Module, example: Tensor) -> bytes:
    """The graph of a network, traced with one example [1, ...].

    Not torch's `graph`: it traces twice to compare, for which 0.4 s of torch are imported.
    """
    import torch
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    from slipstream.core.compat import parse_graph

    with warnings.catch_warnings():  # it traces, which torch deprecates and gives no other way to
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)  # the same, from torch 2.15 on
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # it has one shape
        with torch.no_grad():
            traced = torch.jit.trace(module, example, check_trace=False)
    nodes = _named(parse_graph(traced.inlined_graph, traced, example))
    return bytes(GraphDef(node=nodes, versions=VersionDef(producer=22)).SerializeToString())


def _named(nodes: Iterable[Any]) -> list[Any]:
    """The nodes with readable names, on both ends of every edge.

    Without constants: the trace has each number once, in the first layer that uses it, and edges from there
    to all others would look like data that flow. Without edges from nodes that are not there.
    """
    nodes = [node for node in nodes if node.op != CONSTANT]
    paths = [_path(node) for node in nodes]
    taken = {"/".join(path[:depth]) for path in paths for depth in range(1, len(path))}  # are groups
    names: dict[str, str] = {}
    for node, path in zip(nodes, paths, strict=True):
        base = name = "/".join(path)
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names[node.name] = name
    for node in nodes:
        node.name = names[node.name]
        edges = [names[edge] for edge in node.input if edge in names]
        del node.input[:]
        node.input.extend(edges)
    return nodes


def _path(node: Any) -> list[str]:
    """`Sequential/Sequential[hidden]/Sequential[0]/Linear[linear]/x.1` as hidden, 0, linear and what it does.

    The whole network is no group of its own: its layers are seen at once.
    """
    root, *scopes, last = node.name.split("/")
    if node.op == "IO Node":
        return [ENDS.get(root, root)]
    groups = [match[1] if (match := SCOPE.fullmatch(scope)) else scope for scope in scopes]
    if node.op == WEIGHT and groups:  # it stands in a group that has its weight's name
        return groups
    return [*groups, node.op.rpartition("::")[2].strip("_") or last]
