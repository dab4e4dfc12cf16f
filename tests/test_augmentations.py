"""Augmentations: each against its formula by another library, and what all of them promise."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage, stats

from harness import tiny
from sampling import exhaustive_after
from slipstream.augmentations import augment, geometry, mixing, pixels, policies
from slipstream.augmentations.picture import FONT, GAP, strip
from slipstream.config import for_target
from slipstream.config.files import defaults
from slipstream.core import random
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component, components
from slipstream.core.types import InputSpec
from slipstream.data import load
from slipstream.runs import augmentation_preview
from slipstream.training.engine import Engine

IMAGE = [name for name, part in components("augmentation").items() if "image" in part.traits.takes]
FILLS = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}  # torch's, scipy's

# Settings that leave an image as it is.
NEUTRAL = {
    "horizontal_flip": {"probability": 0.0},
    "vertical_flip": {"probability": 0.0},
    "crop": {"smallest": 1.0, "ratio": 1.0},
    "translation": {"fraction": 0.0},
    "rotation": {"degrees": 0.0},
    "stretching": {"factor": 1.0},
    "shearing": {"degrees": 0.0},
    "perspective": {"strength": 0.0},
    "lens_distortion": {"strength": 0.0},
    "elastic": {"strength": 0.0},
    "color_jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
    "blur": {"sigma": 0.0},
    "pixel_noise": {"std": 0.0},
    "erasing": {"probability": 0.0},
    "cutout": {"fraction": 0.0},
    "mixup": {"probability": 0.0},
    "cutmix": {"probability": 0.0},
}


def images(n=6, channels=3, height=9, width=12, seed=0):
    return torch.rand((n, channels, height, width), generator=torch.Generator().manual_seed(seed))


def key(seed=1, time=3):
    return random.make_key(seed, random.BATCH, 0, time)


def changed(x, *names, key=None, y=None, form=None, classes=4, numbers=None, **settings):
    """x and y after the named augmentations, with their YAML's settings but for those given."""
    chosen, used = [], {}
    for name in names:
        own = defaults("augmentation", name)
        own |= {setting: value for setting, value in settings.items() if setting in own}
        part = component("augmentation", name)
        used[name], structure = part.split(own)
        chosen.append(SimpleNamespace(name=name, part=part, function=partial(part.function, **structure)))
    y = torch.arange(len(x)) % classes if y is None else y
    key = random.make_key(1, random.BATCH, 0, 3) if key is None else key
    form = form or InputSpec("image", tuple(x.shape[1:]))
    return augment(x, y, chosen, key, numbers or used, classes, form)


def draws(rows, n=6, seed=2):
    return torch.rand((rows, n), generator=torch.Generator().manual_seed(seed))


def sampled(x, place, fill):
    """Images [N, C, H, W] sampled by scipy at place(x, y, n) -> x, y, in pixels from the centre."""
    height, width = x.shape[-2:]
    middle = ((height - 1) / 2, (width - 1) / 2)
    py, px = (axis - m for axis, m in zip(np.mgrid[:height, :width].astype(float), middle, strict=True))
    out = np.empty(x.shape)
    for n in range(len(x)):
        sx, sy = place(px, py, n)
        for c in range(x.shape[1]):
            at = [sy + middle[0], sx + middle[1]]
            out[n, c] = ndimage.map_coordinates(x[n, c].double().numpy(), at, order=1, mode=FILLS[fill])
    return torch.from_numpy(out).float()


