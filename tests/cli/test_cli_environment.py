"""Help, listing and completion; poor surroundings; components of the user's own."""

import io
import sys

import pytest
import yaml

from sampling import exhaustive_after, slow_after

# Help and listing


def test_help_is_ours(slipstream):
    """--help shows how to run and all groups."""
    result = slipstream("--help")
    assert result.code == 0
    for text in ("python train.py", "optimizer: adadelta", "slipstream list", "resume=", "$(python train.py"):
        assert text in result.out
    assert "_base" not in result.out


def test_the_configuration_can_be_printed(slipstream):
    """--cfg job prints YAML that has every key, and runs nothing."""
    result = slipstream("--cfg", "job", "--resolve", "optimizer=sgd")
    shown = yaml.safe_load(result.out)
    assert result.code == 0
    assert shown["optimizer"]["name"] == "sgd"
    assert shown["name"] == "digits"


def test_version(slipstream):
    """--version is slipstream's."""
    assert slipstream("--version").out.startswith("slipstream 0.")


@pytest.mark.slow
def test_list_shows_groups_options_and_settings(slipstream):
    """Each level of the listing has what the next one needs, down to type, range, default and source."""
    assert "early_stopping" in slipstream("list").out
    assert "schedule_free" in slipstream("list", "optimizer").out
    page = slipstream("list", "optimizer", "adam")
    assert page.code == 0
    for text in ("optimizer.beta1", "number >= 0 and < 1", "0.999", "Kingma"):
        assert text in page.out
    assert slipstream("list", "optimizer=adam").out == page.out
    assert "regularizer.dropout.rate" in slipstream("list", "regularizer", "dropout").out
    assert "It has no settings." in slipstream("list", "activation", "relu").out
    assert "whole number >= 1 or null" in slipstream("list", "trainer", "default").out


@pytest.mark.slow
def test_list_finds_options_without_their_group(slipstream):
    """An option alone is looked up in every group; experiments are listed; --help says how."""
    assert slipstream("list", "adam").out == slipstream("list", "optimizer", "adam").out
    assert "logger=none" in slipstream("list", "none").out
    assert "early_stopping=none" in slipstream("list", "none").out
    assert "perceptron_xor" in slipstream("list").out
    assert "Minsky & Papert" in slipstream("list", "experiment").out
    assert slipstream("list", "--help").out.startswith("slipstream list")


def test_list_shows_experiments_of_ones_own(tmp_path, slipstream):
    """--config-dir adds experiments, and its own come first."""
    (tmp_path / "experiment").mkdir()
    for name in ("mine", "xor"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n# My {name}.\nseed: 5\n")
    own = ("--config-dir", str(tmp_path))
    assert "mine  " in slipstream(*own, "list", "experiment").out
    assert "mine" in slipstream("list", *own).out
    assert slipstream("list", "experiment", "mine", *own).out.startswith("experiment=mine\n\nMy mine.")
    assert "My xor." in slipstream("list", "experiment", "xor", *own).out
    assert slipstream("list", "experiment", "mine").code == 2


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("slipstream list opt", "optimizer"),
        ("python train.py list experiment xo", "xor"),
        ("slipstream list logger ", "csv mlflow none tensorboard wandb"),
        ("python train.py data=_", ""),
        ("python train.py [", ""),
    ],
)
def test_completion_of_list_and_of_nothing(line, offered, slipstream, monkeypatch):
    """`list` completes groups and options; no file that is no option is offered, and no error."""
    monkeypatch.setenv("COMP_LINE", line)
    result = slipstream("-sc", "query=bash")
    assert (result.code, result.out.strip(), result.err) == (0, offered, "")


def test_completion_offers_options(slipstream, monkeypatch):
    """Tab completion knows the options of a group."""
    monkeypatch.setenv("COMP_LINE", "python train.py optimizer=adam")
    offered = slipstream("-sc", "query=bash").out.split()
    assert offered == ["optimizer=adam", "optimizer=adamax", "optimizer=adamw"]


