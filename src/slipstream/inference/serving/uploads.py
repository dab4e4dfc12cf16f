"""Uploaded files: one image or CSV as the body, or several as multipart/form-data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import NamedTemporaryFile

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from slipstream.core import folders
from slipstream.core.errors import DataError
from slipstream.core.wording import counted
from slipstream.data.image.image_files import BadImage, opened
from slipstream.data.messages import brief
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving.connections import again
from slipstream.inference.serving.refusals import Problem, RequestError
from slipstream.inference.serving.row_checking import RequestRows

PIXELS = 25_000_000  # the largest image, 100 MB decoded
ENDINGS = {
    **dict.fromkeys((".csv", ".tsv"), "text/csv"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp"), "image/*"),
    ".txt": "text/plain",
    ".json": "application/json",
}


@dataclass(frozen=True)
class Upload:
    """A file of a request. kind: its media type, as declared or by its name."""

    name: str
    kind: str
    content: bytes


async def uploads_of(request: Request, body: bytes, most: int) -> list[Upload]:
    """Return the files of a multipart body. Raises RequestError for other parts."""
    try:
        form = await Request(request.scope, again(body)).form(max_files=most, max_fields=most)
    except (HTTPException, ValueError, KeyError) as error:
        told = getattr(error, "detail", None) or str(error) or "it has no boundary"
        raise RequestError(400, f"the multipart body cannot be read: {told}") from None
    found = []
    try:
        for name, part in form.multi_items():
            if not isinstance(part, UploadFile):
                told = f"the part {brief(name)} is a value, expected a file, such as curl -F file=@new.csv"
                raise RequestError(400, told)
            found.append(Upload(part.filename or name, _kind(part), await part.read()))
    finally:
        await form.close()
    if not found:
        raise RequestError(422, "the multipart body has no file; expected one, such as curl -F file=@new.csv")
    return found


def _kind(part: UploadFile) -> str:
    said = (part.content_type or "").partition(";")[0].strip().lower()
    if said.startswith("image/"):
        return said
    return ENDINGS.get(PurePath(part.filename or "").suffix.lower(), said)


def images_of(ensemble: Ensemble, files: Sequence[Upload]) -> RequestRows:
    """Decode images as in training. Raises RequestError, with the reason, for other files.

    Only headers are read before an image's pixels are counted.
    """
    preprocessing, settings = ensemble.first.preprocessing, ensemble.first.data
    made, problems = [], []
    for number, file in enumerate(files, 1):
        with NamedTemporaryFile(suffix=".image", delete=False) as held:
            held.write(file.content)
        try:
            with opened(held.name) as image:
                width, height = image.size
            if width * height > PIXELS:
                found = f"{brief(file.name)} has {width:,} x {height:,} pixels"
                raise RequestError(413, f"{found}, expected at most {PIXELS:,} in total")
            made.append(preprocessing.transform([held.name], settings)[0])
        except BadImage as error:
            problems.append(Problem(number, None, f"{brief(file.name)} {error}"))
        except DataError as error:
            problems.append(Problem(number, None, str(error).replace(held.name, file.name)))
        finally:
            folders.remove(Path(held.name))
    if problems:
        told = f"{counted(len(problems), 'image')} cannot be used: {problems[0].message}"
        raise RequestError(422, told, problems)
    return RequestRows(np.concatenate(made), len(made))