def rule_of(name, u, size):
    """The documented formula of a geometric augmentation at its YAML's settings: place(x, y, n)."""
    s, (height, width) = defaults("augmentation", name), size
    a = 2 * u.double().numpy() - 1

    def perspective(x, y, n):
        at = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        to = at + s["strength"] * np.stack([a[:4, n], a[4:, n]], axis=1)
        rows, right = [], []
        for (px, py), (qx, qy) in zip(at * [width, height], to * [width, height], strict=True):
            rows += [[px, py, 1, 0, 0, 0, -px * qx, -py * qx], [0, 0, 0, px, py, 1, -px * qy, -py * qy]]
            right += [qx, qy]
        m = np.append(np.linalg.solve(rows, right), 1).reshape(3, 3)
        depth = m[2, 0] * x + m[2, 1] * y + 1
        return (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth

    def rotation(x, y, n):
        angle = np.deg2rad(s["degrees"] * a[0, n])
        return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y

    def crop(x, y, n):
        area, stretch = 1 - (1 - s["smallest"]) * u[0, n].item(), s["ratio"] ** a[1, n]
        across, down = min((area * stretch) ** 0.5, 1), min((area / stretch) ** 0.5, 1)
        left, top = (1 - across) * (width - 1) * a[2, n] / 2, (1 - down) * (height - 1) * a[3, n] / 2
        return across * x + left, down * y + top

    def lens(x, y, n):
        bent = 1 + s["strength"] * a[0, n] * (x * x + y * y) / ((width / 2) ** 2 + (height / 2) ** 2)
        return x * bent, y * bent

    return {
        "perspective": perspective,
        "rotation": rotation,
        "crop": crop,
        "lens_distortion": lens,
        "translation": lambda x, y, n: (
            x + width * s["fraction"] * a[0, n],
            y + height * s["fraction"] * a[1, n],
        ),
        "stretching": lambda x, y, n: (x * s["factor"] ** a[0, n], y * s["factor"] ** a[1, n]),
        "shearing": lambda x, y, n: (
            x + np.tan(np.deg2rad(s["degrees"] * a[0, n])) * y,
            y + np.tan(np.deg2rad(s["degrees"] * a[1, n])) * x,
        ),
    }[name]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    "name", ["perspective", "rotation", "crop", "lens_distortion", "translation", "stretching", "shearing"]
)
def test_geometry_samples_where_its_formula_says(name, fill):
    """Every geometric augmentation equals scipy's bilinear sampling at its documented coordinates."""
    x, place = images(), list(components("augmentation")).index(name)
    rows = component("augmentation", name).traits.draws
    u = random.uniform_rows(key(), [16 * place + row for row in range(rows)], len(x))
    ours, _ = changed(x, name, fill=fill)
    # float32 coordinates of about 10 pixels, and neighbouring pixels that differ by up to 1
    torch.testing.assert_close(ours, sampled(x, rule_of(name, u, (9, 12)), fill), rtol=0, atol=2e-5)


