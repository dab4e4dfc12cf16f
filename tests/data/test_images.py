"""Folders and tables of images: classes, parts, targets, bad files, links, and the cache."""

import json
import os
import struct
import time
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from sampling import slow_after
from slipstream import data
from slipstream.core.errors import ConfigError, DataError
from slipstream.data.image import cache as caches
from slipstream.data.image import image_files
from slipstream.data.sources import images


def picture(number, size=(6, 8), grey=False):
    """A picture that its number can be read from."""
    pixels = np.full((*size, 3), (number, 255 - number, number // 2), np.uint8)
    return Image.fromarray(pixels[..., 0] if grey else pixels)


def plant(folder, *classes, count=12, first=0, **how):
    """A folder with a folder of numbered pictures for each class."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            number = first + k * count + i
            picture(number, **how).save(folder / name / f"{number:04}.png")
    return str(folder)


@pytest.fixture
def read(tmp_path, load):
    """read(path=tmp_path / "f", ...): the images there, with a cache of the test's own."""

    def make(path=None, **changes):
        changes = {"cache": str(tmp_path / "cache"), "path": str(path or tmp_path / "f")} | changes
        return load("images", **changes)

    return make


def numbers(part):
    """The numbers of a part's pictures."""
    return part.inputs[:, 0, 0, 0].tolist()


def table(folder, lines, header="image,label"):
    """A table beside numbered pictures."""
    path = folder / "t.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_folder_for_each_class(tmp_path, read):
    """Every picture is there with its class, as bytes of its size, in colour."""
    plant(tmp_path / "f", "b", "a", "10", "9")
    found = read()
    assert found.target.classes == ("10", "9", "a", "b")
    assert (found.form.kind, found.form.shape) == ("image", (3, 6, 8))
    assert found.train.inputs.dtype == torch.uint8
    known = {"b": 0, "a": 1, "10": 2, "9": 3}
    every = [
        (n, found.target.classes[t])
        for part in (found.train, found.validation, found.test)
        for n, t in zip(numbers(part), part.targets.tolist(), strict=True)
    ]
    assert sorted(n for n, _ in every) == list(range(48))
    assert all(known[name] == n // 12 for n, name in every)


def test_classes_of_numbers_are_in_order_and_two_are_binary(tmp_path, read):
    """Folders 2 and 10 are two classes in that order; data.classes turns them round."""
    plant(tmp_path / "f", "2", "10")
    assert (read().target.task, read().target.classes) == ("binary", ("2", "10"))
    assert read(classes=["10", "2"]).target.classes == ("10", "2")
    with pytest.raises(DataError, match=r"the folder '10' is not in data\.classes, did you mean 100"):
        read(classes=["2", "100"])


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "dev", "TEST")])
def test_folders_of_parts(tmp_path, read, names):
    """train, validation and test stay what they are; a part that has no folder is cut from train."""
    for i, name in enumerate(names):
        plant(tmp_path / "f" / name, "cat", "dog", first=100 * i)
    found = read()
    for i, part in enumerate((found.train, found.validation, found.test)):
        assert sorted(numbers(part)) == list(range(100 * i, 100 * i + 24))
    (tmp_path / "f" / names[1]).rename(tmp_path / "elsewhere")
    again = read()
    assert sorted(numbers(again.train) + numbers(again.validation)) == list(range(24))
    assert numbers(again.test) == numbers(found.test)


def test_a_class_may_be_called_train(tmp_path, read):
    """Folders without folders in them are classes, whatever they are called."""
    plant(tmp_path / "f", "train", "test", "car")
    assert read().target.classes == ("car", "test", "train")


def test_folders_within_a_class_belong_to_it(tmp_path, read):
    """At any depth; hidden files are passed over, others are told."""
    plant(tmp_path / "f", "a/x/y", "b", "a/z")
    for name in (".DS_Store", "b/.hidden.png", "b/Thumbs.db", "readme.txt"):
        (tmp_path / "f" / name).touch()
    found = read(test=0.0, validation=0.0)
    assert len(found.train) == 36
    assert found.target.classes == ("a", "b")
    assert "not images of a class are ignored (readme.txt, b/Thumbs.db)" in found.warnings[0]


