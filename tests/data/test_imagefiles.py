"""Image files to bytes: every format, kind of pixel and geometry against its definition, and bad files."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from slipstream.core.errors import DataError
from slipstream.data.image import image_files
from slipstream.data.image.image_files import ImageFormat, read_images

DRAW = np.random.default_rng(0)
RGB = DRAW.integers(0, 256, (6, 9, 3), dtype=np.uint8)
# Smooth, so that JPEG and WebP keep it and filters agree on it.
Y, X = np.mgrid[0:96, 0:120]
SMOOTH = np.stack([128 + 90 * np.sin(X / 17), 128 + 90 * np.cos(Y / 13), X + Y / 2], -1).astype(np.uint8)


@pytest.fixture
def read(tmp_path):
    """read(image or bytes, size, channels=3, ...): what `read_images` makes of a file with that content."""

    def make(content, size, channels=3, ending="png", fit="crop", background="black", **options):
        path = tmp_path / f"a.{ending}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **options)
        return read_images([path], ImageFormat(size, channels, fit, background))[0]

    return make


def png(width, height, rows=b"", colour=2):
    """A PNG by hand, 8 bits, with whatever its header promises."""

    def block(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    blocks = (block(b"IHDR", header), block(b"IDAT", zlib.compress(rows, 9)), block(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(blocks)


@pytest.mark.parametrize(("ending", "options"), [("png", {}), ("webp", {"lossless": True})])
def test_lossless_files_give_their_pixels(read, ending, options):
    """A picture that has the size already keeps every byte, whatever the fit."""
    for fit in ("crop", "pad", "stretch"):
        found = read(Image.fromarray(RGB), (6, 9), ending=ending, fit=fit, **options)
        assert np.array_equal(found, RGB.transpose(2, 0, 1))


@pytest.mark.parametrize(("ending", "options"), [("jpg", {"quality": 95}), ("webp", {"quality": 95})])
def test_lossy_files_are_near(read, ending, options):
    """At quality 95 a smooth picture is off by 2 of 255 on average (colours have half the resolution)."""
    found = read(Image.fromarray(SMOOTH), (96, 120), ending=ending, **options)
    assert np.abs(found.astype(float) - SMOOTH.transpose(2, 0, 1)).mean() < 2


@pytest.mark.parametrize("size", [(24, 30), (20, 50), (60, 33)])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_stretching_is_torchs_antialiased_bicubic(read, size, ending):
    """Against torch.nn.functional.interpolate, up to rounding to bytes; a JPEG by way of half its size."""
    found = read(Image.fromarray(SMOOTH), size, fit="stretch", ending=ending)
    x = torch.from_numpy(SMOOTH.transpose(2, 0, 1)[None]).float()
    expected = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True)[0].clamp(0, 255)
    error = np.abs(found - expected.numpy())
    # Pillow rounds between its two passes; JPEG's own loss comes on top.
    assert error.max() <= (1.5 if ending == "png" else 30)
    assert error.mean() <= (0.5 if ending == "png" else 3)


def test_crop_keeps_the_middle_and_pad_the_whole(read):
    """Of a picture three times as wide, crop takes the middle third, pad puts it between bars."""
    wide = np.concatenate([np.full((10, 10, 3), value, np.uint8) for value in (50, 100, 150)], axis=1)
    assert (read(Image.fromarray(wide), (10, 10)) == 100).all()
    padded = read(Image.fromarray(wide), (30, 30), fit="pad", background="white")
    assert np.array_equal(padded[:, 10:20], wide.transpose(2, 0, 1))
    assert (padded[:, :10] == 255).all()
    assert (padded[:, 20:] == 255).all()
    assert (read(Image.fromarray(wide), (30, 30), fit="pad")[:, :10] == 0).all()


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
def test_pictures_are_turned_as_their_exif_data_say(tmp_path, orientation, ending):
    """All eight orientations, and the header's size is that of the turned picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = TURNS[orientation](SMOOTH)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(SMOOTH).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    (header,) = image_files.headers([str(path)])
    assert header == image_files.ImageHeader(expected.shape[:2], False)
    found = read_images([path], ImageFormat(header.size, 3))[0].transpose(1, 2, 0)
    assert np.abs(found.astype(float) - expected).mean() < (3 if ending == "jpg" else 1e-9)