def test_elastic_displacements_are_splines_of_normal_coefficients():
    """The displacement is scipy's cubic B-spline of the coefficients, and as large as promised."""
    height, width, cells = 24, 16, 4
    weights = geometry.splines(height, cells, torch.zeros(()))
    torch.testing.assert_close(weights.sum(1), torch.ones(height))
    at = (np.arange(height) + 0.5) * cells / height
    coefficients = np.random.default_rng(0).standard_normal(cells + 3)
    # Coefficient i stands at i - 1; scipy takes them as they are with prefilter=False.
    by_scipy = ndimage.map_coordinates(coefficients, [at + 1], order=3, prefilter=False)
    np.testing.assert_allclose(weights.double().numpy() @ coefficients, by_scipy, atol=1e-5)
    zero = torch.zeros(500, height, width)
    dx, dy = geometry.elastic(
        zero, zero, draws(0, 500), key(), (height, width), strength=0.1, cells=cells, fill="zeros"
    )
    # A spline of independent coefficients has about half of their variance in two dimensions.
    assert 0.03 < (dx / width).std() < 0.07
    torch.testing.assert_close(dx.std() / width, dy.std() / height, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", NEUTRAL)
def test_without_strength_an_image_stays(name):
    """At strength zero every augmentation of images gives back the images and the targets."""
    x = images()
    out, y = changed(x, name, **NEUTRAL[name])
    torch.testing.assert_close(out, x, rtol=0, atol=1e-5)
    assert torch.equal(y.argmax(1) if y.dim() == 2 else y, torch.arange(6) % 4)


def test_all_have_a_strength_but_policies():
    """The table of settings without effect has every augmentation of images; of a policy's operations
    auto contrast alone acts at strength zero."""
    assert set(IMAGE) - set(NEUTRAL) == {"trivial_augment", "rand_augment"}
    which, zero = torch.arange(len(policies.OPERATIONS) - 1.0), torch.zeros(len(policies.OPERATIONS) - 1)
    x = images(len(which))
    torch.testing.assert_close(policies.recolored(x, which, zero), x, rtol=0, atol=1e-6)
    eye = torch.eye(3).expand(len(which), 3, 3)
    torch.testing.assert_close(policies.matrix_for(which, zero, (9, 12)), eye)


@pytest.mark.parametrize("name", IMAGE)
def test_every_image_is_changed_in_its_own_way_and_repeatably(name):
    """Equal images come out different, the same key gives the same bytes, another update others, and
    pixels stay in the range 0 to 1 where they began at its ends."""
    x = images(1).round().expand(64, -1, -1, -1) * torch.linspace(0.5, 1, 64).round()[:, None, None, None]
    out, again, later = (changed(x, name, key=key(time=t))[0] for t in (3, 3, 4))
    assert torch.equal(out, again)
    assert not torch.equal(out, later)
    # Mixing exchanges equal images; flips have two outcomes.
    distinct = len({image.numpy().tobytes() for image in out})
    assert distinct >= (2 if "flip" in name or name in ("mixup", "cutmix") else 12)
    assert out.min() >= -1e-5
    assert out.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", IMAGE)
@pytest.mark.parametrize("channels", [1, 3])
def test_members_of_a_pack_are_augmented_as_alone(name, channels):
    """In a pack, whose members differ in all numbers and seeds, each equals itself alone, and its bytes do
    not depend on the pack's size or its own place."""
    part, own = component("augmentation", name), defaults("augmentation", name)
    x, keys = images(channels=channels), torch.stack([key(seed) for seed in (1, 2, 3)])
    numbers = {n: torch.tensor([own[n] * (1 - 0.1 * k) + 1e-3 * k for k in range(3)]) for n in part.numbers}
    if "ratio" in numbers:
        numbers["ratio"] = torch.tensor([1.5, 1.2, 1.0])
    if "factor" in numbers:
        numbers["factor"] = torch.tensor([1.5, 1.2, 1.0])

    def one(key, values):
        return changed(x, name, key=key, numbers={name: values})

    def pack(members):
        return torch.vmap(one)(keys[members], {n: v[members] for n, v in numbers.items()})

    three, two = pack([0, 1, 2]), pack([2, 0])
    for k, place in ((2, 0), (0, 1)):
        assert torch.equal(three[0][k], two[0][place])
        assert torch.equal(three[1][k], two[1][place])
    for k in range(3):
        alone = one(keys[k], {n: v[k].item() for n, v in numbers.items()})
        # float32 settings against Python's doubles; a sampling place moves by 1e-6 pixels
        torch.testing.assert_close(three[0][k], alone[0], rtol=0, atol=2e-5)
        torch.testing.assert_close(three[1][k], alone[1], rtol=0, atol=2e-5)


def test_two_in_one_resampling_are_one_after_the_other():
    """Rotation and then translation in one resampling equal the two apart, on a smooth image away from the
    rim, up to what a second bilinear resampling blurs."""
    axis = torch.linspace(-3, 3, 48)
    x = torch.exp(-(axis[:, None] ** 2 + (axis - 0.5) ** 2) / 2).expand(4, 1, 48, 48)
    first, _ = changed(x, "translation")
    apart, _ = changed(first, "rotation")
    together, _ = changed(x, "rotation", "translation")
    torch.testing.assert_close(together[..., 9:-9, 9:-9], apart[..., 9:-9, 9:-9], rtol=0, atol=8e-3)
    backwards, _ = changed(changed(x, "rotation")[0], "translation")
    assert (backwards - together)[..., 9:-9, 9:-9].abs().max() > 2e-2


def test_flips_are_exact():
    """A flipped image has its pixels' bytes; about half are flipped; resampled, it is the same to 1e-5."""
    x = images(200)
    out, _ = changed(x, "horizontal_flip")
    turned = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(out, x, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(out, x, strict=True)])
    assert (turned ^ kept).all()
    assert 70 < turned.sum() < 130
    resampled, _ = changed(x, "horizontal_flip", "rotation", degrees=0.0)
    torch.testing.assert_close(resampled, out, rtol=0, atol=1e-5)
    both, _ = changed(x, "horizontal_flip", "vertical_flip", probability=1.0)
    assert torch.equal(both, x.flip(-1, -2))


