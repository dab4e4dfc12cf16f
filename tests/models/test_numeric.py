"""Embeddings of numbers: against their formulas in numpy, on awkward columns, in packs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from harness import engine_of, tiny, tiny_data, train
from sampling import exhaustive_after
from slipstream.core.errors import ConfigError
from slipstream.core.types import InputSpec
from slipstream.models.layer_factory import LayerFactory
from slipstream.models.numeric import (
    Columns,
    Periodic,
    PeriodicWithBias,
    PiecewiseLinear,
    PiecewiseLinearAndLine,
    numeric_places,
)

PIECES = {"bins": 4, "size": 3}
WAVES = {"frequencies": 4, "sigma": 0.5, "size": 3}


def parts(seed=0):
    return LayerFactory(InputSpec("vector", (3,), numeric=(0, 1, 2)), ("relu", {}), {}, seed)


def draw(rows=50, columns=3, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def encoded(x, edges):
    """The paper's encoding of one value, bin by bin."""
    e = []
    for t, (low, high) in enumerate(pairwise(edges)):
        share = (x - low) / (high - low)
        share = share if t == 0 else max(share, 0.0)
        e.append(share if t == len(edges) - 2 else min(share, 1.0))
    return e


def fitted(kind, x, bins=4, size=3):
    layer = kind(x.shape[1], bins, size, parts())
    with torch.no_grad():
        layer.fit(x)
    return layer


def test_the_encoding_is_the_papers_over_quantiles():
    """Bin by bin as arXiv 2203.05556 writes it, with numpy's quantiles, inside the range and far outside."""
    x = draw()
    layer = fitted(PiecewiseLinear, x)
    new = torch.cat([draw(20, seed=1), torch.tensor([[9.0, -9.0, 0.0]])])
    found = layer.encode(new)
    for c in range(3):
        edges = np.quantile(x[:, c].double().numpy(), np.linspace(0, 1, 5))
        expected = [encoded(float(value), edges) for value in new[:, c]]
        # x slope + offset, two products of size 10 in float32
        np.testing.assert_allclose(found[:, c].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_equal_quantiles_count_once_and_a_constant_column_is_zero():
    """A column of two values has one bin, one of one value none; the places left over are zero."""
    x = torch.stack([torch.arange(40) % 3 == 0, torch.full((40,), 5.0), torch.arange(40)], dim=1).float()
    layer = fitted(PiecewiseLinear, x)
    found = layer.encode(torch.tensor([[0.0, 5.0, 0.0], [1.0, 7.0, 39.0], [2.0, 3.0, 10.0]]))
    assert found[:, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2]]
    assert not found[:, 1].any()
    assert found[1, 2].tolist() == [1, 1, 1, 1]
    assert all(buffer.isfinite().all() for buffer in layer.buffers())


def test_piecewise_linear_is_relu_of_a_layer_a_column():
    """relu(W_c e_c + b_c), column by column; with a line, w x + b, which is all that it starts with."""
    x = draw()
    layer = fitted(PiecewiseLinear, x)
    e = layer.encode(x)
    for c in range(3):
        expected = torch.relu(e[:, c] @ layer.weight[c] + layer.bias[c])
        torch.testing.assert_close(layer(x)[:, c], expected)
    line = fitted(PiecewiseLinearAndLine, x)
    torch.testing.assert_close(line(x), x[..., None] * line.line + line.bias)
    with torch.no_grad():
        line.weight.add_(1)
    more = line.encode(x).sum(-1, keepdim=True)
    torch.testing.assert_close(line(x), x[..., None] * line.line + line.bias + more)


def test_periodic_embeddings_are_their_formulas():
    """relu(W [sin 2 pi c x, cos 2 pi c x] + b), and [x, W cos(2 pi c x + d) + b], in numpy."""
    x = draw()
    plr, pbld = Periodic(3, 4, 0.5, 6, parts()), PeriodicWithBias(3, 4, 0.5, 6, parts(), 0.1)
    for c in range(3):
        column = x[:, c : c + 1].double().numpy()
        w = {name: p[c].detach().double().numpy() for name, p in plr.named_parameters()}
        v = 2 * np.pi * w["frequency"] * column
        expected = np.concatenate([np.sin(v), np.cos(v)], axis=1) @ w["weight"] + w["bias"]
        # float32 sines of angles up to 20
        np.testing.assert_allclose(plr(x)[:, c].detach(), np.maximum(expected, 0), atol=1e-5)
        w = {name: p[c].detach().double().numpy() for name, p in pbld.named_parameters()}
        waves = np.cos(2 * np.pi * w["frequency"] * column + w["phase"])
        expected = np.concatenate([column, waves @ w["weight"] + w["bias"]], axis=1)
        np.testing.assert_allclose(pbld(x)[:, c].detach(), expected, atol=1e-5)


