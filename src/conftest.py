"""The surroundings of the examples in docstrings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.core import registry


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an example in an empty folder, and unregister the components that it registered."""
    monkeypatch.chdir(tmp_path)
    yield
    for group in registry._components.values():
        for name, part in list(group.items()):
            if part.function.__code__.co_filename.startswith("<doctest"):
                del group[name]
