"""Folders that an attacker prepared, with links: nothing outside a run is written, removed or obeyed."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import pytest

from ondisk import bytes_of, small_sweep_in, train_in, tree
from sampling import slow_after
from slipstream.cli import main
from slipstream.core import folders, storage
from slipstream.core.errors import UserError
from slipstream.runs import checkpoints
from source_files import nodes

SOURCE = Path(__file__).resolve().parents[2] / "src"
MINE = "export PATH=/bin\n"  # of a shell's start-up file
posix = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")

IN_A_RUN = (
    *(".holder", ".lock", "config.yaml", "overrides.yaml", "preprocessing.json", "metrics.jsonl"),
    *("timings.jsonl", "summary.json", ".metrics.jsonl.tmp", ".timings.jsonl.tmp", ".summary.json.tmp"),
    *(".config.yaml.tmp", ".overrides.yaml.tmp", ".preprocessing.json.tmp", "error.txt"),
    *("events.out.tfevents.1.host.1.123456789012", "checkpoints/tmp-step-00000001-0123abcd"),
    *("checkpoints/step-00000001", "checkpoints/step-99999999", "anything"),
    *("checkpoints/step-00000009/manifest.json", "checkpoints/step-00000009/weights.safetensors"),
)
IN_A_SWEEP = (
    *("sweep.json", "leaderboard.csv", "report.json", ".leaderboard.csv.tmp", "study.journal"),
    *("study.journal.lock", "workers/host-1-1.log", "workers/host-1-01234567.lease", "packing/a.json"),
    *(".report.lock", "packing/a.lock", "0/summary.json", "1/.worker", "2/metrics.jsonl", "2/.holder", "7"),
    "events.out.tfevents.1.host.1.123456789012",
)


def test_a_lock_that_goes_away_while_one_looks_is_no_mistake(tmp_path, monkeypatch):
    """A process releases it between listing the folder's names and looking at this one."""
    (tmp_path / ".lock").touch()
    plain = os.scandir

    @contextmanager
    def scandir(folder):
        with plain(folder) as entries:
            found = list(entries)
        (tmp_path / ".lock").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scandir)
    folders.require_own(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that ended, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "run"
    train_in(folder, {"logger": ["tensorboard"], "trainer.max_epochs": 1})
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep that ended, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "sweep"
    assert small_sweep_in(folder) == 0
    return folder


def planted(made: Path, folder: Path, name: str, target: Path) -> Path:
    """A copy of what was made, in which a name is a link to the target."""
    shutil.copytree(made, folder)
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of the command line, which ends with 2 and no traceback."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    shown = capsys.readouterr()
    assert end.value.code == 2, shown.out + shown.err
    assert "Traceback" not in shown.err
    return shown.out + shown.err


@posix
@pytest.mark.parametrize("name", slow_after(3, IN_A_RUN))
def test_a_link_out_of_a_runs_folder_is_refused_before_anything_is_touched(run, tmp_path, capsys, name):
    """`resume=` of a folder with a link at any name: exit code 2, the link named, the file that it points to
    and the folder as they were."""
    (tmp_path / "bashrc").write_text(MINE)
    folder = planted(run, tmp_path / "run", name, tmp_path / "bashrc")
    before = tree(folder)
    said = refused(capsys, f"resume={folder}", "trainer.max_epochs=2")
    assert f"{folder / name}: is a symbolic link to {tmp_path / 'bashrc'}" in said
    assert tree(folder) == before
    assert (tmp_path / "bashrc").read_text() == MINE


@pytest.mark.slow
@posix
@pytest.mark.parametrize("name", IN_A_SWEEP)
def test_a_link_out_of_a_sweeps_folder_is_refused(sweep, tmp_path, capsys, name):
    """The same for every file of a sweep, and a member's folder."""
    (tmp_path / "bashrc").write_text(MINE)
    folder = planted(sweep, tmp_path / "sweep", name, tmp_path / "bashrc")
    assert f"{folder / name}: is a symbolic link to" in refused(capsys, f"resume={folder}")
    assert (tmp_path / "bashrc").read_text() == MINE


@posix
@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/step-00000003"])
def test_what_a_linked_folder_points_to_is_not_pruned(run, tmp_path, capsys, name):
    """A folder of checkpoints that is a link: nothing at its target is removed or added."""
    shutil.copytree(run / "checkpoints", tmp_path / "others")
    (tmp_path / "others" / "tmp-step-00000001-0123abcd").mkdir()
    before = sorted(str(path) for path in (tmp_path / "others").rglob("*"))
    folder = planted(run, tmp_path / "run", name, tmp_path / "others")
    refused(capsys, f"resume={folder}", "trainer.max_epochs=2")
    assert sorted(str(path) for path in (tmp_path / "others").rglob("*")) == before


@posix
def test_a_link_into_a_new_runs_folder_is_refused(tmp_path):
    """A folder that an attacker prepared for a new run."""
    (tmp_path / "bashrc").write_text(MINE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".holder").symlink_to(tmp_path / "bashrc")
    with pytest.raises(UserError, match=r"\.holder: is a symbolic link to .*bashrc"):
        train_in(tmp_path / "run")
    assert (tmp_path / "bashrc").read_text() == MINE
    assert os.listdir(tmp_path / "run") == [".holder"]


@pytest.mark.slow
@posix
def test_a_folder_that_is_reached_through_the_users_own_link_works(run, tmp_path):
    """The user's outputs may be a link to another disk, and the run itself; so may what stays inside."""
    shutil.copytree(run, tmp_path / "disk" / "run")
    (tmp_path / "disk" / "run" / "newest").symlink_to("checkpoints")
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    (tmp_path / "last").symlink_to(tmp_path / "outputs" / "run")
    changes = {"logger": ["tensorboard"], "trainer.max_epochs": 2}
    assert train_in(tmp_path / "outputs" / "run", changes, resume=True).status == "finished"
    assert train_in(tmp_path / "last", changes | {"trainer.max_epochs": 3}, resume=True).status == "finished"


@posix
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_pipe_in_a_runs_folder_is_refused(run, tmp_path, capsys, kind):
    """Reading or writing there would wait forever."""
    import socket

    shutil.copytree(run, tmp_path / "run")
    place = tmp_path / "run" / "timings.jsonl"
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(place))
    assert "timings.jsonl: is neither a file nor a folder" in refused(capsys, f"resume={tmp_path / 'run'}")


