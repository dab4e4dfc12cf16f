"""Searchers: what they ask, what they learn, and that nothing is lost or counted twice."""

import json
import math
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage

from sampling import exhaustive_after, slow_after
from slipstream.core.errors import UserError
from slipstream.sweeps.plan import sweep_settings
from slipstream.sweeps.plan.space import Choices, Condition, Interval, Space
from slipstream.sweeps.search import pruners, samplers
from slipstream.sweeps.search import study as study_module
from slipstream.sweeps.search.journal import Journal
from slipstream.sweeps.search.study import Study, Trial

LINE = Space((Interval("x", 0.0, 1.0), Interval("y", 1e-4, 1.0, log=True)))
MIXED = Space(
    (
        Choices("optimizer", ("sgd", "momentum", "adam")),
        Choices("regularizer", ([], ["dropout"], ["dropout", "l2"])),
        Choices("flag", (True, None, 1, "1")),
        Choices("width", (16, 32, 64)),
        Interval("lr", 1e-4, 1.0, log=True),
        Interval("optimizer.momentum", 0.0, 0.99),
        Interval("depth", 1, 6, integer=True),
        Interval("units", 4, 512, log=True, integer=True),
    ),
    {"optimizer.momentum": Condition(("optimizer",), (("momentum",),))},
)
SAMPLERS = ("random", "quasi_random", "tpe", "cma_es", "gp")
EACH = [*SAMPLERS[:4], pytest.param("gp", marks=pytest.mark.slow)]  # gp takes a third of a second a trial
LEARNING = exhaustive_after(2, SAMPLERS[2:])  # that gp asks and is told, EACH shows
FORK = multiprocessing.get_context(None if sys.platform == "win32" else "fork")


def settings(name="random", **changes):
    own = {"name": name, "trials": 100, "at_once": 4, "seed": 3, "pruner": "none"}
    return {**own, "min_epochs": None, "reduction": None, "patience": None, **changes}


def study(path=None, space=LINE, minimize=True, epochs=27, **changes):
    return Study(path, space, settings(**changes), minimize, epochs)


def told(path=None, count=1, **changes):
    """A study with that many trials that ended with the values 0, 1, 2 ..."""
    made = study(path, **changes)
    for trial in made.ask(count):
        made.tell(trial.number, float(trial.number), "finished")
    return made