# The environment, in processes of their own


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["optimizer=adm"], ["--help"], ["list", "activation", "softmax"], ["-sc", "query=bash"]],
)
def test_what_answers_at_once_imports_no_torch(arguments, tmp_path, shell):
    """Help, listing, completion and mistakes do not pay for torch, polars or scikit-learn."""
    (tmp_path / "ask.py").write_text(
        "import sys\nfrom slipstream.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'polars', 'sklearn', 'tensorboard', 'pandas') if m in sys.modules])"
    )
    done = shell(f"'{sys.executable}' ask.py", COMP_LINE="python train.py optimizer=ad")
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    exhaustive_after(
        1,
        [
            {
                "LC_ALL": "C",
                "PYTHONIOENCODING": "ascii",
                "HOME": "/nonexistent",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            {"TERM": "dumb"},
            {"COLUMNS": "30"},
        ],
    ),
    ids=str,
)
def test_e04_to_e07_poor_surroundings(environment, shell):
    """An ASCII locale, a dumb or narrow terminal and a missing home do not matter."""
    done = shell("$TRAIN list activation softmax", **environment)
    assert done.returncode == 0
    assert "probabilities" in done.stdout
    assert done.stderr == ""
    assert shell("$TRAIN optimizer=adm", **environment).returncode == 2


@pytest.mark.slow
def test_e03_a_user_without_a_passwd_entry(slipstream, monkeypatch):
    """A container's numeric user, whom no file knows, can run, ask and be corrected."""

    def unknown(*_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert slipstream().code == 0
    assert slipstream("list").code == 0
    assert slipstream("optimizer=adm").code == 2


@pytest.mark.parametrize("command", slow_after(1, ["list optimizer", "--help", "--cfg job"]))
def test_e08_a_reader_that_goes_away(command, shell):
    """`| head -1` gets its line; no traceback follows."""
    done = shell(f"set -o pipefail; $TRAIN {command} | head -1")
    assert done.returncode in (0, 141)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.slow
def test_e08_stdout_closed_from_the_start(shell):
    """`>&-` is no error."""
    done = shell("$TRAIN list >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_pipe_inside_the_engine(slipstream, engine, monkeypatch, tmp_path):
    """Where the engine's output breaks the pipe, the command ends like any other: 141, silently."""
    engine.outcome = BrokenPipeError()
    with open(tmp_path / "out", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert slipstream().code == 141


def test_streams_without_a_file_are_fine(slipstream, monkeypatch):
    """A notebook's or test's stand-in for stdout cannot be reconfigured, and need not be."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert slipstream("--version").code == 0


# Components of the user's own


@pytest.mark.slow
def test_a_train_py_of_the_users_own(tmp_path, shell):
    """Three lines that import a module with a component make it an option, listed and validated."""
    (tmp_path / "mine.py").write_text(
        "from slipstream.core.registry import register\n"
        "from slipstream.core.types import Positive\n\n"
        "@register('activation')\n"
        "def wave(x, *, speed: Positive):\n"
        "    '''f(x) = sin(speed x).'''\n"
        "    return (speed * x).sin()\n"
    )
    (tmp_path / "train.py").write_text("import mine\nfrom slipstream.cli import main\nmain()\n")
    (tmp_path / "own" / "activation").mkdir(parents=True)
    (tmp_path / "own" / "activation" / "wave.yaml").write_text("name: wave\nspeed: 2\n")
    own = "--config-dir own activation=wave"

    def command(arguments):
        return shell(f"'{sys.executable}' train.py {arguments}")

    assert "speed: 2" in command(f"{own} --cfg job").stdout
    found = command(f"{own} activation.speed=-1").stderr
    assert "activation.speed: found -1, expected number > 0" in found
    assert "f(x) = sin(speed x)." in command("list activation").stdout


def entry_point(tmp_path, monkeypatch, module):
    (tmp_path / "plug-1.dist-info").mkdir()
    (tmp_path / "plug-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (tmp_path / "plug-1.dist-info" / "entry_points.txt").write_text(
        "[slipstream.components]\nplug = plugged_component\n"
    )
    (tmp_path / "plugged_component.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged_component", raising=False)


def test_installed_components_are_loaded(slipstream, tmp_path, monkeypatch):
    """A package's entry point in the group slipstream.components is imported before anything else."""
    entry_point(tmp_path, monkeypatch, "loaded = True\n")
    assert slipstream("list").code == 0
    assert sys.modules["plugged_component"].loaded


def test_installed_components_that_break(slipstream, tmp_path, monkeypatch):
    """A package that cannot be imported is named; it is not a bug of slipstream."""
    entry_point(tmp_path, monkeypatch, "import no_such_module\n")
    result = slipstream("list")
    assert result.code == 2
    assert "Cannot load the installed components plug (plugged_component): ModuleNotFoundError" in result.err