def test_names_may_have_any_letters(tmp_path, read):
    """Accents in either spelling, blanks, other scripts, and bytes that are no text."""
    names = ["Café au lait", "猫", unicodedata.normalize("NFD", "Öl")]
    plant(tmp_path / "f", *names)
    os.mkdir(os.fsencode(tmp_path / "f") + b"/\xff")
    picture(7).save(os.fsdecode(os.fsencode(tmp_path / "f") + b"/\xff/\xfe.png"))
    found = read(test=0.0, validation=0.0, cache=None)
    assert found.target.classes == ("Café au lait", "\\xff", "Öl", "猫")
    found.summary.encode()


@pytest.mark.parametrize(("grey", "channels"), [(True, 1), (False, 3)])
def test_channels_are_told_by_the_files(tmp_path, read, grey, channels):
    """Where no picture has colours there is one channel; either can be asked for."""
    plant(tmp_path / "f", "a", "b", grey=grey)
    assert read().form.shape == (channels, 6, 8)
    assert read(channels=4 - channels).form.shape == (4 - channels, 6, 8)


def test_sizes_that_differ_need_a_size(tmp_path, read):
    """Nothing is distorted unasked: the sizes are told, and data.size brings all to one."""
    plant(tmp_path / "f", "a")
    plant(tmp_path / "f", "b", size=(20, 30), first=100)
    with pytest.raises(DataError, match=r"2 sizes \(height x width\): 6 x 8 \(12\), 20 x 30 \(12\); set"):
        read()
    assert read(size=5).form.shape == (3, 5, 5)
    assert read(size=[4, 7], fit="pad").form.shape == (3, 4, 7)


@pytest.mark.parametrize(
    ("lines", "header", "changes", "task"),
    [
        ([f"f/a/{i:04}.png,{'ny'[i % 2]}" for i in range(24)], "image,label", {}, "binary"),
        ([f"./f/a/{i:04}.png,{i / 7}" for i in range(24)], "image,label", {}, "regression"),
        (
            [f"f/a/{i:04}.png,{i % 2},{i // 2 % 2}" for i in range(24)],
            "image,sun,sea",
            {"target": ["sun", "sea"]},
            "multilabel",
        ),
        (
            [f"f/a/{i:04}.png;{i / 7};{i}" for i in range(24)],
            "image;u;v",
            {"target": ["u", "v"]},
            "regression",
        ),
    ],
)
def test_a_table_of_paths(tmp_path, read, lines, header, changes, task):
    """One target or several, of every task; rows keep their targets."""
    plant(tmp_path / "f", "a", count=24)
    path = table(tmp_path, lines, header)
    settings = {"image": "image", "target": "label", "target_scaling": "none"} | changes
    found = read(path, **settings, test=0.0, validation=0.0)
    assert found.target.task == task
    assert numbers(found.train) == list(range(24))
    rows = [line.replace(";", ",").split(",")[1:] for line in lines]
    if task == "binary":
        rows = [["ny".index(word) for word in row] for row in rows]
    expected = np.array(rows, np.float32)
    assert np.allclose(found.train.targets.float().view(24, -1), expected, rtol=1e-6)
    assert found.sources == (str(path),)


@pytest.mark.parametrize("spelled", ["{}", "{}.0"])
def test_labels_of_a_table_with_a_missing_one_are_numbers(tmp_path, read, spelled):
    """0 and 1 are numbers, also as programs write them where one is missing."""
    plant(tmp_path, "f", count=40)
    lines = [f"f/{i:04}.png,{'' if i == 3 else spelled.format(i % 2)}" for i in range(40)]
    found = read(table(tmp_path, lines), image="image", target="label", missing_target="drop")
    assert (found.target.classes, found.target.label_kind) == (("0", "1"), "number")


def test_what_a_target_is_read_as_is_said(tmp_path, read):
    """Signs of targets are left out with a warning, as in data=table."""
    plant(tmp_path, "f", count=40)
    lines = [f"f/{i:04}.png,${i}.50" for i in range(40)]
    found = read(table(tmp_path, lines), image="image", target="label")
    assert found.warnings == ("signs of numbers are ignored: label ($)",)