def states(path):
    """How Optuna itself reads the journal: the trials of a fresh study."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name="sweep", storage=storage).trials


def bowl(values):
    """A smooth objective over MIXED, smallest at adam, depth 3 and lr 0.01."""
    return (
        (math.log10(values["lr"]) + 2) ** 2
        + {"sgd": 2.0, "momentum": 1.0, "adam": 0.0}[values["optimizer"]]
        + 0.1 * abs(values["depth"] - 3)
    )


@pytest.mark.parametrize("name", EACH)
def test_values_are_those_of_the_space(name):
    """Every sampler, before and after it has learned, asks values of their own type within the space."""
    made = study(space=MIXED, name=name, at_once=12, trials=24)
    seen = made.ask(12)
    for trial in seen:
        made.tell(trial.number, bowl(trial.values), "finished")
    seen += made.ask(2 if name == "gp" else 12)
    choices = {axis.key: axis.values for axis in MIXED.axes if isinstance(axis, Choices)}
    for trial in seen:
        for key, possible in choices.items():
            assert any(trial.values[key] is value for value in possible), (key, trial.values[key])
        assert type(trial.values["lr"]) is float
        assert 1e-4 <= trial.values["lr"] <= 1
        assert type(trial.values["depth"]) is int
        assert 1 <= trial.values["depth"] <= 6
        assert type(trial.values["units"]) is int
        assert 4 <= trial.values["units"] <= 512
        assert ("optimizer.momentum" in trial.values) == (trial.values["optimizer"] == "momentum")
        assert list(trial.values) == [axis.key for axis in MIXED.axes if axis.key in trial.values]
    assert [trial.number for trial in seen] == list(range(len(seen)))


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_asking_goes_on_where_it_stopped(tmp_path, name):
    """Ask 19 at once, or in parts by studies opened anew: the same trials, with what was told between."""

    space = LINE if name == "gp" else MIXED

    def run(path, reopen):
        made = study(path, space, name=name, at_once=14, trials=40)
        asked = []
        for part in (7, 7, 2, 3):
            made = study(path, space, name=name, at_once=14, trials=40) if reopen else made
            asked += made.ask(part)
            if len(asked) == 14:
                for trial in asked:
                    made.tell(trial.number, trial.values["lr" if space is MIXED else "x"], "finished")
        return asked

    whole = run(tmp_path / "a", False)
    assert run(tmp_path / "b", True) == whole
    assert run(None, False) == whole
    assert len({repr(trial.values) for trial in whole}) == 19


@pytest.mark.slow
def test_asking_all_at_once_or_in_parts_is_the_same(tmp_path):
    """How many are asked in one call changes nothing, even where running trials count."""
    for name in ("random", "quasi_random", "tpe", "cma_es"):
        once, parts = told(count=12, name=name), told(count=12, name=name)
        assert once.ask(10) == parts.ask(5) + parts.ask(5), name


def test_seeds_ask_differently():
    """Another sweep.seed is another sample, for every sampler."""
    for name in SAMPLERS:
        assert study(name=name, seed=1).ask(3) != study(name=name, seed=2).ask(3)


@pytest.mark.parametrize("name", LEARNING)
def test_learning_samplers_learn(name):
    """After 60 trials of a smooth objective what is asked lies nearer the optimum than chance."""
    made = study(name=name, trials=76, at_once=12)
    for _ in range(5):
        for trial in made.ask(12):
            made.tell(trial.number, (trial.values["x"] - 0.2) ** 2, "finished")
    off = np.mean([abs(trial.values["x"] - 0.2) for trial in made.ask(12)])
    assert off < 0.2  # a uniform draw is off by 0.34


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("minimize", [True, False])
def test_divergence_is_avoided(name, minimize):
    """Searchers keep away from where trials diverge, whatever value these had reached."""
    made = study(name=name, minimize=minimize, trials=200, at_once=15)
    sign = 1 if minimize else -1
    for _ in range(4):
        for trial in made.ask(15):
            if trial.values["x"] > 0.5:
                made.tell(trial.number, sign * -1e9, "diverged")
            else:
                made.tell(trial.number, sign * (trial.values["x"] - 0.2) ** 2, "stopped_early")
    assert sum(trial.values["x"] > 0.5 for trial in made.ask(20)) <= 4  # of 20: by chance 10


@pytest.mark.parametrize("name", EACH)
def test_all_diverging_or_failing_is_no_error(name):
    """Where nothing has a value, every sampler still asks."""
    for status in ("diverged", "failed"):
        made = study(name=name, trials=20)
        for trial in made.ask(14):
            made.tell(trial.number, None, status)
        assert len(made.ask(9)) == 6


def test_quasi_random_is_sobol():
    """Trial n is point n of one scrambled Sobol sequence: every block of 16 fills every sixteenth once."""
    asked = study(name="quasi_random").ask(32)
    for block in (asked[:16], asked[16:]):
        assert sorted(int(trial.values["x"] * 16) for trial in block) == list(range(16))
    plain = Space((Choices("a", (1, 2)), Choices("b", ("p", "q"))))
    pairs = [tuple(t.values.values()) for t in study(space=plain, name="quasi_random").ask(4)]
    assert len(set(pairs)) == 4


def test_evolution_replays_cmaes():
    """The next point equals that of cmaes' own object that was told the same generations."""
    import cmaes

    made = study(name="cma_es", at_once=4, trials=100)
    size = samplers.population(made._distributions, 4, 100)
    reference = cmaes.CMA(
        mean=np.full(2, 0.5),
        sigma=samplers.SIGMA,
        bounds=np.array([[0.0, 1.0]] * 2),
        population_size=size,
    )
    for _ in range(3):
        generation = []
        for trial in made.ask(size):
            value = (trial.values["x"] - 0.3) ** 2 + trial.values["y"]
            made.tell(trial.number, value, "finished")
            place = np.array([trial.values["x"], math.log(trial.values["y"] / 1e-4) / math.log(1e4)])
            generation.append((place, value))
        reference.tell(generation)
    own = int(np.random.SeedSequence([3, 3 * size]).generate_state(1)[0])
    reference.reseed_rng(own)
    values = made.ask(1)[0].values
    x, y = reference.ask()
    # The reference was told logarithms that were taken by another formula.
    assert values["x"] == pytest.approx(x, abs=1e-9)
    assert values["y"] == pytest.approx(1e-4 * 1e4**y, rel=1e-7)