def test_others_and_their_order_do_not_matter():
    """What an augmentation draws does not depend on which others are chosen, nor on the list's order."""
    x = images()
    alone, _ = changed(x, "color_jitter")
    assert torch.equal(changed(x, "cutout", "color_jitter", fraction=0.0)[0], alone)
    one, _ = changed(x, "cutout", "rotation", "color_jitter")
    assert torch.equal(changed(x, "color_jitter", "rotation", "cutout")[0], one)


def test_crop_never_looks_outside():
    """A cropped white image is white, whatever the crop."""
    out, _ = changed(torch.ones(64, 1, 7, 11), "crop", smallest=0.1, ratio=4.0)
    torch.testing.assert_close(out, torch.ones_like(out), rtol=0, atol=1e-5)


def test_colours_follow_the_formulas():
    """Brightness, contrast, saturation and hue equal the filter specification's matrices in numpy."""
    x, b, c, s, turn = images(), *torch.rand((4, 6), generator=torch.Generator().manual_seed(3))
    ours = pixels.recolor(x, 0.5 + b, 0.5 + c, 0.5 + s, turn)
    grey = np.array([0.213, 0.715, 0.072])
    for n in range(6):
        p = x[n].double().numpy().transpose(1, 2, 0) * (0.5 + b[n].item())
        mean = (p @ grey).mean()
        p = mean + (0.5 + c[n].item()) * (p - mean)
        level = (p @ grey)[..., None]
        p = level + (0.5 + s[n].item()) * (p - level)
        cos, sin = np.cos(2 * np.pi * turn[n].item()), np.sin(2 * np.pi * turn[n].item())
        spin = (
            np.array([[0.213, 0.715, 0.072]] * 3)
            + cos * np.array([[0.787, -0.715, -0.072], [-0.213, 0.285, -0.072], [-0.213, -0.715, 0.928]])
            + sin * np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
        )
        expected = torch.from_numpy((p @ spin.T).transpose(2, 0, 1)).float()
        # The specification's coefficients of hue are rounded to three digits: its matrices and ours,
        # which turns what saturation left of the chroma, differ by that.
        torch.testing.assert_close(ours[n], expected, rtol=0, atol=2e-3)
    grey_only, ones = images(channels=1), torch.ones(6)
    colourless = pixels.recolor(grey_only.expand(-1, 3, -1, -1), ones, ones, 0.5 * ones, 0.2 * ones)
    torch.testing.assert_close(colourless, grey_only.expand(-1, 3, -1, -1), rtol=0, atol=2e-3)
    with pytest.raises(ConfigError, match="2 channels"):
        changed(images(channels=2), "color_jitter")