def test_a_table_says_parts_and_groups(tmp_path, read):
    """split_column keeps its parts, a group stays together, and a row without target may be dropped."""
    plant(tmp_path / "f", "a", count=60)
    parts = ["train"] * 40 + ["test"] * 20
    lines = [f"f/a/{i:04}.png,{'xy'[i % 2] if i else ''},{parts[i]},{i // 4}" for i in range(60)]
    path = table(tmp_path, lines, "image,label,part,who")
    columns = {"image": "image", "target": "label"}
    with pytest.raises(DataError, match=r"missing in 1 of 60 rows \(row 1\)"):
        read(path, **columns)
    found = read(path, **columns, split_column="part", group_column="who", missing_target="drop")
    assert sorted(numbers(found.test)) == list(range(40, 60))
    groups = [{n // 4 for n in numbers(part)} for part in (found.train, found.validation)]
    assert not groups[0] & groups[1]
    assert 0 not in numbers(found.train) + numbers(found.validation)


@pytest.mark.parametrize(
    "word", ["../f/a/0000.png", "/etc/passwd", "f/../../x.png", "out/0000.png", "link.png"]
)
def test_paths_that_leave_the_tables_folder_are_refused(tmp_path, read, word):
    """By .., as an absolute path, through a link to a folder or to a file; inside, links are followed."""
    here = tmp_path / "here"
    plant(tmp_path / "f", "a")
    plant(here / "f", "a")
    (here / "out").symlink_to(tmp_path / "f" / "a")
    (here / "link.png").symlink_to(tmp_path / "f" / "a" / "0000.png")
    (here / "inner.png").symlink_to(here / "f" / "a" / "0003.png")
    lines = [f"f/a/{i:04}.png,{i % 2}" for i in range(12)]
    good = table(here, [*lines, f"{here}/f/a/0001.png,1", "inner.png,1"])
    columns = {"image": "image", "target": "label", "test": 0.0, "validation": 0.0}
    assert numbers(read(good, **columns).train) == [*range(12), 1, 3]
    with pytest.raises(DataError) as caught:
        read(table(here, [*lines, f"{word},1"]), **columns)
    assert f"column 'image', row 13: {word!r}" in str(caught.value)
    assert "outside" in str(caught.value)


@pytest.mark.parametrize("name", ["a/x.png", "a/deep", "c"])
def test_links_that_lead_out_of_the_folder_are_refused(tmp_path, read, name):
    """Of files, and of folders at any depth."""
    plant(tmp_path / "f", "a", "b")
    plant(tmp_path / "other", "z")
    target = tmp_path / "other" / "z"
    (tmp_path / "f" / name).symlink_to(target / "0000.png" if name.endswith("png") else target)
    with pytest.raises(DataError, match="is a link"):
        read()


def test_accents_in_a_table_may_be_spelled_otherwise(tmp_path, read):
    """The file is found whether it or the table is in NFC or NFD."""
    (tmp_path / "f").mkdir()
    for i in range(12):
        picture(i).save(tmp_path / "f" / unicodedata.normalize("NFD", f"ü{i}.png"))
    path = table(tmp_path, [f"f/ü{i}.png,{i % 2}" for i in range(12)])
    assert len(read(path, image="image", target="label", test=0.0, validation=0.0).train) == 12


def spoil(folder):
    """Six files that cannot be used, of 36."""
    (folder / "a" / "0000.png").write_bytes(b"")
    (folder / "a" / "0001.png").write_bytes((folder / "a" / "0001.png").read_bytes()[:60])
    (folder / "b" / "0012.png").write_text("no image")
    picture(1).save(folder / "b" / "x.gif")
    picture(1).save(folder / "c" / "y.bmp")
    (folder / "c" / "0030.png").unlink()
    (folder / "c" / "0030.png").symlink_to(folder / "c" / "gone.png")


def test_enlarged_pictures_are_counted(tmp_path, read):
    """A side of less than half the size is told, when the files are read and from the cache."""
    plant(tmp_path / "f", "a", "b")
    for i in range(3):
        picture(i, size=(2, 9)).save(tmp_path / "f" / "a" / f"x{i}.png")
    for _ in range(2):
        (warning,) = read(size=6).warnings
        assert warning.endswith("f: 3 images of less than half the size, upscaled to 6 x 6")
    assert not read(size=4).warnings


def test_bad_files_are_refused_together_or_left_out_and_counted(tmp_path, read):
    """Five are named and the rest counted; on_error=skip takes the others and says so every time."""
    plant(tmp_path / "f", "a", "b", "c")
    spoil(tmp_path / "f")
    with pytest.raises(DataError) as caught:
        read()
    said = str(caught.value)
    assert "6 of 38 images cannot be used:\n  " in said
    assert "a/0000.png: is empty" in said
    assert "b/x.gif: is a GIF file" in said
    assert "and 1 more\nCorrect or remove them, or skip them with data.on_error=skip" in said
    assert not list((tmp_path / "cache").iterdir())
    for _ in range(2):
        found = read(on_error="skip", test=0.0, validation=0.0)
        assert numbers(found.train) == [n for n in range(36) if n not in (0, 1, 12, 30)]
        assert found.train.targets.tolist() == [n // 12 for n in numbers(found.train)]
        assert "6 of 38 images cannot be used" in found.warnings[0]
        assert found.warnings[0].endswith("They are left out")
    for file in (tmp_path / "f").rglob("*.*"):
        file.unlink()
        file.write_text("nothing")
    with pytest.raises(DataError, match=r"38 of 38 images cannot be used(.|\n)*No images remain"):
        read(on_error="skip")


def test_one_bad_file_is_spoken_of_as_one(tmp_path, read):
    """The advice to leave it out and the word that it is left out are in the singular."""
    plant(tmp_path / "f", "a", "b", "c")
    (tmp_path / "f/a/0000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"Correct or remove it, or skip it with data\.on_error=skip"):
        read()
    assert read(on_error="skip").warnings[0].endswith("\nIt is left out")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f.mkdir(), "has no folders, expected one for each class"),
        (lambda f: plant(f, "a"), "has only one class, 'a'"),
        (lambda f: (plant(f, "a", "b"), (f / "c").mkdir()), "class 'c' has no image"),
        (
            lambda f: (plant(f / "train", "a", "b"), plant(f, "x")),
            "has folders of splits (train) next to others (x)",
        ),
        (lambda f: (plant(f / "val", "a", "b"), plant(f / "test", "a", "b")), "but no folder train"),
        (
            lambda f: [plant(f / name, "a", "b") for name in ("train", "val", "valid")],
            "val and valid are the same split",
        ),
        (
            lambda f: plant(f, "é", unicodedata.normalize("NFD", "é")),
            r"the folders 'e\u0301' and '\xe9' are both class 'é'",
        ),
        (
            lambda f: (plant(f / "train", "a", "b"), plant(f / "test", "b", "b ")),
            "test: the folders 'b' and 'b ' are both class 'b'",
        ),
    ],
)
def test_folders_that_cannot_serve_are_refused(tmp_path, read, make, words):
    """With what was found and what is expected."""
    make(tmp_path / "f")
    with pytest.raises(DataError) as caught:
        read()
    assert words in str(caught.value), str(caught.value)


def test_settings_that_cannot_serve_are_found_before_reading(tmp_path, settings):
    """No path, columns for a folder, none for a table, what is used twice or not at all."""
    plant(tmp_path / "f", "a", "b")
    folder, lines = str(tmp_path / "f"), str(table(tmp_path, []))
    columns = {"path": lines, "image": "image", "target": "label"}
    for changes, words in [
        ({}, "data.path: is not set"),
        ({"path": "nowhere"}, "data.path: nowhere does not exist"),
        ({"path": f"{folder}/a/0000.png"}, "expected a folder, or a name that ends in"),
        ({"path": folder, "image": "x", "target": "y"}, "data.image, data.target: are for a table"),
        ({"path": folder, "task": "regression"}, "data.task: regression needs a table"),
        ({"path": folder, "classes": ["a", "a"]}, "at least two different names"),
        ({"path": folder, "cache": None, "streaming": "always"}, "data.streaming: always reads images from"),
        ({"path": lines}, "data.image: is not set"),
        ({"path": lines, "image": "x"}, "data.target: is not set"),
        (columns | {"split_column": "label"}, "column 'label' is already data.target"),
        (columns | {"split": "group"}, "needs data.group_column"),
        (columns | {"group_column": "g", "split": "random"}, "is not used by data.split=random"),
    ]:
        assert words in " ".join(data.problems(settings("images", **changes))), words
    with pytest.raises(ConfigError):
        data.load(settings("images"))


def test_the_second_time_nothing_is_decoded(tmp_path, read, monkeypatch):
    """The cache gives the same bytes and the same fingerprint, which no cache at all gives too."""
    plant(tmp_path / "f", "a", "b")
    first, without = read(), read(cache=None)
    monkeypatch.setattr(image_files, "opened", lambda path: pytest.fail(path))
    second = read()
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(first, part).inputs, getattr(second, part).inputs)
        assert torch.equal(getattr(first, part).inputs, getattr(without, part).inputs)
    assert first.fingerprint == second.fingerprint == without.fingerprint
    assert second.warnings == ()


