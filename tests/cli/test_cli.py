"""The command line: exit codes, one message and no traceback, nothing on disk before all is valid."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sampling import slow_after
from slipstream.cli import early_signals
from slipstream.core.errors import ConfigError, DataError

# Running


@pytest.mark.slow
def test_a_run_gets_its_configuration_and_its_folder(slipstream, engine):
    """The engine is called once, with the typed configuration, an existing folder and what was typed."""
    result = slipstream("optimizer=sgd", "optimizer.lr=0.5", "name=mine")
    (call,) = engine
    assert (result.code, result.out, result.err) == (0, "", "")
    assert call.config.optimizer.settings == {"lr": 0.5}
    assert call.overrides == ["optimizer=sgd", "optimizer.lr=0.5", "name=mine"]
    assert call.directory.parent == Path.cwd() / "outputs" / "mine"
    assert sorted(file.name for file in call.directory.iterdir()) == ["config.yaml", "overrides.yaml"]
    assert not call.resume


@pytest.mark.slow
def test_runs_that_start_together_have_folders_of_their_own(slipstream, engine):
    """Two runs within a second do not share a folder."""
    slipstream()
    slipstream()
    assert engine[0].directory != engine[1].directory


@pytest.mark.parametrize("code", [0, 3, 130, 143])
def test_the_exit_code_is_the_engines(slipstream, engine, code):
    """Finished, diverged, interrupted: the command ends with what the engine says."""
    engine.outcome = code
    assert slipstream().code == code


def test_a_mistake_that_only_the_engine_sees(slipstream, engine):
    """A UserError of the engine is one message, exit code 2 and no traceback."""
    engine.outcome = DataError("my.csv, row 7: found 'x'")
    result = slipstream()
    assert (result.code, result.err) == (2, "my.csv, row 7: found 'x'\n")


@pytest.mark.slow
@pytest.mark.parametrize("there", ["", "outputs", "outputs/digits", "mine"])
def test_a_mistake_in_the_data_leaves_no_folder(slipstream, engine, there):
    """What Hydra made for the run is removed up to what was there before, empty or not."""
    engine.outcome = DataError("my.csv, row 7: found 'x'")
    Path(there).mkdir(parents=True, exist_ok=True)
    before = sorted(Path().rglob("*"))
    for arguments in ((), ("hydra.run.dir=mine/a/b",), ("hydra.run.dir=x/y",)):
        if there != "mine" or "mine" not in str(arguments):
            slipstream(*arguments)
            assert sorted(Path().rglob("*")) == before


@pytest.mark.slow
def test_a_mistake_that_only_the_data_tell_names_the_experiment(slipstream, engine):
    """Whether a table's target are classes is known late; who chose label smoothing is said all the same."""
    engine.outcome = ConfigError(["regularizer.label_smoothing: is for classes, the table is regression"])
    err = slipstream("experiment=realmlp", "data=wine").err
    assert "(regularizer.label_smoothing comes from experiment=realmlp: take" in err


@pytest.mark.slow
def test_a_bug_is_called_a_bug(slipstream, monkeypatch):
    """Any other exception ends with 1, the traceback and the request to report it."""
    monkeypatch.setitem(sys.modules, "slipstream.runs.session", SimpleNamespace(run=None))
    result = slipstream()
    assert result.code == 1
    assert "TypeError: 'NoneType' object is not callable" in result.err
    assert "This is a bug in slipstream" in result.err


def test_interrupt_while_composing(slipstream, monkeypatch):
    """Ctrl-C before training starts ends with 130 and without a traceback."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("slipstream.cli.entry.check", interrupt)
    result = slipstream()
    assert (result.code, result.out) == (130, "")
    assert result.err == "interrupted before training started\n"


def test_interrupt_while_a_run_starts(slipstream, monkeypatch):
    """Ctrl-C while torch is loaded or data are read leaves no folder, says so and ends with 130."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "slipstream.runs.session", SimpleNamespace(run=interrupt))
    result = slipstream("name=early")
    assert (result.code, result.out) == (130, "")
    assert result.err == "interrupted before training started\n"
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize("number", early_signals.ENDING)
def test_a_signal_while_a_run_starts(number, slipstream, monkeypatch):
    """SIGTERM, SIGHUP and SIGXCPU before training leave no folder, and end with their codes."""
    before = signal.getsignal(number)
    monkeypatch.setitem(
        sys.modules,
        "slipstream.runs.session",
        SimpleNamespace(run=lambda *_, **__: signal.raise_signal(number)),
    )
    result = slipstream("name=early")
    assert (result.code, result.out) == (128 + number, "")
    assert result.err == "interrupted before training started\n"
    assert list(Path.cwd().iterdir()) == []
    assert signal.getsignal(number) == before


