"""Images that are given to a trained network."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image

import slipstream
from slipstream.core.errors import DataError

CONVNET = (
    "model=convnet",
    "model.channels=[4,4]",
    "trainer.max_epochs=2",
    "logger=none",
    "trainer.progress=none",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A convnet that was trained on red and blue pictures of two shapes, and their paths."""
    folder = tmp_path_factory.mktemp("pictures")
    draw, paths = np.random.default_rng(0), []
    for name, channel in (("red", 0), ("blue", 2)):
        (folder / "all" / name).mkdir(parents=True)
        for i in range(12):
            pixels = draw.integers(0, 90, (9 + i % 2, 12, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            paths.append(folder / "all" / name / f"{i:02}.png")
            Image.fromarray(pixels).save(paths[-1])
    where = ("data=images", f"data.path={folder / 'all'}", "data.cache=null", "data.background=white")
    size = ("data.batch_size=4", "data.size=[6,8]", "data.fit=pad")
    slipstream.train(slipstream.compose(*CONVNET, *where, *size), folder / "run")
    return slipstream.load(folder / "run"), paths


@pytest.mark.slow
def test_files_pictures_and_arrays_are_the_same_images(trained):
    """Paths and Pillow's pictures get the size, the margins and the channels of training."""
    model, paths = trained
    expected = model.predict([str(path) for path in paths]).scores
    pictures = [Image.open(path) for path in paths]
    assert np.array_equal(model.predict(pictures).scores, expected)
    assert np.array_equal(model.predict(paths).scores, expected)
    arrays = np.stack([model.predict(path).scores[0] for path in paths])
    assert np.allclose(arrays, expected, rtol=1e-5)  # one at a time: other kernels
    assert np.ptp(expected) > 0


def test_bytes_reach_the_network_as_in_training(trained):
    """They are scaled there; whole numbers from 0 to 255 are bytes, fractions are scaled to 1."""
    model, paths = trained
    pixels = model.inputs(paths)
    assert pixels.dtype == torch.uint8
    assert model.inputs(pixels.double()).equal(pixels)
    assert model.inputs(pixels.numpy().astype(np.int64)).equal(pixels)
    halves = model.inputs(pixels.numpy() + np.where(pixels.numpy() < 255, 0.5, 0.0))
    torch.testing.assert_close(halves, (pixels + 0.5 * (pixels < 255)) / 255)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 6, 8)), r"one image .*image\[None\]"),
        (np.zeros((2, 6, 8, 3)), r"put channels first with array.transpose"),
        (np.zeros((2, 3, 5, 8)), r"inputs of shape \(2, 3, 5, 8\), expected \[N, 3, 6, 8\]"),
        ([np.zeros((3, 6, 8)), np.zeros((3, 6, 9))], "images of different sizes"),
        ([], r"inputs of shape \(0,\)"),
        (["nowhere.png"], "nowhere.png"),
        (np.array(["a"]), "expected paths"),
        (pl.DataFrame({"file": ["a.png"]}), r"table\['file'\].to_list\(\)"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(trained, given, message):
    """With what was expected, and the way out."""
    with pytest.raises(DataError, match=message):
        trained[0].predict(given)


def test_pixels_from_0_to_1_are_warned_of(trained):
    """Where training had bytes, they are nearly black."""
    with pytest.warns(UserWarning, match="multiply them by 255"):
        trained[0].predict(np.full((2, 3, 6, 8), 0.5))


@pytest.mark.slow
def test_a_network_reads_as_many_bits_as_its_training(tmp_path):
    """Files and pictures of 12 bits are those of training; an old folder, which says nothing, means 16."""
    draw = np.random.default_rng(0)
    for name, most in (("dark", 2000), ("light", 4096)):
        (tmp_path / "f" / name).mkdir(parents=True)
        for i in range(12):
            values = draw.integers(0, most, (8, 8)).astype(np.uint16)
            Image.fromarray(values).save(tmp_path / "f" / name / f"{i}.png")
    where = ("data=images", f"data.path={tmp_path / 'f'}", "data.cache=null", "data.bits=12")
    slipstream.train(slipstream.compose(*CONVNET, *where, "data.batch_size=4"), tmp_path / "run")
    model, path = slipstream.load(tmp_path / "run"), tmp_path / "f" / "light" / "0.png"
    raw = np.asarray(Image.open(path)).astype(np.int64)
    expected = model.predict(np.round(raw * 255 / 4095)[None, None]).scores
    assert np.array_equal(model.predict(path).scores, expected)
    assert np.array_equal(model.predict(Image.open(path)).scores, expected)
    with pytest.raises(DataError, match=r"found pixels up to 4\d+, expected 0 to 255 as in files"):
        model.predict(raw[None, None])
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"].pop("bits") == 12
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    old = slipstream.load(tmp_path / "run")
    assert np.array_equal(old.predict(path).scores, model.predict((raw + 128)[None, None] // 257).scores)


@pytest.mark.slow
def test_grey_images_need_no_axis_for_their_channel(tmp_path):
    """[N, H, W], as MNIST's files have them."""
    slipstream.train(slipstream.compose(*CONVNET, "data=digits"), tmp_path / "run")
    model, images = slipstream.load(tmp_path / "run"), np.full((2, 1, 8, 8), 9.0)
    assert np.array_equal(model.predict(images[:, 0]).scores, model.predict(images).scores)