def deep(folder, highest, count=12):
    """Grey pictures with 16 bits, from black to one value."""
    for k, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            values = np.array([0, highest // 4 + 1, highest // 2 + 1, highest], np.uint16)
            Image.fromarray(np.roll(values, i + k)[None]).save(folder / name / f"{i}.png")


def deep_colours(path, highest):
    """A PNG in colour with 16 bits, which Pillow does not write."""

    def block(kind, content):
        sum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum)

    rows = b"\0" + np.full((4, 3), highest, ">u2").tobytes()
    header = struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0)
    blocks = block(b"IHDR", header) + block(b"IDAT", zlib.compress(rows)) + block(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + blocks)


def values(found):
    """The values of all training images."""
    return set(found.train.inputs.ravel().tolist())


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_images_of_12_bits_are_told_and_read_as_such(tmp_path, read, bits):
    """A warning says what to type, from the files and from the cache; typed, white is white."""
    top = 2**bits - 1
    deep(tmp_path / "f", top)
    said = (
        f"{tmp_path / 'f'}: no value of 24 grey images with 16 bits is above {top:,}, which is nearly black; "
        f"if white is {top:,}, set data.bits={bits}; if they are meant to be dark, set data.bits=16"
    )
    dark = read()
    assert dark.warnings == (said,)
    assert read().warnings == (said,)
    found = read(bits=bits)
    assert found.warnings == ()
    assert values(found) == {0, 64, 128, 255}
    assert max(values(dark)) <= 64
    meant = read(bits=16)
    assert meant.warnings == ()
    assert meant.fingerprint == dark.fingerprint != found.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_images_that_use_16_bits_are_not_warned_of(tmp_path, read):
    """One value that needs more than 14 bits is enough; images with 8 bits are not asked."""
    deep(tmp_path / "f", 20_000)
    assert read().warnings == ()
    plant(tmp_path / "g", "a", "b")
    assert read(tmp_path / "g").warnings == ()