GREY = DRAW.integers(0, 256, (6, 9), dtype=np.uint8)
ALPHA = DRAW.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = DRAW.integers(0, 65536, (6, 9)).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(GREY > 100), 255 * (GREY > 100)),
        (Image.fromarray(np.repeat(GREY[..., None], 3, 2)).quantize(256), GREY),
        (Image.fromarray(DEEP), DEEP / 257),
        (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]), GREY * (ALPHA / 255)),
        (Image.merge("RGBA", [Image.fromarray(a) for a in (GREY, GREY, GREY, ALPHA)]), GREY * (ALPHA / 255)),
        (Image.fromarray(np.repeat(GREY[..., None], 3, 2)), GREY),
    ],
    ids=["L", "1", "P", "I;16", "LA", "RGBA", "RGB"],
)
def test_every_kind_of_pixel_becomes_grey_or_colour(read, image, expected):
    """16 bits are rounded to 8, transparent pixels laid upon the background, grey repeated as colour."""
    grey = read(image, (6, 9), 1)
    # Laying upon the background rounds up to twice.
    assert np.abs(grey[0] - expected.astype(float)).max() <= (1 if "A" in image.getbands() else 0.5)
    assert np.array_equal(read(image, (6, 9), 3), grey.repeat(3, 0))


@pytest.mark.parametrize(
    ("bits", "values", "expected"),
    [
        (8, [0, 1, 128, 255], [0, 1, 128, 255]),
        (10, [0, 256, 512, 1023], [0, 64, 128, 255]),
        (12, [0, 1024, 2048, 4095], [0, 64, 128, 255]),
        (14, [0, 4096, 8192, 16383], [0, 64, 128, 255]),
        (16, [0, 16384, 32768, 65535], [0, 64, 128, 255]),
    ],
)
def test_fewer_bits_in_a_file_of_16_use_the_whole_range(tmp_path, bits, values, expected):
    """The highest value that the bits hold is white, in files and in pictures; a higher one is refused."""
    image = Image.fromarray(np.array([values], np.uint16))
    image.save(tmp_path / "a.png")
    found = read_images([tmp_path / "a.png"], ImageFormat((1, 4), 1, bits=bits))
    assert found.ravel().tolist() == expected
    form = image_files.ImageFormat((1, 4), 3, "crop", "black", bits)
    assert image_files.pixels_of(image, form)[2, 0].tolist() == expected
    if bits < 16:
        Image.fromarray(np.array([[0, 2**bits]], np.uint16)).save(tmp_path / "a.png")
        said = f"has a value of {2**bits:,}, more than {2**bits - 1:,}, the maximum for data.bits={bits}"
        with pytest.raises(DataError, match=said):
            read_images([tmp_path / "a.png"], ImageFormat((1, 2), 1, bits=bits))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pictures_of_32_bits_are_refused(mode):
    """Pillow would make white of all above 255."""
    form = image_files.ImageFormat((6, 9), 1, "crop", "black")
    with pytest.raises(image_files.BadImage, match=rf"an unsupported pixel format \({mode}\)"):
        image_files.pixels_of(Image.fromarray(DEEP).convert("I").convert(mode), form)


def test_a_transparent_colour_of_a_palette_is_the_background(read):
    """PNG's tRNS counts as transparency too; white shows where the picture is not."""
    image = Image.fromarray(GREY).quantize(8)
    indices = np.asarray(image)
    found = read(image, (6, 9), 3, background="white", transparency=int(indices[0, 0]))
    assert (found[:, indices == indices[0, 0]] == 255).all()
    assert (found[:, indices != indices[0, 0]] < 255).any()


def test_cmyk_photographs_are_read(read):
    """A CMYK JPEG gives (255 - ink) * (255 - black) / 255 in each colour."""
    ink = (200, 100, 20, 50)
    image = Image.new("CMYK", (32, 32), ink)
    found = read(image, (32, 32), ending="jpg", quality=95)
    expected = (255 - np.array(ink[:3])) * (255 - ink[3]) / 255
    assert np.abs(found[:, 16, 16] - expected).max() < 4


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.fromarray(GREY), True),
        (Image.fromarray(GREY).quantize(16), True),
        (Image.fromarray(RGB).quantize(16), False),
        (Image.fromarray(RGB), False),
        (Image.fromarray(DEEP), True),
    ],
    ids=["L", "grey palette", "palette", "RGB", "16 bits"],
)
def test_the_header_tells_grey_from_colour(tmp_path, image, grey):
    """By the kind of pixels or the palette, without reading pixels."""
    image.save(tmp_path / "a.png")
    assert list(image_files.headers([str(tmp_path / "a.png")])) == [image_files.ImageHeader((6, 9), grey)]


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