def test_blur_is_gaussian_and_keeps_even_images():
    """Away from the rim blur equals scipy's Gaussian filter; an even image does not change."""
    x, sigma = images(4, 1, 40, 40), torch.tensor([0.0, 0.7, 1.3, 2.0])
    ours = pixels.smooth(40, sigma)[:, None] @ x @ pixels.smooth(40, sigma).mT[:, None]
    for n in range(4):
        expected = ndimage.gaussian_filter(x[n, 0].double().numpy(), sigma[n].item(), truncate=6)
        inner = torch.from_numpy(expected).float()[13:-13, 13:-13]
        torch.testing.assert_close(ours[n, 0, 13:-13, 13:-13], inner, rtol=0, atol=1e-5)
    even = torch.full((8, 3, 9, 12), 0.4)
    torch.testing.assert_close(changed(even, "blur", sigma=3.0)[0], even, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fill", ["zeros", "mean", "noise"])
def test_patches_have_their_size_and_leave_the_rest(fill):
    """Cutout overwrites a square of its side, less at the border, and erasing a rectangle inside of the
    image up to its largest area; all other pixels keep their bytes."""
    x = images(300, 1, 20, 20) + 2  # no pixel is what it is overwritten with
    out, _ = changed(x, "cutout", fraction=0.5, fill=fill)
    sizes = (out != x).sum((1, 2, 3))
    assert sizes.max() == 100
    assert sizes.min() >= 25
    out, _ = changed(x, "erasing", largest=0.3, fill=fill, probability=1.0)
    shares = (out != x).float().mean((1, 2, 3))
    assert shares.max() <= 0.3 + 0.06  # whole pixels
    # The mean of an even distribution, within four of its standard errors.
    assert abs(shares.mean().item() - 0.15) < 4 * 0.3 / 12**0.5 / 300**0.5
    if fill == "mean":
        hit = out != x
        value = torch.where(hit, out, 0).amax((1, 2, 3))[sizes > 0]
        assert torch.isin(value, torch.cat([x.mean((1, 2, 3)), torch.zeros(1)])).all()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_shares_are_beta_distributed(alpha):
    """The shares of mixing have scipy's distribution function of Beta(alpha, alpha), to 2e-3."""
    u = (torch.arange(2000) + 0.5) / 2000
    for number in (alpha, torch.tensor(alpha)):
        least = mixing.beta(u, torch.zeros(2000), number).double().numpy()
        # The lesser share is at most v with twice the probability of the distribution's lower tail.
        by_scipy = 2 * stats.beta.cdf(least, alpha, alpha)
        np.testing.assert_allclose(by_scipy, u.numpy(), atol=2e-3)
        most = mixing.beta(u, torch.ones(2000), number).double().numpy()
        np.testing.assert_allclose(most, 1 - least, atol=1e-6)


def test_mixed_targets_go_with_mixed_examples():
    """Where an example is its own target, mixup and cutmix leave it so; targets sum to one."""
    y = torch.arange(200) % 4
    own = (y[:, None] == torch.arange(4)).float()
    x, mixed = changed(own, "mixup", y=y, form=InputSpec("vector", (4,)), alpha=1.0)
    torch.testing.assert_close(x, mixed)
    torch.testing.assert_close(mixed.sum(1), torch.ones(200))
    assert (mixed.amax(1) < 0.99).sum() > 100
    x, mixed = changed(own[:, :, None, None].expand(-1, -1, 10, 8), "cutmix", y=y, probability=1.0)
    torch.testing.assert_close(x.mean((2, 3)), mixed)
    torch.testing.assert_close(mixed.sum(1), torch.ones(200))
    assert (mixed.amax(1) < 0.99).sum() > 80
    values = torch.linspace(-1, 1, 200)[:, None]
    x, mixed = changed(values.expand(-1, 4), "mixup", y=values, form=InputSpec("vector", (4,)), alpha=1.0)
    torch.testing.assert_close(x[:, :1], mixed)


@pytest.mark.parametrize(
    ("operation", "strength", "by_pillow"),
    [
        ("brightness", 0.5, lambda image: ImageEnhance.Brightness(image).enhance(1.495)),
        ("contrast", -0.5, lambda image: ImageEnhance.Contrast(image).enhance(0.505)),
        ("sharpness", 0.5, lambda image: ImageEnhance.Sharpness(image).enhance(1.495)),
        ("sharpness", -1.0, lambda image: Image.blend(image.filter(ImageFilter.SMOOTH), image, 0.01)),
        ("solarize", 0.4, lambda image: ImageOps.solarize(image, 154)),
        ("posterize", -0.5, lambda image: ImageOps.posterize(image, 5)),
        ("auto_contrast", 1.0, lambda image: ImageOps.autocontrast(image)),
        ("color", 0.8, lambda image: image),
        ("identity", 1.0, lambda image: image),
    ],
)
def test_operations_of_a_policy_are_pillows(operation, strength, by_pillow):
    """Each pixel operation of TrivialAugment equals Pillow's on grey bytes, to its rounding."""
    low = np.random.default_rng(1).integers(20, 200, (16, 16)).astype(np.uint8)
    x = torch.from_numpy(low).float()[None, None] / 255
    which = torch.tensor([float(policies.OPERATIONS.index(operation))])
    ours = policies.recolored(x, which, torch.tensor([strength]))[0, 0] * 255
    expected = torch.from_numpy(np.array(by_pillow(Image.fromarray(low)))).float()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1.5)