def test_bits_that_cannot_be_are_refused(tmp_path, read):
    """A value beyond them is named with its file; without a file of 16 bits the setting is for nothing."""
    deep(tmp_path / "f", 4095)
    with pytest.raises(
        DataError, match=r"a/0.png: has a value of 4,095, more than 1,023, the maximum for data.bits=10"
    ):
        read(bits=10)
    plant(tmp_path / "g", "a", "b")
    with pytest.raises(DataError, match=r"data\.bits=12, but no image has 16 bits; remove data\.bits"):
        read(tmp_path / "g", bits=12)


def test_colours_of_12_bits_in_16_are_told(tmp_path, read):
    """Of colours with 16 bits Pillow reads the upper 8: a setting cannot help, and the advice is another."""
    for name in "ab":
        (tmp_path / "f" / name).mkdir(parents=True)
        for i in range(12):
            deep_colours(tmp_path / "f" / name / f"{i}.png", 4000 - 256 * i)
    said = "no value of 24 colour images with 16 bits is above 4,095"
    (warning,) = read().warnings
    assert said in warning
    assert "if white is 4,095, save them with 8 bits" in warning
    assert read(bits=16).warnings == ()
    with pytest.raises(DataError, match="has several channels of 16 bits, but only 8 bits are supported"):
        read(bits=12)


