"""Writing the results of a command into a folder: numbers, rows and plots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core import folders
from slipstream.core.storage import replace, writing
from slipstream.core.types import Plain

if TYPE_CHECKING:
    from PIL.Image import Image


def write_result(
    folder: Path,
    numbers: Mapping[str, Plain],
    table: str,
    pictures: Iterable[tuple[str, Image]],
    names: tuple[str, str],
) -> list[Path]:
    """Write numbers as JSON, a table as CSV and plots as PNG, and return the files.

    names: of the JSON and the CSV file. Existing files with these names are replaced. Raises StorageError if
    a file cannot be written.
    """
    with writing(folder):
        folders.mkdir(folder)
    made = [folder / name for name in names]
    replace(made[0], json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    replace(made[1], table)
    for name, picture in pictures:
        path = folder / f"{name}.png"
        with writing(path):
            folders.remove(path)
            with folders.opened(path, "xb") as file:
                picture.save(file, "PNG")
        made.append(path)
    return made