def test_first_frequencies_have_the_deviation_asked_for():
    """N(0, sigma^2) over 30,000 of them, and other ones for another seed."""
    made = Periodic(300, 100, 0.25, 1, parts()).frequency
    assert made.std().item() == pytest.approx(0.25, rel=0.02)  # 1 / sqrt(60,000) = 0.4 %
    assert abs(made.mean().item()) < 0.01
    assert not torch.equal(made, Periodic(300, 100, 0.25, 1, parts(seed=1)).frequency)


def test_only_numbers_are_embedded():
    """Columns of 0 and 1 come out as they went in, behind the numbers."""
    form = InputSpec("vector", (5,), numeric=(0, 2, 3))
    layer = Columns(form, PeriodicWithBias(3, 4, 0.1, 2, parts(), 1.0), 2)
    x = draw(7, 5)
    y = layer(x)
    assert y.shape == (7, 8) == (7, layer.wide)
    assert torch.equal(y[:, 0:6:2], x[:, [0, 2, 3]])
    assert torch.equal(y[:, 6:], x[:, [1, 4]])
    assert layer.sections == [2, 2, 2, 1, 1]


def test_the_mask_of_a_sequence_is_no_number():
    """Every value of an image or a sequence is a number, but for the channel of present steps."""
    assert numeric_places(InputSpec("image", (1, 2, 2))) == [0, 1, 2, 3]
    assert numeric_places(InputSpec("sequence", (2, 3), masked=True)) == [0, 1, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("embedding", [PIECES, WAVES], ids=["bins", "waves"])
@pytest.mark.parametrize("model", exhaustive_after(1, ["tabm", "mlp"]))
def test_an_embedding_trains_alike_alone_and_in_every_pack(model, embedding):
    """Members with an embedding have the same bytes in every pack, and equal themselves alone."""
    changes = {"model": model, "model.width": 5, "model.depth": 1, "model.embedding": embedding}
    three = [tiny(changes | {"optimizer.lr": 0.05 * (k + 1)}, seed=k) for k in range(3)]
    pack, fewer = train(three), train([three[2], three[0]])
    assert fewer.bytes(0) == pack.bytes(2)
    assert fewer.bytes(1) == pack.bytes(0)
    alone = train(three[1])
    for key, tensor in alone.tensors().items():  # numbers as doubles against float32, as in test_every_option
        torch.testing.assert_close(pack.tensors(1)[key], tensor, rtol=1e-4, atol=1e-6)
    assert not torch.equal(alone.progress.state.params, alone.engine.start().params)


@pytest.mark.slow
def test_the_edges_come_from_the_training_part():
    """The first edge is the least value in train, whatever the other parts hold."""
    data = tiny_data()
    data.test.inputs[:] = -100
    state = engine_of(tiny({"model.embedding": PIECES}), data).start()
    slope, offset = (state.buffers[f"inputs.embedding.embedding.{name}"] for name in ("slope", "offset"))
    # e_1 is 0 at the first edge; a quotient of float32
    torch.testing.assert_close(-offset[:, 0] / slope[:, 0], data.train.inputs.min(0).values)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ({"bins": 8}, "found bins; expected null, {bins: 48, size: 16}"),
        ({"bins": 8, "size": 3, "sigma": 0.1}, "found bins, size, sigma; expected null"),
        ({"bins": 2.5, "size": 3}, "model.embedding.bins: found 2.5, expected whole number >= 1"),
        ({"size": 0, "bins": 3}, "model.embedding: found .*, expected null, {bins"),
        ({"width": 3}, "model.embedding: found .*, expected null, {bins"),
    ],
)
def test_an_embedding_of_no_kind_is_refused(embedding, message):
    """What is missing, too much or no whole number is named, with both kinds to choose from."""
    with pytest.raises(ConfigError, match=message):
        tiny({"model.embedding": embedding})


def test_an_embedding_without_numbers_is_refused():
    """Where all columns are categories there is nothing to embed."""
    data = replace(tiny_data(), form=InputSpec("vector", (3,)))
    with pytest.raises(ConfigError, match=r"model.embedding: no input column is a plain number"):
        engine_of(tiny({"model.embedding": WAVES}), data)
