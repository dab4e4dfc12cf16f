"""Lists of image files with targets, from a folder for each class or from a table of paths."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slipstream.core.errors import DataError, did_you_mean
from slipstream.core.types import Target
from slipstream.data.identity import class_folders, numbered, shown
from slipstream.data.messages import brief, naming, phrase
from slipstream.data.tabular.columns import as_text, is_missing, join
from slipstream.data.tabular.spelling import described
from slipstream.data.tabular.table_file import PART_WORDS, File, ReadingRules, labels_among
from slipstream.data.tabular.values import Text, Values
from slipstream.data.targets import in_order, make_target

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
# These are images, too. They are listed so that messages can name their unsupported type.
OTHER_ENDINGS = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".svg", ".ico", ".ppm", ".pgm")

# size in bytes, and the times of the last change of content and of metadata, in nanoseconds
State = tuple[int, int, int]


@dataclass
class Listing:
    """Images below one folder.

    root: the resolved folder. names: of the files, relative to it. states: of each file, (0, 0, 0) if it is
    missing. targets, parts, groups: as in RawData.
    """

    root: str
    names: list[str]
    states: list[State]
    targets: np.ndarray
    target: Target
    parts: np.ndarray | None = None
    groups: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The full paths of the files."""
        return [os.path.join(self.root, name) for name in self.names]

    def pick(self, rows: np.ndarray) -> Listing:
        """Select rows."""
        places = rows.tolist()
        return Listing(
            self.root,
            [self.names[i] for i in places],
            [self.states[i] for i in places],
            self.targets[rows],
            self.target,
            None if self.parts is None else self.parts[rows],
            None if self.groups is None else self.groups[rows],
            self.warnings,
        )


def list_folder(path: str, classes: Sequence[str] | None) -> Listing:
    """List the images of a folder for each class, or of such folders in train, validation and test.

    Raises DataError for fewer than two classes, a class without images, or a link that leads outside.
    """
    root = os.path.realpath(path)
    parts = _part_folders(path, root)
    found: dict[tuple[int, str], list[tuple[str, State]]] = {}
    others: list[str] = []
    for part, folder in parts.items():
        folders, files = _content(os.path.join(root, folder))
        others += [os.path.join(folder, name) for name in files]
        for label, name in class_folders(str(Path(path, folder)), folders).items():
            found[part, label] = _images(root, os.path.join(folder, name), others)
    labels = in_order(sorted({label for _, label in found}))
    _check_classes(path, labels, classes, found, others)
    labels = list(classes) if classes is not None else labels
    place = {label: i for i, label in enumerate(labels)}
    order = sorted(found, key=lambda key: (key[0], place[key[1]]))
    sizes = [len(found[key]) for key in order]
    files_of = [item for key in order for item in found[key]]
    left = (
        f"{shown(path)}: files that are not images of a class are ignored ({phrase(map(shown, others), 3)})"
    )
    return Listing(
        root,
        [name for name, _ in files_of],
        [state for _, state in files_of],
        np.repeat([place[label] for _, label in order], sizes).astype(np.int64),
        Target("binary" if len(labels) == 2 else "multiclass", ("class",), tuple(labels)),
        np.repeat([part for part, _ in order], sizes).astype(np.int8) if list(parts) != [0] else None,
        warnings=[left] if others else [],
    )


def list_table(
    path: str,
    image: str,
    targets: list[str],
    *,
    task: str,
    classes: list[str] | None,
    separator: str | None,
    header: bool,
    missing_target: str,
    split_column: str | None,
    group_column: str | None,
) -> Listing:
    """List the images in a table of paths, which are relative to the table's folder and stay inside it."""
    roles = {"split_column": split_column, "group_column": group_column}
    asked = {key: name for key, name in roles.items() if name is not None}
    used = {image, *targets, *asked.values()}
    as_words = frozenset([image, *asked.values()])
    reading = ReadingRules(
        frozenset([""]), separator, ".", used.__contains__, as_words, labels_among(targets, task), header
    )
    file = File.read(path, 0, reading)
    file.check_names({"image": [image], "target": targets} | {key: [n] for key, n in asked.items()})
    file.read_targets(targets, task, classes, drop=missing_target == "drop")
    words = as_text(file.columns.pop(image))
    if (gone := is_missing(words) & file.keep).any():
        row = int(np.argmax(gone)) + 1
        raise DataError(
            f"{path}: column {image!r}, row {row}: the path is missing, expected one in every row"
        )
    root = os.path.realpath(Path(path).parent)
    rows = np.flatnonzero(file.keep)
    names, states = _named(path, root, image, Text(words.codes[rows], words.values), rows)
    with naming(path):
        y, target = make_target(targets, [join([file.targets[name]]) for name in targets], task, classes)
    role: dict[str, Values] = {key: join([file.role(key, name)]) for key, name in asked.items()}
    parts, groups = role.get("split_column"), role.get("group_column")
    return Listing(
        root,
        names,
        states,
        y,
        target,
        None if parts is None else np.asarray(parts).astype(np.int8),
        None if groups is None else numbered(as_text(groups)),
        [*file.warnings, *described(file.notes)],
    )


