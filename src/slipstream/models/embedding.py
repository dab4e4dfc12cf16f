"""The setting `embedding`, which embeds the numeric inputs of a model.

    {bins: 48, size: 16}                      piecewise linear: `size` numbers from the position among `bins`
    {frequencies: 48, sigma: 0.01, size: 24}  periodic: from waves whose frequencies start as N(0, sigma^2)

Source: Gorishniy, Rubachev, Babenko, "On embeddings for numerical features in tabular deep learning",
arXiv 2203.05556. The layers are in `numeric.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from slipstream.core.types import Count, Plain, Positive

FORMS = (
    "null, {bins: 48, size: 16} (piecewise-linear) or {frequencies: 48, sigma: 0.01, size: 24} (periodic), "
    "all above 0"
)
Embedding = Annotated[dict[Literal["size", "bins", "frequencies", "sigma"], Count | Positive] | None, FORMS]

KINDS = ({"size", "bins"}, {"size", "frequencies", "sigma"})


def embedding_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Return messages for an embedding that is neither of the two kinds."""
    found = settings["embedding"]
    if found is None:
        return []
    if set(found) not in KINDS:
        return [f"model.embedding: found {', '.join(found)}; expected {FORMS}"]
    return [
        f"model.embedding.{key}: found {value}, expected whole number >= 1"
        for key, value in found.items()
        if key != "sigma" and not isinstance(value, int)
    ]