@pytest.mark.parametrize("axis", MIXED.axes, ids=lambda axis: axis.key)
def test_places_and_values_agree(axis):
    """Where a value stands is where it comes from, and equal shares are equally likely."""
    kind = samplers.distribution(axis)
    drawn = [samplers.place(kind, u) for u in np.linspace(0, 1, 201)]
    for value in drawn:
        assert samplers.place(kind, samplers.locate(kind, value)) == pytest.approx(value, rel=1e-12)
    if isinstance(axis, Choices):
        counts = np.bincount([int(value) for value in drawn])
        assert counts.max() - counts.min() <= 2


def test_numbers_in_order_are_steps_and_other_choices_a_set():
    """Three or more rising or falling numbers have an order; bools, lists and mixtures have none."""
    ordered = [(1, 2, 3), (1e-1, 1e-2, 1e-3), (0, 0.5, 2)]
    unordered = [(1, 2), (1, 3, 2), (True, False, 2), ("a", "b", "c"), (1, 2, None), ([], [1], [2])]
    for values in ordered:
        assert isinstance(samplers.distribution(Choices("k", values)), optuna.distributions.IntDistribution)
    for values in unordered:
        found = samplers.distribution(Choices("k", values))
        assert isinstance(found, optuna.distributions.CategoricalDistribution), values


def test_no_more_trials_than_asked_for(tmp_path):
    """`trials` counts all workers and all that was asked before, whatever became of it."""
    first, second = study(tmp_path / "j", trials=10), study(tmp_path / "j", trials=10)
    numbers = [trial.number for made in (first, second, first) for trial in made.ask(4)]
    assert numbers == list(range(10))
    first.tell(0, None, "failed")
    assert first.ask(1) == second.ask(1) == []
    assert second.left() == 0
    assert study(tmp_path / "j", trials=12).left() == 2


def test_what_runs_elsewhere_waits(tmp_path):
    """A study that is opened finds what had not ended, with its values; its own are not among them."""
    first = study(tmp_path / "j", MIXED)
    asked = first.ask(5)
    first.tell(asked[1].number, 0.5, "finished")
    first.tell(asked[2].number, None, "diverged")
    assert first.waiting() == []
    second = study(tmp_path / "j", MIXED)
    assert second.waiting() == [asked[0], asked[3], asked[4]]
    second.tell(0, 1.0, "finished")
    assert [trial.number for trial in study(tmp_path / "j", MIXED).waiting()] == [3, 4]


def test_telling_twice_is_harmless(tmp_path):
    """The first word on a trial stands, in this process and in the next."""
    made = study(tmp_path / "j")
    made.ask(1)
    made.tell(0, 1.0, "finished")
    size = (tmp_path / "j").stat().st_size
    made.tell(0, 2.0, "diverged")
    study(tmp_path / "j").tell(0, None, "failed")
    assert (tmp_path / "j").stat().st_size == size
    assert [trial.value for trial in states(tmp_path / "j")] == [1.0]


def test_endings_as_optuna_keeps_them(tmp_path):
    """Values count, divergence and infinity are the worst, failure and undefined values say nothing."""
    for minimize, worst in ((True, math.inf), (False, -math.inf)):
        path = tmp_path / str(minimize)
        made = study(path, minimize=minimize, pruner="median")
        made.ask(8)
        made.report([(6, 1, 0.25)])
        ends = [(0.5, "finished"), (0.4, "stopped_early"), (0.1, "diverged"), (math.nan, "finished")]
        ends += [(-worst, "finished"), (None, "failed"), (0.3, "pruned"), (None, "finished")]
        for number, (value, status) in enumerate(ends):
            made.tell(number, value, status)
        got = [(trial.state.name, trial.value) for trial in states(path)]
        assert got == [
            ("COMPLETE", 0.5),
            ("COMPLETE", 0.4),
            ("COMPLETE", worst),
            ("FAIL", None),
            ("COMPLETE", worst),
            ("FAIL", None),
            ("PRUNED", 0.25),
            ("FAIL", None),
        ]
        assert [trial.user_attrs["status"] for trial in states(path)] == [end[1] for end in ends]
    with pytest.raises(ValueError, match="interrupted"):
        made.tell(0, None, "interrupted")


# The journal: what a dying process leaves behind.