def _part_folders(path: str, root: str) -> dict[int, str]:
    """Return split -> its folder below the root; {0: ""} if the folders are classes."""
    folders, _ = _content(root)
    if not folders:
        raise DataError(
            f"{shown(path)}: has no folders, expected one for each class, or a table of paths and targets as "
            "data.path"
        )
    words = [name for name in folders if name.lower() in PART_WORDS]
    deep = [name for name in words if _content(os.path.join(root, name))[0]]
    if not deep:
        return {0: ""}
    if len(words) < len(folders):
        rest = phrase([shown(name) for name in folders if name not in words], 3)
        raise DataError(
            f"{shown(path)}: has folders of splits ({phrase(deep)}) next to others ({rest}); expected either "
            "splits that each contain a folder per class, or classes"
        )
    parts: dict[int, str] = {}
    for name in words:
        part = PART_WORDS[name.lower()]
        if part in parts:
            raise DataError(f"{shown(path)}: {parts[part]} and {name} are the same split; remove one")
        _refuse_link(os.path.join(root, name))
        parts[part] = name
    if 0 not in parts:
        raise DataError(f"{shown(path)}: has {phrase(words)}, but no folder train")
    return dict(sorted(parts.items()))


def _check_classes(
    path: str,
    labels: Sequence[str],
    classes: Sequence[str] | None,
    found: dict[tuple[int, str], list[tuple[str, State]]],
    others: Sequence[str],
) -> None:
    """Raise DataError for a single class, a class without images, or a folder that is not a class."""
    if len(labels) < 2:
        only = f"only one class, {labels[0]!r}" if labels else "no classes"
        raise DataError(f"{shown(path)}: has {only}, expected at least two folders, one for each class")
    for label in labels if classes is not None else ():
        if label not in classes:  # type: ignore[operator]  # None is excluded where labels are given
            raise DataError(
                f"{shown(path)}: the folder {label!r} is not in data.classes, "
                f"{did_you_mean(label, [str(name) for name in classes or ()])}"
            )
    for label in classes or labels:
        if not any(files for (_, name), files in found.items() if name == label):
            here = f"; it has other files ({phrase(others, 3)})" if others else ""
            raise DataError(
                f"{shown(path)}: class {label!r} has no image ({', '.join(ENDINGS)}){here}; "
                "add images to its folder, or remove the folder"
            )


def _content(folder: str) -> tuple[list[str], list[str]]:
    """Return the folders and files in a folder, sorted, without hidden ones. Raises DataError."""
    folders: list[str] = []
    files: list[str] = []
    with _listing(folder), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def _images(root: str, folder: str, others: list[str]) -> list[tuple[str, State]]:
    """Return the images in a folder and all its subfolders, by name; append other files to `others`."""
    found, waiting = [], [folder]
    while waiting:
        here = waiting.pop()
        place = os.path.join(root, here)
        _refuse_link(place)
        with _listing(place), os.scandir(place) as entries:
            for entry in entries:
                name = os.path.join(here, entry.name)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(name)
                elif entry.name.lower().endswith((*ENDINGS, *OTHER_ENDINGS)):
                    found.append((name, _state(root, entry.path, entry.stat(follow_symlinks=False))))
                else:
                    others.append(name)
    return sorted(found)


@contextmanager
def _listing(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be listed ({error.strerror})") from error


def _refuse_link(folder: str) -> None:
    if os.path.islink(folder):
        raise DataError(
            f"{shown(folder)}: is a link to a folder, and links are not followed; move the files here"
        )


def _named(path: str, root: str, column: str, words: Text, rows: np.ndarray) -> tuple[list[str], list[State]]:
    """Return the files in a table's column, which must be below the root. Raises DataError for others."""
    known: dict[str, tuple[str, State]] = {}
    inside: dict[str, bool] = {}  # folder -> True if it is in the root, links resolved
    for code in np.unique(words.codes):
        word = words.values[code]
        name = os.path.relpath(word, root) if os.path.isabs(word) else os.path.normpath(word)
        folder = os.path.dirname(os.path.join(root, name))
        if folder not in inside:
            outside = name.startswith(os.path.join("..", ""))
            inside[folder] = not outside and _within(root, os.path.realpath(folder))
        try:
            if "\0" in word or not inside[folder]:
                raise DataError("is outside the table's folder")
            known[word] = _found(root, name)
        except DataError as error:
            row = int(rows[np.argmax(words.codes == code)]) + 1
            raise DataError(
                f"{path}: column {column!r}, row {row}: {brief(word, 200)}: {error}; expected a path "
                f"below {shown(root)}"
            ) from error
    picked = [known[words.values[code]] for code in words.codes]
    return [name for name, _ in picked], [state for _, state in picked]


def _found(root: str, name: str) -> tuple[str, State]:
    """Return the file's name as on disk, which may encode accented letters differently."""
    for form in ("NFC", "NFD", None):
        spelled = unicodedata.normalize(form, name) if form else name
        try:
            found = os.lstat(os.path.join(root, spelled))
        except OSError:
            continue
        return spelled, _state(root, os.path.join(root, spelled), found)
    return name, (0, 0, 0)


def _state(root: str, path: str, found: os.stat_result) -> State:
    """Return the state that changes with the file. Raises DataError for a link to the outside."""
    if stat.S_ISLNK(found.st_mode):
        real = os.path.realpath(path)
        if not _within(root, real):
            raise DataError(
                f"{shown(path)}: is a link to a file outside its folder; put the file itself there"
            )
        try:
            found = os.stat(real)
        except OSError:
            return (0, 0, 0)
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _within(root: str, path: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))