def test_a_cache_without_word_of_bits_is_made_again_in_its_place(tmp_path, read):
    """Dark images are told of where a version that did not know of them has read them."""
    deep(tmp_path / "f", 4095)
    first = read()
    (folder,) = (tmp_path / "cache").iterdir()
    body = json.loads((folder / "manifest.json").read_text())["body"]
    listing = images.list_folder(str(tmp_path / "f"), None)
    body["about"] = images._digest([PIL.__version__, *zip(listing.names, listing.states, strict=True)])
    del body["notes"]["deep"]
    (folder / "manifest.json").write_text(json.dumps({"sha256": caches._digest(body), "body": body}))
    assert read().warnings == first.warnings != ()
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_settings_have_caches_of_their_own(tmp_path, read):
    """Another size or background does not take what was made for the first."""
    plant(tmp_path / "f", "a", "b")
    wanted = [{}, {"size": 4}, {"size": 4, "fit": "pad"}, {"size": 4, "fit": "pad", "background": "white"}]
    found = [read(**changes).fingerprint for changes in wanted]
    assert len(set(found)) == 4
    assert [read(**changes).fingerprint for changes in wanted] == found


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_changed_file_is_read_again(tmp_path, read, keep_time):
    """Even one of the same length whose time of change was set back; without a warning."""
    plant(tmp_path / "f", "a", "b")
    first = read()
    file = tmp_path / "f" / "a" / "0003.png"
    times, length = file.stat(), len(file.read_bytes())
    other = (tmp_path / "f" / "a" / "0004.png").read_bytes()
    file.write_bytes(other + bytes(length - len(other)))
    assert len(file.read_bytes()) == length
    if keep_time:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = read()
    assert second.fingerprint != first.fingerprint
    assert second.warnings == ()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    slow_after(
        3,
        [
            (lambda c: flip(c / "images.bin", 0.5), "images.bin does not match"),
            (
                lambda c: (c / "images.bin").write_bytes((c / "images.bin").read_bytes()[:-1]),
                "has 3,455 bytes",
            ),
            (
                lambda c: (c / "images.bin").write_bytes((c / "images.bin").read_bytes() + b"x"),
                "has 3,457 bytes",
            ),
            (lambda c: (c / "manifest.json").write_text("{"), "Expecting property name"),
            (lambda c: (c / "manifest.json").write_text("[]"), "indices must be"),
            (lambda c: (c / "manifest.json").write_text("[" * 100_000), "recursion"),
            (lambda c: flip(c / "manifest.json", 0.5), ""),
            (lambda c: ((c / "manifest.json").unlink(), (c / "manifest.json").mkdir()), "Is a directory"),
            (lambda c: (c / "manifest.json").unlink(), None),
            (lambda c: (c / "images.bin").unlink(), None),
        ],
    ),
)
def test_a_damaged_cache_is_made_again(tmp_path, read, spoil, words):
    """Torn, cut off, flipped or foreign: a warning, the right images, and a whole cache the next time."""
    plant(tmp_path / "f", "a", "b")
    first = read()
    (folder,) = (tmp_path / "cache").iterdir()
    spoil(folder)
    second = read()
    assert second.fingerprint == first.fingerprint
    if words is not None:
        assert "is damaged" in second.warnings[0]
        assert words in second.warnings[0], second.warnings[0]
    assert read().warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images.bin", "manifest.json"])
def test_no_flipped_bit_passes(tmp_path, name):
    """In any byte: what is loaded is what was written, or nothing."""
    images = np.arange(600, dtype=np.uint8).reshape(50, 1, 3, 4)
    caches.write(tmp_path / "c", "about", (1, 3, 4), [images[:20], images[20:]], lambda: [[1, "é"]])
    whole, seen = (tmp_path / "c" / name).read_bytes(), 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        (tmp_path / "c" / name).write_bytes(content)
        with suppress(caches.Damaged):
            if (found := caches.load(tmp_path / "c", "about")) is not None:
                seen += 1
                assert np.array_equal(found.images, images)
                assert found.notes == [[1, "é"]]
    assert seen <= len(whole) / 50  # blanks of the manifest that became other blanks


