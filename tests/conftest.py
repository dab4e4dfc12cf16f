"""One CPU thread: bytes are promised for one thread count, and two busy test runs do not fight."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from forking import Warm

# Workers and processes read what one has compiled, in __pycache__, also where the machine's owner has none
# written: compiling the tests and the package again takes longer than most of the tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Before torch is imported, which this file must not do: some tests watch that nothing else does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes to be drawn or tried says how busy the machine is, and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage while tests are collected, and later not among them: none of them is."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class Examples:
    """Look for examples only in files that have some: the others (mlflow, wandb) need not be imported."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(self, file_path, parent):
        option, chosen = parent.config.option, parent.config.option.doctestmodules
        option.doctestmodules = chosen and file_path.suffix == ".py" and b">>> " in file_path.read_bytes()
        try:
            return (yield)
        finally:
            option.doctestmodules = chosen


def pytest_configure(config):
    """Also for src, which this file is not beside."""
    config.pluginmanager.register(Examples())


def pytest_xdist_auto_num_workers(config):
    """No workers where files or tests are named: they would take longer to start than they save."""
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0
    return None  # one for each core, which is pytest-xdist's own answer


LONG = (
    *("tests/core/test_kernels.py", "tests/faults/test_compiling.py", "tests/test_notebook.py"),
    *("tests/training/test_compil", "tests/training/test_memory.py", "tests/training/test_streaming.py"),
)
TRAIN = ("src/slipstream/diagnosis/", "src/slipstream/inference/")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Whatever is exhaustive is slow, and so are the examples of docstrings that train.

    The longest tests come first: at the end no worker has one left that the others would wait for.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    for item in items:
        if item.get_closest_marker("exhaustive") or item.nodeid.startswith(TRAIN):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Images that runs keep for the next one stay out of the user's folder, and out of the other workers'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """One process for all tests that has imported torch and forks others."""
    made = Warm(tmp_path_factory.mktemp("warm"))
    yield made
    made.close()


@pytest.fixture
def mine(tmp_path):
    """A folder with the user's own options: writes one and looks there, until the test ends."""
    from slipstream.config import composition

    def write(file, text):
        path = tmp_path / "mine" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        composition.use_folder(str(tmp_path / "mine"))
        return path

    yield write
    composition.use_folder(None)


@pytest.fixture
def hangup_ends():
    """SIGHUP has its usual meaning, also where nohup runs the tests."""
    number = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
    before = signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)
