"""Reading of Weights & Biases' files: records in the blocks of LevelDB's log format."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

HEADER = b":W&B\xe1\xbe\x00"  # W&B's mark, its magic number, version 0
BLOCK = 32768
RECORD = struct.Struct("<IHB")  # checksum, length, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
STEP = "_step"


def records(file: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file, up to the first incomplete one."""
    data = file.read_bytes()
    if not data.startswith(HEADER):
        return
    place, begun = len(HEADER), b""
    while place + RECORD.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < RECORD.size:  # the end of a block is filled with zeros
            place += left
            continue
        _, length, kind = RECORD.unpack_from(data, place)
        end = place + RECORD.size + length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or end > len(data):
            return
        begun = (b"" if kind in (FULL, FIRST) else begun) + data[place + RECORD.size : end]
        if kind in (FULL, LAST):
            yield begun
        place = end


def history(file: Path) -> Iterator[dict[str, object]]:
    """Yield the lines of a run's history: metrics by name, and `_step`."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # generated

    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def last_step(folder: Path) -> int:
    """Return the last step in all files below a folder, or 0 if there are none."""
    steps = [line.get(STEP) for file in folder.glob("offline-run-*/*.wandb") for line in history(file)]
    return max((step for step in steps if isinstance(step, int)), default=0)