@pytest.mark.slow
@pytest.mark.parametrize("flag", [[], ["-m", "seed=0,1"]])
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["optimizer.lr=0.1", "optimizer.lr=0.01"], "optimizer.lr: is set 2 times, to 0.1 and 0.01"),
        (["data=digits", "data=iris"], "data: is set 2 times, to digits and iris; set it once"),
    ],
)
def test_a_key_typed_twice_is_refused(slipstream, engine, typed, said, flag):
    """Two values of one key are refused, alone and in a sweep; the same value twice is accepted."""
    result = slipstream(*flag, *typed)
    assert result.code == 2
    assert said in result.err
    assert slipstream(*flag, typed[0], typed[0]).code == 0


# Mistakes

MISTAKES = {
    "C1": (["optimiser=adam"], "did you mean optimizer=adam?"),
    "C2": (["+optimizer.lrr=1"], "did you mean optimizer.lr=1?"),
    "C3": (["model.depth=abc"], "expected whole number >= 0"),
    "C4": (["optimizer.lr=nan"], "(finite)"),
    "C5": (["trainer.max_epochs=-5"], "expected whole number >= 1"),
    "C6": (["model.depth=true"], "found true"),
    "C7": (["regularizer=[drop]"], "did you mean dropout?"),
    "C8": (["activation=softmax"], "is meant for the output layer"),
    "C9": (["optimizer=gradient_descent", "data.batch_size=4"], "whole training set"),
    "C12": (["seed=${no.such}"], "refers to nothing"),
    "sweep": (["-m", "optimizer=sgd,adm", "seed=1,-1"], "did you mean adam?"),
    "sweep of what cannot be read": (["-m", "data.target=[a", "seed=1,2"], "1 problem in"),
    "Hydra's own key": (["hydra.job.chdir=abc"], "is not a valid bool"),
    "folder": (["--config-dir", "/no/such"], "no such folder"),
    "resume": (["resume=/no/such"], "no such folder"),
    "resume a sweep": (["-m", "resume=/tmp", "seed=1,2"], "remove -m"),
    "S4": (
        ["-m", "optimizer=sgd,adam", "optimizer.lr=1,-1"],
        "(in optimizer=sgd optimizer.lr=-1, and 1 more)",
    ),
    "sweep setting without -m": (["sweep.repeats=5"], "add -m"),
    "sweep option": (["-m", "sweep=tp", "seed=1,2"], "did you mean tpe?"),
    "searching one by one": (["-m", "hydra/launcher=basic", "sweep=tpe", "seed=1,2"], "hydra/launcher=packs"),
    "batches": (
        ["-m", "hydra/sweeper=basic", "hydra.sweeper.max_batch_size=1", "seed=1,2"],
        "max_batch_size",
    ),
    "flag": (["--config-name", "other"], "--config-dir"),
    "unknown flag": (["--nonsense"], "no such flag"),
    "--cfg": (["--cfg", "job", "optimizer=adm"], "did you mean adam?"),
    "--cfg key": (["--cfg", "job", "optimizer.lrr=1"], "did you mean optimizer.lr=1?"),
    "--package": (["--cfg", "job", "-p", "nothing"], "not found in config"),
    "completion": (["-sc", "install=tcsh"], "expected install=SHELL"),
    "list group": (["list", "optimiser"], "did you mean optimizer?"),
    "list option": (["list", "optimizer", "adm"], "did you mean adam?"),
    "list more": (["list", "a", "b", "c"], "expected list [GROUP [OPTION]]"),
}


@pytest.mark.parametrize("mistake", slow_after(3, MISTAKES))
def test_a_mistake_ends_with_2_one_message_and_nothing_on_disk(slipstream, engine, mistake):
    """Every user's mistake: exit code 2, the hint, no traceback, no engine and no folder."""
    arguments, hint = MISTAKES[mistake]
    result = slipstream(*arguments)
    assert result.code == 2
    assert hint in result.err
    assert "Traceback" not in result.err
    assert "full_key" not in result.err
    assert not engine
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("key", ["hydra.run.dir=/dev/null/x", "-m hydra.sweep.dir=/dev/null/x seed=1,2"])
def test_p11_a_folder_that_cannot_be_made(slipstream, engine, key):
    """Where the run's folder cannot be made, it is named before any data is read."""
    result = slipstream(*key.split())
    assert result.code == 2
    kind = "sweep" if "-m" in key else "run"
    assert f"/dev/null/x: cannot create the folder of the {kind}: Not a directory" in result.err
    assert not engine
    assert not engine.sweeps