def test_a_policy_draws_every_operation_as_often():
    """TrivialAugment's operations are drawn evenly, and shear, shift and turn as documented."""
    which, strength = policies.drawn(draws(3, 13000), 0.5)
    assert stats.chisquare(np.bincount(which.int().numpy())).pvalue > 1e-3
    assert strength.abs().max() <= 0.5
    assert abs(strength.mean()) < 0.01
    rotated = policies.matrix_for(torch.tensor([1.0]), torch.tensor([-0.5]), (10, 20))
    torch.testing.assert_close(rotated, geometry.rotate(torch.tensor([-67.5])))
    moved = policies.matrix_for(torch.tensor([2.0, 3, 4, 5]), torch.ones(4), (10, 20))
    assert moved[:, :2].flatten(1).tolist() == [
        pytest.approx(row)
        for row in ([1, 0.99, 0, 0, 1, 0], [1, 0, 0, 0.99, 1, 0], [1, 0, 10, 0, 1, 0], [1, 0, 0, 0, 1, 5])
    ]


def test_features_are_hidden_and_noised_where_they_may_be():
    """Noise is on the numeric columns alone; hidden features are zero or another example's."""
    x = torch.randn((500, 3), generator=torch.Generator().manual_seed(1))
    form = InputSpec("vector", (3,), numeric=(0, 2))
    out, _ = changed(x, "feature_noise", form=form, std=0.5)
    assert torch.equal(out[:, 1], x[:, 1])
    assert (out - x)[:, [0, 2]].std().item() == pytest.approx(0.5, rel=0.1)
    out, _ = changed(x, "feature_dropout", form=form, probability=0.3, replace="zeros")
    assert ((out == x) | (out == 0)).all()
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)
    out, _ = changed(x, "feature_dropout", form=form, probability=0.3, replace="swap")
    assert (out != x).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert all(torch.isin(out[:, column], x[:, column]).all() for column in range(3))


def padded(masked=True):
    """40 sequences of 1 to 8 steps, 1, 2, 3 ..., with the mask's channel where they are masked."""
    lengths = 1 + torch.arange(40) % 8 if masked else torch.full((40,), 8)
    steps = torch.arange(1, 9)
    present = (steps <= lengths[:, None]).float()
    channels = [steps * present, *([present] if masked else [])]
    return torch.stack(channels, dim=2), lengths, InputSpec("sequence", (8, len(channels)), masked=masked)


@pytest.mark.parametrize("masked", [True, False])
def test_sequences_shift_within_their_steps(masked):
    """A shifted sequence is the old one some steps on, its ends going on; padding and mask stay."""
    x, lengths, form = padded(masked)
    out, _ = changed(x, "time_shift", form=form, fraction=0.5)
    seen = set()
    for before, after, length in zip(x, out, lengths.tolist(), strict=True):
        assert torch.equal(before[length:], after[length:])
        assert torch.equal(before[:, 1:], after[:, 1:])
        shifts = [
            s
            for s in range(-length, length + 1)
            if after[:length, 0].tolist() == [min(max(t - s, 1), length) for t in range(1, length + 1)]
        ]
        assert shifts
        assert min(map(abs, shifts)) <= length / 2
        seen |= set(shifts[:1])
    assert len(seen) > 3


@pytest.mark.parametrize("kind", ["sequence", "tokens", "unmasked"])
def test_hidden_steps_are_a_row_of_present_ones(kind):
    """Masked steps are consecutive, present, and no more than the fraction; the mask of padding stays."""
    x, lengths, form = padded(kind != "unmasked")
    if kind == "tokens":
        x, form = (x[:, :, 0] + x[:, :, 1]).long(), InputSpec("tokens", (8,), vocabulary=10)
    out, _ = changed(x, "time_masking", form=form, fraction=0.5)
    values, before = (out, x) if kind == "tokens" else (out[:, :, 0], x[:, :, 0])
    hidden = values != before
    assert (values[hidden] == (1 if kind == "tokens" else 0)).all()
    if kind == "sequence":
        assert torch.equal(out[:, :, 1], x[:, :, 1])
    for row, length in zip(hidden, lengths.tolist(), strict=True):
        at = row.nonzero().flatten()
        assert len(at) <= (length + 1) * 0.5
        assert not len(at) or (at[-1] < length and at[-1] - at[0] == len(at) - 1)
    assert 0 < hidden.sum() < 100


def test_two_fills_in_one_resampling_are_refused():
    """Geometric augmentations that disagree about what is outside are named, and no other fill counts."""
    changes = {"model": "mlp", "augmentation": ["rotation", "translation", "erasing"], "data": "digits"}
    with pytest.raises(ConfigError, match=r"rotation\.fill=border.*translation\.fill=zeros"):
        tiny({**changes, "augmentation.rotation.fill": "border"})