# While it runs: somebody who may write there puts links in the way


@posix
@pytest.mark.parametrize("held", [True, False])
def test_no_operation_follows_a_link_at_its_last_name(tmp_path, held):
    """Opening, making and appending fail; renaming and removing take the link itself."""
    from contextlib import nullcontext

    (tmp_path / "bashrc").write_text(MINE)
    run = tmp_path / "run"
    run.mkdir()
    with folders.held(run) if held else nullcontext():
        for mode in ("x", "a", "r+"):
            (run / "f").symlink_to(tmp_path / "bashrc")
            with pytest.raises(OSError):
                folders.opened(run / "f", mode)
            folders.remove(run / "f")
        (run / "f").symlink_to(tmp_path / "bashrc")
        with pytest.raises(storage.StorageError, match="symbolic link"):
            storage.append(run / "f", [{"a": 1}])
        storage.replace(run / "f", "new")
        assert (run / "f").read_text() == "new"
        (run / "f").unlink()
        os.link(tmp_path / "bashrc", run / "f")
        with pytest.raises(storage.StorageError, match="hard link"):
            storage.append(run / "f", [{"a": 1}])
        storage.replace(run / "f", "new")
    assert (tmp_path / "bashrc").read_text() == MINE


@posix
def test_no_operation_follows_a_link_on_its_way(tmp_path):
    """A folder of the run becomes a link while it is held: nothing is made or removed at its target."""
    run, others = tmp_path / "run", tmp_path / "others"
    run.mkdir()
    others.mkdir()
    (others / "file").write_text(MINE)
    (others / "tmp-step-00000001").mkdir()
    (others / "step-00000001").mkdir()
    (run / "checkpoints").symlink_to(others)
    for operation in (
        lambda: folders.mkdir(run / "checkpoints" / "a"),
        lambda: folders.mkdir(run / "checkpoints"),
        lambda: folders.make(run / "checkpoints" / "a"),
        lambda: folders.opened(run / "checkpoints" / "file", "a"),
        lambda: folders.opened(run / "checkpoints" / "new", "x"),
        lambda: folders.rename(run / "checkpoints" / "file", run / "file"),
        lambda: folders.link(run / "checkpoints" / "file", run / "file"),
        lambda: folders.remove(run / "checkpoints" / "file"),
        lambda: folders.remove_folder(run / "checkpoints" / "tmp-step-00000001"),
        lambda: checkpoints.save(run / "checkpoints", 1, {}, {}, 1),
        lambda: checkpoints.prune(run / "checkpoints", 1),
    ):
        with folders.held(run), pytest.raises((OSError, UserError), match="symbolic link"):
            operation()
    checkpoints.clean(run / "checkpoints")
    assert sorted(os.listdir(others)) == ["file", "step-00000001", "tmp-step-00000001"]
    assert (others / "file").read_text() == MINE
    assert os.listdir(run) == ["checkpoints"]


