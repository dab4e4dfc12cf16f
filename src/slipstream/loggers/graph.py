"""A network's graph for TensorBoard, with its nodes named after layers and weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SCOPE = re.compile(r"[^\[\]]*\[(.*)\]")  # torch calls a layer Linear[linear]
# These differ from the layers `inputs` and `output`.
ENDS = {"input": "example", "output": "prediction"}
CONSTANT, WEIGHT = "prim::Constant", "prim::GetAttr"


def trace(module: nn.Module, example: Tensor) -> bytes:
    """Trace a network with one example [1, ...] and return its graph.

    torch's own `graph` traces twice to compare, and imports modules for 0.4 s.
    """
    import torch
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    from slipstream.core.compat import parse_graph

    with warnings.catch_warnings():  # tracing is deprecated, but torch has no alternative
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)  # also deprecated, since torch 2.15
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # public
        with torch.no_grad():
            traced = torch.jit.trace(module, example, check_trace=False)
    nodes = _named(parse_graph(traced.inlined_graph, traced, example))
    return bytes(GraphDef(node=nodes, versions=VersionDef(producer=22)).SerializeToString())


# Any: nodes have a generated protobuf class without types.
def _named(nodes: Iterable[Any]) -> list[Any]:
    """Rename the nodes at both ends of every edge to readable names.

    This drops edges from missing nodes, and constants: the trace has each constant once, in the first layer
    that uses it, and its edges to other layers would look like data flow.
    """
    nodes = [node for node in nodes if node.op != CONSTANT]
    paths = [_path(node) for node in nodes]
    taken = {"/".join(path[:depth]) for path in paths for depth in range(1, len(path))}  # groups
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


def _path(node: Any) -> list[str]:  # as above
    """Split `Sequential/Sequential[hidden]/Sequential[0]/Linear[linear]/x.1` into names and the operation.

    The network itself is not a group, so its layers are visible at once.
    """
    root, *scopes, last = node.name.split("/")
    if node.op == "IO Node":
        return [ENDS.get(root, root)]
    groups = [match[1] if (match := SCOPE.fullmatch(scope)) else scope for scope in scopes]
    if node.op == WEIGHT and groups:  # already in a group named after its weight
        return groups
    return [*groups, node.op.rpartition("::")[2].strip("_") or last]