@pytest.mark.parametrize("every", slow_after(1, [13, 1]))
def test_a_torn_end_is_dropped(tmp_path, every):
    """S6: cut anywhere, or at every 13th byte, in the last transaction, the journal opens as before it."""
    path = tmp_path / "j"
    made = told(path, 2, pruner="median")
    made.ask(1)
    before = path.read_bytes()
    with made.together():
        made.report([(2, 1, 0.5)])
        made.tell(2, 0.25, "finished")
    whole = path.read_bytes()
    for end in [*range(len(before), len(whole), every), len(whole) - 1]:
        path.write_bytes(whole[:end])
        again = study(path, pruner="median")
        assert [trial.number for trial in again.waiting()] == [2], end
        assert path.read_bytes() == before
    again.tell(2, 0.125, "finished")
    assert [trial.value for trial in states(path)] == [0.0, 1.0, 0.125]


@pytest.mark.parametrize("every", slow_after(1, [251, 41]))
def test_half_an_ask_never_was(tmp_path, every):
    """Cut anywhere while several trials are asked: none of them is there, and the same are asked again."""
    path = tmp_path / "j"
    before = told(path, 2, space=MIXED, name="tpe") and path.read_bytes()
    asked = study(path, MIXED, name="tpe").ask(2)
    whole = path.read_bytes()
    for end in range(len(before), len(whole), every):
        path.write_bytes(whole[:end])
        again = study(path, MIXED, name="tpe")
        assert again.waiting() == []
        assert again.ask(2) == asked