def test_a_folder_that_cannot_be_written_means_no_cache(tmp_path, read):
    """Where a file stands in the folder's place, the images are read all the same, with a warning."""
    plant(tmp_path / "f", "a", "b")
    (tmp_path / "file").touch()
    found = read(cache=str(tmp_path / "file" / "cache"))
    assert "cannot be cached" in found.warnings[0]
    assert "Not a directory" in found.warnings[0]
    assert found.fingerprint == read().fingerprint


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_full_disk_means_no_cache(tmp_path, read, monkeypatch, call):
    """Whatever the disk refuses, nothing half-written stays and the images are read all the same."""
    plant(tmp_path / "f", "a", "b")

    def full(*args, **settings):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        found = read()
    assert "No space left on device" in found.warnings[0]
    assert not list((tmp_path / "cache").glob("*"))
    assert found.fingerprint == read().fingerprint


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path, read):
    """Not before: another process may be writing it. Nothing of the user's own ever is, whatever its name."""
    plant(tmp_path / "f", "a", "b")
    old, new, noted = (f"{caches.TEMPORARY}{digit * 32}" for digit in "abc")
    names = ("tmp-mine", "tmp-" + "0" * 32, f"{caches.TEMPORARY}mine", old, new, noted)
    for name in names:
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / caches.IMAGES).write_text("half")
    (tmp_path / "cache" / noted / "notes.txt").write_text("mine")
    for name in names:
        moment = time.time() - (60 if name == new else 2 * caches.LEFT_OVER)
        os.utime(tmp_path / "cache" / name, (moment, moment))
    read()
    left = {path.name for path in (tmp_path / "cache").iterdir()} & set(names)
    assert left == {*names} - {old}
    assert (tmp_path / "cache" / "tmp-mine" / caches.IMAGES).read_text() == "half"
    assert (tmp_path / "cache" / noted / "notes.txt").read_text() == "mine"


def test_a_folder_of_the_users_in_a_caches_place_stays(tmp_path):
    """What holds more than a cache is not replaced; the reason is an OSError, which becomes a warning."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="contains something other than a cache"):
        caches.write(tmp_path / "c", "about", (1, 3, 4), [np.zeros((2, 1, 3, 4), np.uint8)], lambda: None)
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "notes.txt"]


def test_many_writers_at_once_leave_one_whole_cache(tmp_path):
    """Each loads what it or another wrote, and no temporary folder stays."""
    images = np.arange(240, dtype=np.uint8).reshape(20, 1, 3, 4)

    def work(_):
        caches.write(tmp_path / "c", "about", (1, 3, 4), [images], lambda: None)
        return caches.load(tmp_path / "c", "about")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(40)))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    # In the instant between two renames there is nothing, which means: read the files.
    assert all(cached is None or np.array_equal(cached.images, images) for cached in found)
    assert np.array_equal(caches.load(tmp_path / "c", "about").images, images)


def test_the_usual_folder_is_the_users_cache(monkeypatch, tmp_path):
    """XDG_CACHE_HOME where it is an absolute path, else ~/.cache, else none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert caches.default_folder() == tmp_path / "slipstream" / "images"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert caches.default_folder() == tmp_path / "home" / ".cache" / "slipstream" / "images"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert caches.default_folder() is None


def test_more_than_one_block_is_checked(tmp_path, monkeypatch):
    """Every block of the file has a hash of its own."""
    monkeypatch.setattr(caches, "BLOCK", 100)
    images = np.arange(1000, dtype=np.uint8).reshape(-1, 1, 2, 5)
    caches.write(tmp_path / "c", "", (1, 2, 5), [images], lambda: None)
    saved = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert len(set(saved["body"]["hashes"])) == 10
    found, memory = caches.load(tmp_path / "c", ""), caches.in_memory(100, (1, 2, 5), [images], lambda: None)
    assert found.digest == memory.digest
    flip(tmp_path / "c" / "images.bin", 0.73)
    with pytest.raises(caches.Damaged, match="does not match"):
        caches.load(tmp_path / "c", "")