# Sweeps, job by job

BASIC = ("-m", "hydra/launcher=basic")


@pytest.mark.slow
def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(slipstream, engine):
    """hydra/launcher=basic calls the engine once a job, below one folder."""
    assert slipstream(*BASIC, "optimizer=sgd,adam", "seed=1,2").code == 0
    assert [(c.config.optimizer.name, c.config.seed) for c in engine] == [
        *(("sgd", 1), ("sgd", 2), ("adam", 1), ("adam", 2))
    ]
    assert [call.directory.name for call in engine] == ["0", "1", "2", "3"]
    assert len({call.directory.parent for call in engine}) == 1
    assert not engine.sweeps
    assert engine[1].overrides == ["optimizer=sgd", "seed=2"]


@pytest.mark.slow
def test_a_sweep_says_which_job_is_which(slipstream, engine):
    """A heading stands above every job; a table at the end has each with its outcome."""
    out = slipstream(*BASIC, "data=iris", "optimizer=sgd,adam", "seed=1,2").out.splitlines()
    assert [line for line in out if "/4 " in line][1] == "2/4  optimizer=sgd  seed=2"
    rows = [line.split() for line in out]
    head = rows.index(["folder", "job", "status", "best", "epoch", "val/loss"])
    assert rows[head + 4] == ["3", "optimizer=adam", "seed=2", "finished", "7", "0.25"]
    assert out[-1] == str(engine[0].directory.parent)


@pytest.mark.slow
def test_a_failed_job_stands_in_the_table(slipstream, engine):
    """A job that ended with an error has a row."""
    engine.outcome = DataError("bad")
    assert slipstream(*BASIC, "seed=1,2").out.count("  failed  ") == 2


@pytest.mark.slow
def test_a_silent_sweep(slipstream):
    """trainer.progress=none holds for headings and the table too."""
    assert slipstream(*BASIC, "seed=1,2", "trainer.progress=none").out == ""


@pytest.mark.slow
def test_a_failed_member_does_not_stop_a_sweep(slipstream, engine):
    """Jobs that fail are named and let the others run; the sweep ends with 3."""
    engine.outcome = DataError("bad")
    result = slipstream(*BASIC, "seed=1,2")
    text = "job 0 of the sweep: bad\njob 1 of the sweep: bad\n"
    assert (result.code, len(engine), result.err) == (3, 2, text)


@pytest.mark.slow
def test_a_signal_or_a_bug_stops_a_sweep(slipstream, engine, monkeypatch):
    """After Ctrl-C, and after a bug, no further job starts."""
    engine.outcome = 130
    assert slipstream(*BASIC, "seed=1,2").code == 130
    assert len(engine) == 1
    monkeypatch.setitem(sys.modules, "slipstream.runs.session", SimpleNamespace(run=None))
    result = slipstream(*BASIC, "seed=1,2")
    assert result.code == 1
    assert "2/2" not in result.out


# Resuming


@pytest.mark.slow
def test_resume_replays_in_the_same_folder(slipstream, engine):
    """resume=DIR runs what was typed then, what is typed now, in DIR, and says that it resumes."""
    slipstream("optimizer=sgd", "optimizer.lr=0.2")
    first = engine[0].directory
    assert slipstream(f"resume={first}", "trainer.max_epochs=99").code == 0
    second = engine[1]
    assert second.directory == first
    assert second.resume
    assert second.overrides == ["optimizer=sgd", "optimizer.lr=0.2", "trainer.max_epochs=99"]
    assert second.config.optimizer.settings == {"lr": 0.2}
    # And once more: the folder now holds the extended run.
    assert slipstream(f"resume={first}").code == 0
    assert engine[2].config.trainer.max_epochs == 99


@pytest.mark.slow
def test_resume_with_another_configuration_is_refused(slipstream, engine):
    """A frozen key is named with both values, and the folder stays as it was."""
    slipstream("seed=1")
    folder = engine[0].directory
    before = {file: file.read_bytes() for file in folder.iterdir()}
    result = slipstream(f"resume={folder}", "seed=2")
    assert result.code == 2
    assert f"seed: was 1 in {folder}, now 2" in result.err
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert len(engine) == 1