@pytest.mark.slow
def test_the_first_transaction_may_be_torn(tmp_path):
    """Killed while the study was made: it is made again."""
    path = tmp_path / "j"
    study(path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        study(path)
        assert path.read_bytes().count(b"\n") == 1


def test_a_lock_whose_process_died_before_it_wrote_its_name_is_taken(tmp_path, monkeypatch):
    """SIGKILL between making the marker and writing into it: nobody would ever remove the empty file."""
    monkeypatch.setattr("slipstream.sweeps.search.journal.NAMELESS_SECONDS", 0.2)
    marker = tmp_path / "j.lock"
    marker.touch()
    assert len(study(tmp_path / "j").ask(2)) == 2
    assert not marker.exists()


def test_damage_is_no_torn_end(tmp_path):
    """An unreadable line before readable ones is refused, and the file is left as it is."""
    path = tmp_path / "j"
    told(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    for damage in (b"\0" * 20 + b"\n", b"[]\n", lines[2][:-5] + b"\n"):
        path.write_bytes(b"".join([*lines[:2], damage, *lines[3:]]))
        damaged = path.read_bytes()
        with pytest.raises(UserError, match="damaged"):
            study(path)
        assert path.read_bytes() == damaged
    path.write_bytes(b"".join(lines) + b"\0" * 30 + b"\n")  # as after a power cut
    assert study(path).left() == 97


def test_optuna_reads_the_journal_and_may_write_to_it(tmp_path):
    """The file is Optuna's own: its tools list the trials, and a note that they add survives us."""
    path = tmp_path / "j"
    told(path, 3, space=MIXED)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    optuna.load_study(study_name="sweep", storage=storage).set_user_attr("note", "mine")
    again = study(path, MIXED)
    assert len(again.ask(1)) == 1
    assert [trial.value for trial in states(path)] == [0.0, 1.0, 2.0, None]
    assert study(path, MIXED)._study.user_attrs == {"note": "mine"}


@pytest.mark.parametrize("name", EACH)
def test_optuna_reads_values_names_and_the_best_trial(tmp_path, name):
    """A study holds what was tried, not its index: lists as JSON text, and an axis with 1 and true too."""
    path = tmp_path / "j"
    made = Study(path, MIXED, settings(name=name), False, 9, "val/accuracy")
    asked = made.ask(4)
    for trial in asked:
        made.tell(trial.number, float(trial.number == 2), "finished")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    read = optuna.load_study(study_name="sweep", storage=storage)
    assert (read.metric_names, read.direction.name) == (["val/accuracy"], "MAXIMIZE")
    assert (read.best_trial.number, read.best_value) == (2, 1.0)
    for trial, found in zip(asked, read.trials, strict=True):
        values = {key: found.params[key] for key in trial.values}
        texts = {key: json.dumps(trial.values[key]) for key in ("regularizer", "flag")}
        assert values == dict(trial.values) | texts
        assert {key: type(value) for key, value in values.items() if key == "width"} == {"width": int}
    assert read.trials[0].distributions["width"].choices == (16, 32, 64)


@pytest.mark.parametrize("name", slow_after(1, EACH))
def test_a_study_of_indices_goes_on(tmp_path, monkeypatch, name):
    """A study that holds indices, as earlier versions wrote them, is read and asks what it would have."""

    def run(path, old):
        asked = []
        for part in (6, 3, 3):
            with monkeypatch.context() as patch:
                if old and not asked:
                    patch.setattr(study_module, "ValueStorage", lambda journal, *_: JournalStorage(journal))
                made = study(path, MIXED, name=name, trials=20)
                assert made.asked() == asked
                asked += made.ask(part)
                if len(asked) == 6:
                    for trial in asked:
                        made.tell(trial.number, bowl(trial.values), "finished")
        return asked

    assert run(tmp_path / "old", True) == run(tmp_path / "new", False)
    assert all(type(trial.params["optimizer"]) is int for trial in states(tmp_path / "old"))
    assert all(type(trial.params["optimizer"]) is str for trial in states(tmp_path / "new"))


def test_a_call_is_one_write(tmp_path, monkeypatch):
    """An epoch of a pack waits for the disk once; nothing is written before the end, or after an error."""
    path = tmp_path / "j"
    made = study(path, pruner="median")
    syncs = []
    monkeypatch.setattr(os, "fsync", lambda fd: syncs.append(fd))
    with made.together():
        trials = made.ask(8)
        made.report([(trial.number, 1, 0.5) for trial in trials])
        for trial in trials[:4]:
            made.tell(trial.number, 0.5, "finished")
        made.ask(4)
        assert not syncs
    assert len(syncs) == 1
    size = path.stat().st_size
    with pytest.raises(KeyError), made.together():  # noqa: PT012
        made.ask(3)
        raise KeyError
    assert path.stat().st_size == size
    assert [trial.number for trial in study(path, pruner="median").ask(2)] == [12, 13]
    assert [trial.number for trial in made.waiting()] == [12, 13]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    """P10: where the journal cannot be written, the error names it and the study is as before."""
    path = tmp_path / "j"
    made = told(path, 2)
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"j: could not be written \(No space"):
        made.ask(1)
    monkeypatch.undo()
    path.write_bytes(before)
    assert [trial.number for trial in made.ask(1)] == [2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_whoever_lost_the_lock_does_not_write(tmp_path):
    """A process that stood still while another took the journal over leaves it alone."""
    path = tmp_path / "j"
    late = told(path, 1)
    with pytest.raises(UserError, match="took over the lock"), late.together():  # noqa: PT012
        late.ask(1)
        (tmp_path / "j.lock").unlink()  # as another does after the lease has run out
        other = FORK.Process(target=told, args=(path, 2))
        other.start()
        other.join()
        before = path.read_bytes()
    assert path.read_bytes() == before
    assert [trial.number for trial in late.ask(1)] == [3]


def test_no_write_without_a_lock(tmp_path):
    """The journal refuses what comes from outside a transaction."""
    with pytest.raises(RuntimeError, match="only in transactions"):
        Journal(tmp_path / "j").append_logs([{"op_code": 0}])


def test_no_permission_is_the_users_to_mend(tmp_path):
    """P11: a journal that cannot be made is a UserError with its name."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file.j: could not be written"):
        study(tmp_path / "file" / "j")


@pytest.mark.parametrize("name", EACH)
def test_nothing_is_unpickled(tmp_path, name):
    """Every searcher's journal holds JSON that names no code and no pickled bytes."""
    path = tmp_path / name
    made = study(path, name=name, trials=40)
    for _ in range(3):
        for trial in made.ask(8):
            made.tell(trial.number, trial.values["x"], "finished")
    text = path.read_text()
    assert "80049" not in text  # how a pickle begins, in hexadecimal
    assert "optimizer" not in text
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


# More than one process.


def _drain(path, name, out):
    made = study(path, name=name, trials=30)
    while asked := made.ask(2):
        for trial in asked:
            made.tell(trial.number, trial.values["x"], "finished")
            out.put(trial.number)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_workers_share_the_trials(tmp_path):
    """Three processes that ask at once get all numbers, each once, and no more than `trials`."""
    study(tmp_path / "j", trials=30)
    out = FORK.SimpleQueue()
    workers = [FORK.Process(target=_drain, args=(tmp_path / "j", "tpe", out)) for _ in range(3)]
    for worker in workers:
        worker.start()
    got = sorted(out.get() for _ in range(30))
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert got == list(range(30))
    assert out.empty()
    assert len(states(tmp_path / "j")) == 30


def _die_inside(path):
    made = study(path)
    with made.together():
        made.ask(1)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_lock_dies_with_its_process(tmp_path):
    """Killed inside a transaction: the next process goes on at once, and sees none of it."""
    told(tmp_path / "j", 2)
    worker = FORK.Process(target=_die_inside, args=(tmp_path / "j",))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    begun = time.monotonic()
    made = study(tmp_path / "j")
    assert made.waiting() == []
    assert [trial.number for trial in made.ask(1)] == [2]
    assert time.monotonic() - begun < 5  # the lease runs for 30


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_the_study_does_not_depend_on_the_process(tmp_path):
    """Another process with another order of hashes asks the same, conditions and all."""
    program = (
        "import sys; from pathlib import Path; from tests.sweeps.test_study import *\n"
        "made = study(Path(sys.argv[1]), MIXED, name='tpe', trials=40, at_once=12)\n"
        "for trial in made.ask(12): made.tell(trial.number, bowl(trial.values), 'finished')\n"
        "print([t.values for t in made.ask(4)])"
    )
    import subprocess

    printed = set()
    for hashes in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": f".{os.pathsep}tests"}
        command = [sys.executable, "-c", program, str(tmp_path / hashes)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        printed.add(done.stdout)
    assert len(printed) == 1


# Pruners.


def race(made, values, epochs):
    """Train trials with these final values together, falling towards them; epoch each was pruned at."""
    alive = {trial.number: value for trial, value in zip(made.ask(len(values)), values, strict=True)}
    gone = {}
    for epoch in range(1, epochs + 1):
        with made.together():
            pruned = made.report([(k, epoch, v + 1 / epoch) for k, v in alive.items()])
            for number in pruned:
                made.tell(number, None, "pruned")
                gone[number] = epoch
                del alive[number]
    for number, value in alive.items():
        made.tell(number, value, "finished")
    return gone


def test_asha_keeps_the_best_of_a_pack():
    """At 2, 6 and 18 epochs the best third goes on, whatever the order in which members report."""
    gone = race(study(pruner="asha", min_epochs=2, reduction=3), [float(v) for v in range(18)], 20)
    assert gone == {**dict.fromkeys(range(6, 18), 2), **dict.fromkeys(range(2, 6), 6), 1: 18}
    backwards = race(study(pruner="asha", min_epochs=2, reduction=3), [float(17 - v) for v in range(18)], 20)
    assert backwards == {17 - k: epoch for k, epoch in gone.items()}


def test_asha_compares_with_all_that_came_by():
    """A later trial has to be among the best of everyone at its rung, finished or not."""
    made = study(pruner="asha", min_epochs=1, reduction=4)
    race(made, [float(v) for v in range(8)], 1)
    assert race(made, [0.5], 1) == {}
    assert race(made, [1.5], 1) == {9: 1}


def test_epochs_that_come_together_are_judged_one_by_one():
    """Several epochs of a trial in one call are judged as in calls of their own."""
    changes = {"pruner": "asha", "min_epochs": 1, "reduction": 2, "seed": 1}
    one, several = study(**changes), study(**changes)
    assert one.ask(8) == several.ask(8)
    values = np.random.default_rng(1).uniform(size=(9, 8)).tolist()
    calls = [[(k, epoch, values[epoch][k]) for k in range(8)] for epoch in range(1, 9)]
    expected = set().union(*(one.report(call) for call in calls))
    assert several.report([report for call in calls for report in call]) == expected
    assert len(expected) >= 6
    marks = [[t.user_attrs.get("pruned") for t in made._trials()] for made in (one, several)]
    assert marks[0] == marks[1]
    assert {1, 2} <= set(marks[0])


def test_pruning_follows_the_direction():
    """Where large is good, the small ones are pruned."""
    made = study(pruner="asha", minimize=False, min_epochs=1, reduction=2)
    asked = made.ask(4)
    assert made.report([(trial.number, 1, float(trial.number)) for trial in asked]) == {0, 1}


def test_hyperband_deals_out_brackets():
    """With 27 epochs and a third: four brackets from 1, 3, 9 and 27 epochs on, in the paper's shares."""
    halving = pruners.make(settings(pruner="hyperband"), 27)
    dealt = np.bincount([halving.bracket(number) for number in range(690)], minlength=4)
    assert dealt == pytest.approx(np.array([27, 12, 6, 4]) / 49 * 690, abs=3)
    for number in range(20):
        first = 3 ** halving.bracket(number)
        assert [e for e in range(1, 28) if halving.is_rung(number, e)] == [
            e for e in (1, 3, 9, 27) if e >= first
        ]
    gone = race(study(pruner="hyperband", trials=60), [float(v) for v in range(60)], 27)
    for number, epoch in gone.items():
        assert epoch >= 3 ** halving.bracket(number)
    assert 30 < len(gone) < 60


@pytest.mark.slow
def test_median_is_optunas():
    """The same trials are pruned as in Optuna's own loop, and none before min_epochs."""
    values = np.random.default_rng(0).uniform(0, 1, 30).tolist()
    made = study(pruner="median", min_epochs=3)
    reference = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_warmup_steps=3))
    for value in values:
        gone = race(made, [value], 6)
        trial = reference.ask()
        for epoch in range(1, 7):
            trial.report(value + 1 / epoch, epoch)
            if trial.should_prune():
                reference.tell(trial, state=optuna.trial.TrialState.PRUNED)
                assert gone == {trial.number: epoch}
                assert epoch >= 3
                break
        else:
            reference.tell(trial, value)
            assert gone == {}
    assert 5 < sum(t.state.name == "PRUNED" for t in reference.trials) < 25


def test_patience_waits_while_a_trial_improves():
    """A bad trial that still improves is spared, one that stands still is not."""
    for rising, pruned in ((False, False), (True, True)):
        made = study(pruner="patient", patience=2)
        race(made, [0.0] * 6, 12)
        asked = made.ask(1)[0].number
        worse = [5 + epoch if rising else 50 - epoch for epoch in range(1, 13)]
        assert any(made.report([(asked, e, v)]) for e, v in enumerate(worse, 1)) is pruned


def test_wilcoxon_judges_by_repeats():
    """A trial whose first repeats are all worse than the best one's is given up, an equal one is not."""
    made = study(pruner="wilcoxon")
    best, worse, equal = (trial.number for trial in made.ask(3))
    noise = [0.01, 0.03, -0.02, 0.0, 0.02, -0.01]
    made.report([(best, k, 0.5 + v) for k, v in enumerate(noise)])
    made.tell(best, 0.505, "finished")
    assert any(made.report([(worse, k, 0.9 - v)]) for k, v in enumerate(noise))
    assert not any(made.report([(equal, k, 0.5 - v)]) for k, v in enumerate(noise))
    other = made.ask(1)[0].number
    for k, v in reversed(list(enumerate(noise))):  # repeats may end in any order
        verdict = made.report([(other, k, 0.9 - v)])
    assert verdict == {other}


def test_a_verdict_is_repeated(tmp_path):
    """Who goes on with a trial and reports epochs again hears what was said at first."""
    path = tmp_path / "j"
    made = study(path, pruner="asha", min_epochs=2, reduction=2)
    made.ask(4)
    reports = [(k, 2, float(k)) for k in range(4)]
    assert made.report(reports) == {2, 3}
    size = path.stat().st_size
    made.ask(4)
    made.report([(k, 2, -1.0) for k in range(4, 8)])  # now 0 and 1 would not be kept
    again = study(path, pruner="asha", min_epochs=2, reduction=2)
    assert again.report([(k, 1, 9.0) for k in range(4)]) == set()
    assert again.report([(k, 2, 9.0) for k in range(4)]) == {2, 3}
    assert again.report([(2, 4, 0.0)]) == {2}
    assert path.stat().st_size > size


def test_reports_that_matter_to_nobody_cost_nothing(tmp_path):
    """Without a pruner, between rungs, and for undefined values, nothing is written."""
    for changes in ({}, {"pruner": "asha", "min_epochs": 2}):
        path = tmp_path / str(len(changes))
        made = study(path, **changes)
        made.ask(2)
        size = path.stat().st_size
        assert made.report([(0, 1, 0.5), (1, 3, 0.5), (0, 2, None), (1, 2, math.nan)]) == set()
        assert path.stat().st_size == size


@pytest.mark.parametrize("pruner", ["median", "patient", "asha", "hyperband", "wilcoxon"])
def test_pruning_survives_infinite_values(pruner):
    """An infinite loss is pruned or not, but is no error and no warning."""
    made = study(pruner=pruner)
    race(made, [1.0] * 7 + [math.inf], 3)
    race(made, [math.inf, 0.5], 3)


def test_pruners_have_the_settings_that_the_configuration_knows():
    """What is accepted for a pruner is what it reads, and nothing is accepted and ignored."""
    assert {name: tuple(own) for name, own in pruners.SETTINGS.items()} == sweep_settings.PRUNERS


@pytest.mark.parametrize("name", EACH)
def test_optuna_stays_silent(capsys, recwarn, name):
    """No log, no warning, and Optuna's own settings as they were."""
    import logging

    level = logging.getLogger("optuna").level
    made = study(space=MIXED, name=name, pruner="patient", trials=16)
    for trial in made.ask(12):
        made.tell(trial.number, math.inf if trial.number % 2 else 1.0, "finished")
    made.ask(4)
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list
    assert logging.getLogger("optuna").level == level


def test_trials_are_plain():
    """A trial compares by what it is."""
    assert study(space=Space()).ask(1) == [Trial(0, {})]


# No configuration twice

SMALL = Space((Choices("optimizer", ("sgd", "adam")), Choices("lr", (0.1, 0.01, 0.001))))
BRANCHED = Space(
    (Choices("optimizer", ("sgd", "momentum")), Interval("optimizer.momentum", 1, 4, integer=True)),
    {"optimizer.momentum": Condition(("optimizer",), (("momentum",),))},
)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("space", "size"), [(SMALL, 6), (BRANCHED, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_no_configuration_is_tried_twice(name, space, size, seed):
    """Asked one by one and told, four trials are four configurations; asked for more than there are, each
    comes once and the search is over."""
    made = study(space=space, name=name, trials=40, seed=seed)
    asked = []
    for _ in range(size):
        (trial,) = made.ask(1)
        asked.append(repr(trial.values))
        made.tell(trial.number, float(trial.values["optimizer"] == "sgd"), "finished")
    assert len(set(asked)) == size
    assert made.ask(3) == []
    assert made.left() == 0


@pytest.mark.parametrize("name", slow_after(1, SAMPLERS))
def test_what_was_not_tried_is_asked_alike_by_a_study_that_is_opened_again(tmp_path, name):
    """Redrawing depends on the seed and the study alone."""

    def run(path, parts):
        asked = []
        for part in parts:
            made = study(path, SMALL, name=name, trials=6)
            asked += made.ask(part)
            if len(asked) == 3:
                for trial in asked:
                    made.tell(trial.number, trial.values["lr"], "finished")
        return asked

    whole = run(tmp_path / "a", (3, 3))
    assert run(tmp_path / "b", (1, 2, 1, 1, 1)) == whole
    assert len({repr(trial.values) for trial in whole}) == 6


@pytest.mark.slow
def test_where_values_cannot_be_counted_a_branch_without_any_is_tried_once():
    """sgd has nothing to vary: however good it is, the other trials are of the branch that has."""
    conditions = {"optimizer.momentum": Condition(("optimizer",), (("momentum",),))}
    space = Space((BRANCHED.axes[0], Interval("optimizer.momentum", 0.0, 0.9)), conditions)
    made = study(space=space, name="tpe", trials=40)
    asked = []
    for _ in range(40):
        (trial,) = made.ask(1)
        asked.append(trial)
        made.tell(trial.number, float(trial.values["optimizer"] != "sgd"), "finished")
    assert sum(trial.values["optimizer"] == "sgd" for trial in asked) == 1


def test_an_older_journal_with_a_repetition_goes_on(tmp_path):
    """What was tried twice counts as one configuration tried: the others are asked, none is left out."""
    made = study(tmp_path / "j", SMALL, name="tpe", trials=40)
    first = made.ask(1)[0]
    with made.together():
        number = made._storage.create_new_trial(made._study._study_id)
        for key, value in made._trials()[0].params.items():
            kind = made._distributions[key]
            made._storage.set_trial_param(number, key, kind.to_internal_repr(value), kind)
    again = study(tmp_path / "j", SMALL, name="tpe", trials=40)
    assert again.asked() == [first, Trial(1, first.values)]
    assert len({repr(trial.values) for trial in again.ask(20)} | {repr(first.values)}) == 6