@posix
def test_a_held_folder_that_is_swapped_for_a_link_is_still_the_one_that_was_opened(tmp_path):
    """A folder that was opened once is used, whatever its name refers to by then."""
    run, others = tmp_path / "run", tmp_path / "others"
    run.mkdir()
    others.mkdir()
    with folders.held(run):
        os.rename(run, tmp_path / "moved")
        run.symlink_to(others)
        storage.replace(run / "metrics.jsonl", "mine")
        folders.mkdir(run / "checkpoints")
    assert os.listdir(others) == []
    assert sorted(os.listdir(tmp_path / "moved")) == ["checkpoints", "metrics.jsonl"]


def test_temporary_names_cannot_be_foreseen_and_what_a_crash_left_of_them_goes(tmp_path):
    """Two names of one file differ in 128 bits; only files of such names are removed, by the next claim."""
    path = tmp_path / "metrics.jsonl"
    one, two = folders.temporary(path), folders.temporary(path)
    assert one != two
    assert re.fullmatch(r"\.metrics\.jsonl\.[0-9a-f]{32}\.tmp", one.name)
    mine = [".metrics.jsonl.mine.tmp", "notes.tmp", ".notes.tmp", "tmp-1", f"{'0' * 32}.tmp"]
    for file in (one, two, tmp_path / ".summary.json.tmp", *(tmp_path / name for name in mine)):
        file.write_text("half")
    folders.remove_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(mine)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_disk_without_hard_links_holds_runs_and_sweeps(sweep, tmp_path, monkeypatch, number):
    """vfat and some network disks: a sweep ends there with the bytes that it has elsewhere, one plan is
    written, and nothing temporary stays."""

    def refuse(*paths, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    assert small_sweep_in(tmp_path / "sweep") == 0
    for k in ("0", "1", "2"):
        assert bytes_of(tmp_path / "sweep" / k) == bytes_of(sweep / k)
    assert (tmp_path / "sweep" / "sweep.json").read_bytes() == (sweep / "sweep.json").read_bytes()
    assert not [path for path in (tmp_path / "sweep").rglob("*") if path.name.endswith(".tmp")]


def test_of_two_that_write_first_one_does_with_and_without_links(tmp_path, monkeypatch):
    """The second leaves what stands there."""
    for name in ("with", "without"):
        assert storage.write_first(tmp_path / name, "one")
        assert not storage.write_first(tmp_path / name, "two")
        assert (tmp_path / name).read_text() == "one"
        monkeypatch.setattr(os, "link", lambda *paths, **options: os.stat(tmp_path / "nowhere"))


# The whole package

CHANGES = {
    *("unlink", "rmtree", "rename", "renames", "mkdir", "makedirs", "rmdir", "remove", "removedirs", "touch"),
    *("symlink", "symlink_to", "link", "hardlink_to", "write_text", "write_bytes", "truncate", "chmod"),
    *("copyfile", "copy2", "copytree", "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory"),
    *("mkfifo", "TemporaryFile", "tofile", "savez", "save_file", "write_csv", "write_parquet"),
    *("open_memmap", "memmap", "shutil.move", "os.replace"),
}
NOT_FILES = ("Image.open", "tarfile.open")  # opened for reading only, whatever stands there
# Module -> what it may do besides, and why.
ALLOWED = {
    "core.folders": {"*"},  # the one that does it for all
    "models.initialize": {"handle.remove"},  # of a hook
    "data.sources.hub": {"tempfile.TemporaryDirectory"},  # the system's own, with a name nobody knows
    "data.image.cache": {"np.memmap"},  # mode r
    "data.own_source": {"tempfile.NamedTemporaryFile", "np.memmap"},  # the system's own, removed at once
    "loggers.tensorboard": {"file.truncate"},  # of files that folders opened
    "loggers.metrics_csv": {"file.truncate"},
    "sweeps.search.journal": {"file.truncate"},
    "inference.result_files": {"picture.save"},  # into a file that folders opened
    "inference.html_report": {"picture.save"},  # into memory
    # Methods of that name, which write by folders.
    "inference.estimator_base": {"readable.save"},
    "inference.fitted_run": {"self.origin.trained.save"},
    # The system's own, for a sweep without a folder.
    "inference.fitting": {"tempfile.mkdtemp", "shutil.rmtree"},
    "inference.export.exporting": {
        "made.save",
        "torch.export.save",
    },  # into a new folder of an unpredictable name
    "inference.export.loader": {"open"},  # runs without slipstream
    # Columns are renamed; standard input in the system's own place; Parquet's parts have unpredictable names.
    "inference.prediction_files": {
        *("frame.rename", "NamedTemporaryFile", "frame.write_parquet", "frame.write_csv"),
    },
    "inference.serving.uploads": {"NamedTemporaryFile"},  # an image of a request, in the system's own place
    # Inductor's cache: a folder of the system's, or of the user's own.
    "training.backend.compilation": {"mkdtemp", "TemporaryFile", "shutil.rmtree"},
    "training.backend.compilers": {"TemporaryFile"},
}


def changes(nodes: Iterable[ast.AST]):
    """Yield (name, line) of every call that changes a file or a folder, or may."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr not in ("rmtree", "remove", "unlink"):
            continue  # unparsing takes long
        text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute) else ""
        if isinstance(node, ast.Attribute) and text in ("shutil.rmtree", "os.remove", "os.unlink"):
            yield text, node.lineno  # handed on, as in atexit.register(shutil.rmtree, ...)
        if not isinstance(node, ast.Call) or "os.devnull" in text:
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        if called.startswith("folders.") or called in NOT_FILES:
            continue
        if called == "os.open":
            found = "os.O_RDONLY" not in text
        elif name in ("open", "fdopen"):
            mode = _mode(node)
            found = mode is None or any(letter in mode for letter in "wax+")
        elif called.endswith(".replace"):
            found = called == "os.replace" or len(node.args) == 1  # of a path; of a text it takes two
        elif name == "save":
            found = "checkpoints" not in called and not (node.args and ast.unparse(node.args[0]) == "buffer")
            found = found and bool(node.args) and "progress" not in text
        else:
            found = name in CHANGES or called in CHANGES
        if found:
            yield called, node.lineno


def _mode(call: ast.Call) -> str | None:
    """Return the mode of an `open`, None if it is no constant."""
    given = [word.value for word in call.keywords if word.arg == "mode"]
    method = isinstance(call.func, ast.Attribute) and ast.unparse(call.func) not in ("gzip.open", "io.open")
    place = 0 if method else 1
    given += call.args[place : place + 1]
    if not given:
        return "r"
    return given[0].value if isinstance(given[0], ast.Constant) else None


@pytest.mark.slow
def test_one_module_changes_files():
    """Every unlink, rmtree, replace, rename, mkdir and open for writing of the package stands in `folders`,
    but for those that are listed with their reason."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        module = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removeprefix("slipstream.")
        for called, line in changes(nodes(file)):
            allowed = ALLOWED.get(module.removesuffix(".__init__"), set())
            if "*" not in allowed and called not in allowed:
                found.setdefault(module, []).append(f"{line}: {called}")
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        *("open(p, 'w')", "open(p, mode='ab')", "p.open('r+')", "p.unlink()", "os.remove(p)", "p.mkdir()"),
        *("shutil.rmtree(p)", "atexit.register(shutil.rmtree, p)", "os.replace(a, b)", "a.replace(b)"),
        *("os.open(p, os.O_WRONLY)", "open(p, mode)", "p.touch()", "tempfile.mkdtemp()", "picture.save(p)"),
        "p.write_text('')",
    ],
)
def test_the_list_sees_what_it_should(line):
    """Each of them is found, and reading is not."""
    assert list(changes(ast.walk(ast.parse(line))))
    for harmless in ("open(p)", "open(p, 'rb')", "p.open()", "text.replace('a', 'b')", "folders.remove(p)"):
        assert not list(changes(ast.walk(ast.parse(harmless))))