def test_the_strip_has_a_row_under_each_title_and_names_below():
    """Images are enlarged to 100 pixels by whole numbers, side by side; titles and names are written."""
    before, after = images(5, 1, 8, 8).numpy(), images(5, 1, 8, 8, seed=1).numpy()
    made = strip({"before": before, "after": after}, list("abcde"))
    picture = np.asarray(made)
    zoom, row = 13, 13 * 8 + FONT + 14
    assert made.size == (5 * (zoom * 8 + GAP) + GAP, 2 * row + FONT + 12)
    left, top = GAP + zoom * 8 + GAP, FONT + 10
    assert picture[top, left].tolist() == [round(float(before[1, 0, 0, 0]) * 255)] * 3
    assert picture[row + top + zoom * 8 - 1, GAP].tolist() == [round(float(after[0, 0, 7, 0]) * 255)] * 3
    for part in (picture[:top], picture[row : row + top], picture[2 * row :]):
        assert (part.min() < 128, part.max()) == (True, 255)
    colour = images(2, 3, 110, 120).numpy()
    assert np.asarray(strip({"x": colour}, ["a", "b"]))[FONT + 10, GAP].tolist() == [
        round(float(value) * 255) for value in colour[0, :, 0, 0]
    ]


def test_the_strip_shows_what_each_augmentation_does(monkeypatch):
    """Of several classes an example each; a flip is shown flipped whatever the seed, what cannot change is
    said; all together come in rows of their own."""
    seen = {}

    def record(rows, names):
        seen.update(rows=rows, names=names)
        return strip(rows, names)

    monkeypatch.setattr(augmentation_preview, "strip", record)
    chosen = {
        "model": "convnet",
        "data": "digits",
        "augmentation": ["horizontal_flip", "blur", "vertical_flip"],
    }
    config = tiny({**chosen, "augmentation.vertical_flip.probability": 0.0, "seed": 0})
    data = load({"name": "digits", **config.data.settings})
    config = for_target(config, data.target)
    augmentation_preview.augmented(Engine([config], [data], torch.device("cpu"), [0]), config)
    plain, flipped, unchanged, blurred, *together = seen["rows"].values()
    assert seen["names"] == list("012345")
    rows = [int(np.flatnonzero(data.train.targets.numpy() == label)[0]) for label in range(6)]
    raw = np.stack([np.asarray(data.train.inputs[row : row + 1])[0] for row in rows])
    np.testing.assert_allclose(plain, raw / 16, atol=1e-6)
    np.testing.assert_array_equal(flipped, plain[..., ::-1])
    assert (np.abs(blurred - plain).max(axis=(1, 2, 3)) > 0.01).all()
    np.testing.assert_array_equal(unchanged, plain)
    titles = list(seen["rows"])
    assert titles[1] == "horizontal_flip: probability 0.5"
    assert titles[2].endswith("no change in 16 draws")
    assert [title[:12] for title in titles[4:]] == ["all together"] * 2
    assert len(together) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # from torch's own import of inductor
@pytest.mark.parametrize("backend", exhaustive_after(1, ["eager", "inductor"]))
def test_all_at_once_compile_into_one_graph(backend):
    """All augmentations of images together compile in a pack without a break, and are what they are."""
    names = [name for name in IMAGE if name not in ("trivial_augment", "rand_augment")]
    x, keys = images(), torch.stack([key(1), key(2)])
    eager = torch.vmap(lambda key: changed(x, *names, key=key))
    chosen = [SimpleNamespace(name=n, part=component("augmentation", n)) for n in names]
    numbers = {}
    for choice in chosen:
        own, structure = choice.part.split(defaults("augmentation", choice.name))
        numbers[choice.name] = {k: torch.tensor([v, v]) for k, v in own.items()}
        choice.function = partial(choice.part.function, **structure)

    def one(key, numbers):
        return augment(x, torch.arange(6) % 4, chosen, key, numbers, 4, InputSpec("image", (3, 9, 12)))

    torch.compiler.reset()
    compiled = torch.compile(torch.vmap(one), fullgraph=True, backend=backend)(keys, numbers)
    for ours, expected in zip(compiled, eager(keys), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
