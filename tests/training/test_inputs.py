"""Where images are scaled: before training, or in the network; both give the same inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import tiny, tiny_data, train
from slipstream.core.types import Target
from slipstream.data import from_json
from slipstream.data.array_preprocessing import scale_channels
from slipstream.data.dataset import RawData
from slipstream.data.image.image_preprocessing import ImagePreprocessing
from slipstream.models.layers import Standardize
from slipstream.training.inputs import form_of, ready


def images(dtype: type, size: int = 20) -> np.ndarray:
    """Raw images of two channels, bytes or numbers from 0 to 16."""
    draw = np.random.default_rng(3)
    high = 256 if dtype is np.uint8 else 17
    return draw.integers(0, high, (size, 2, 4, 5)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("scaling", ["standard", "minmax", "global", "none"])
def test_scaling_in_the_network_equals_scaling_before(dtype, scaling):
    """What the layer makes of raw images is what the preprocessing makes of them, and what it stores."""
    x = images(dtype)
    raw = RawData(x, ("a", "b"), np.zeros(20, np.int64), Target("binary", ("y",), ("a", "b")))
    fitted, _ = ImagePreprocessing.fit(raw, np.arange(12), scaling)
    form = fitted.spec
    again = from_json(fitted.to_json())
    assert again == fitted
    expected = torch.from_numpy(scale_channels(fitted.columns, x))
    before = ready(torch.from_numpy(x), form, replace(form, scaling=None))
    assert torch.equal(before, expected)
    raw = ready(torch.from_numpy(x), form, form)
    assert raw.dtype == (torch.uint8 if dtype is np.uint8 else torch.float32)
    if dtype is not np.uint8:
        assert raw[:12].min() == 0
        assert raw[:12].max() == 1
    inside = Standardize(form)(raw)
    # The same affine map in float32, of values up to 255.
    torch.testing.assert_close(inside, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_bytes_stay_bytes_and_numbers_are_scaled_before():
    """On the device an image of bytes takes a quarter of the memory; other images are scaled once."""
    data = tiny_data(form="image")
    assert form_of(tiny(), data).scaling is None
    whole = replace(data, train=replace(data.train, inputs=(data.train.inputs * 255).to(torch.uint8)))
    assert form_of(tiny(), whole).scaling is not None
    trained = train(tiny(), data)
    assert "inputs.standardize.offset" not in trained.tensors()