FRAMES = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
BOMB = png(60_000, 60_000, bytes(1000))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is not a PNG, JPEG or WebP image"),
        (encoded(Image.fromarray(RGB), "GIF"), "is a GIF file; convert it"),
        (encoded(Image.fromarray(RGB), "BMP"), "is a BMP file; convert it"),
        (encoded(Image.fromarray(RGB), "TIFF"), "is a TIFF file; convert it"),
        (encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "is an animation"),
        (encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), "is an animation"),
        (BOMB, "pixels"),
        (png(9_500, 9_500), "has more than 80,000,000 pixels"),
        (png(9_000, 9_000), "has 9000 x 9000 pixels, expected at most 80,000,000"),
        (png(20, 20, bytes(30)), "is damaged or truncated"),
    ],
)
def test_bad_files_are_named_with_what_they_are(tmp_path, content, words):
    """Not by their ending but by their content; a bomb is refused before it is unpacked."""
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(RGB).save(good)
    bad.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_images([good, bad], ImageFormat((4, 4), 3))
    assert f"1 of 2 images cannot be used:\n  {bad}: " in str(caught.value)
    assert words in str(caught.value), str(caught.value)
    assert str(good) not in str(caught.value)


def test_folders_missing_files_and_large_ones_are_named(tmp_path, monkeypatch):
    """All of them in one message, five by name."""
    monkeypatch.setattr(image_files, "LARGEST_FILE", 50)
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(RGB).save(tmp_path / "a.png")
    names = ["folder.png", "a.png", *(f"{i}.png" for i in range(5))]
    with pytest.raises(DataError) as caught:
        read_images([tmp_path / name for name in names], ImageFormat((4, 4), 3))
    assert str(caught.value).startswith("7 of 7 images cannot be used:")
    for words in (
        "folder.png: is a folder",
        "bytes, expected at most 50",
        "0.png: does not exist",
        "and 2 more",
    ):
        assert words in str(caught.value)
    assert "3.png" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_that_is_cut_off_is_refused_at_any_length(tmp_path, form):
    """But for JPEG's last bytes, after all pixels, which are worth nothing."""
    whole = encoded(Image.fromarray(SMOOTH), form)
    paths = []
    spare = 16 if form == "JPEG" else 1
    for length in range(1, len(whole) - spare, max(len(whole) // 40, 1)):
        paths.append(tmp_path / f"{length}")
        paths[-1].write_bytes(whole[:length])
    with pytest.raises(DataError, match=f"{len(paths)} of {len(paths)} images"):
        read_images(paths, ImageFormat((96, 120), 3))


@pytest.mark.slow
@examples(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(form=st.sampled_from(["PNG", "JPEG", "WEBP"]), place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_gives_an_image_and_nothing_else(tmp_path, form, place, bit):
    """A PNG is refused, or has its pixels all the same, since its checksums are looked at."""
    whole = bytearray(encoded(Image.fromarray(RGB), form))
    whole[int(place * len(whole))] ^= 1 << bit
    (tmp_path / "a").write_bytes(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read_images([tmp_path / "a"], ImageFormat((6, 9), 3))
        except DataError:
            return
    assert found.shape == (1, 3, 6, 9)
    if form == "PNG":
        assert np.array_equal(found[0], RGB.transpose(2, 0, 1))


def test_large_photographs_are_decoded_small(tmp_path, monkeypatch):
    """A JPEG is asked for at least twice the size that is wanted, not for all of its pixels."""
    Image.fromarray(SMOOTH).resize((1200, 960)).save(tmp_path / "a.jpg", quality=95)
    sizes = []
    flat = image_files.flat
    monkeypatch.setattr(
        image_files, "flat", lambda image, *rest: sizes.append(image.size) or flat(image, *rest)
    )
    read_images([tmp_path / "a.jpg"], ImageFormat((60, 60), 3))
    assert sizes == [(150, 120)]


@pytest.mark.slow
def test_the_order_is_that_of_the_paths(tmp_path):
    """However many threads read them."""
    paths = [tmp_path / f"{i}.png" for i in range(1200)]
    for i, path in enumerate(paths):
        Image.new("RGB", (2, 2), (i % 256, i // 256, 7)).save(path, compress_level=0)
    found = read_images(paths[::-1], ImageFormat((2, 2), 3))[:, :, 0, 0].astype(int)
    assert (found[:, 0] + 256 * found[:, 1]).tolist() == list(range(1200))[::-1]


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_pictures_are_turned_as_their_xmp_data_say(tmp_path, turn):
    """Where EXIF says nothing, the orientation in XMP counts, for the pixels and for the size."""
    pixels = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
    said = PngImagePlugin.PngInfo()
    said.add_itxt("XML:com.adobe.xmp", f'<rdf:Description tiff:Orientation="{turn}"/>')
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=said)
    expected = np.rot90(pixels, {3: 2, 6: -1, 8: 1}[turn])
    path = str(tmp_path / "a.png")
    assert list(image_files.headers([path])) == [image_files.ImageHeader(expected.shape, True)]
    np.testing.assert_array_equal(
        image_files.read_images([path], ImageFormat(expected.shape, 1))[0, 0], expected
    )
