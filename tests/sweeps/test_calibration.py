"""How many members are trained together, and whether they are compiled."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import slipstream
from harness import tiny, tiny_data
from ondisk import SWEPT, at_step, bytes_of, terminate
from slipstream.config import for_target
from slipstream.core import folders
from slipstream.core.errors import ConfigError
from slipstream.runs import checkpoints, run_folder
from slipstream.sweeps.work import calibration
from slipstream.sweeps.work.calibration import COLD, SIZES, Chooser, PackChoice, PlannedWork, choose
from slipstream.training.backend import memory

CPU = torch.device("cpu")
# Microseconds of a member's step: overhead shared by a pack, and arithmetic that nobody shares.
SMALL = {1: 271e-6, 8: 220e-6, 32: 63e-6, 128: 28e-6, 256: 25e-6}
WIDE = {1: 9e-3, 8: 9e-3, 32: 9e-3, 128: 9e-3, 256: 9e-3}


@pytest.fixture(autouse=True)
def plenty(monkeypatch):
    """Memory is no matter but where a test says so."""
    monkeypatch.setattr(memory, "predict", lambda config, folds, size, **_: size * 2**20)


def chosen(times, members, epochs=1, compile="auto", pack="auto", free=None, compiling=COLD):
    """A choice from given times; sizes between those known cost as the next smaller one."""
    data = tiny_data()
    config = for_target(tiny(), data.target)

    def time_pack(size):
        return times[max(known for known in times if known <= size)]

    work = PlannedWork(members, members * epochs * 20, compile, lambda size: compiling)
    return choose(config, [data], CPU, work, pack, time_pack=time_pack, free=free)


def test_small_networks_are_packed():
    """Where a pack is faster, the smallest of the fastest sizes is taken."""
    choice = chosen(SMALL, 1000, compile=False)
    assert (choice.size, choice.packed, choice.compile) == (256, True, False)
    assert chosen(SMALL | {256: 62e-6, 64: 63e-6}, 1000, compile=False).size == 64


@pytest.mark.parametrize("compiled", [True, False, "auto"])
@pytest.mark.parametrize("gain", [1.3, 1.0, 0.9])
def test_a_pack_is_never_slower_than_its_members(compiled, gain):
    """Where packs gain nothing, or too little to be sure, members are trained one after another."""
    times = {size: each * (gain if size > 1 else 1) for size, each in WIDE.items()}
    choice = chosen(times, 100, compile=compiled)
    assert (choice.size, choice.packed) == (1, False)


def test_few_members_of_a_small_network_stay_alone():
    """A pack of two pays its overhead twice."""
    assert chosen({1: 271e-6, 2: 932e-6}, 2).packed is False


@pytest.mark.parametrize("times", [SMALL | {8: 50e-6}, WIDE])
def test_long_work_is_compiled_and_short_work_is_not(times):
    """What compiling saves has to repay what it costs; a warm cache makes that less."""
    assert chosen(times, 30, epochs=1).compile is False
    assert chosen(times, 30, epochs=10_000).compile is True
    each = times[max(size for size in times if size <= 30)]
    epochs = round(COLD / (each * 30 * 20))  # eager as long as compiling takes when nothing is cached
    assert chosen(times, 30, epochs).compile is False
    assert chosen(times, 30, epochs, compiling=1.0).compile is True


def test_the_trainers_setting_is_kept():
    """true and false are no question."""
    assert chosen(SMALL, 300, compile=True).compile is True
    assert chosen(SMALL, 300, epochs=10_000, compile=False).compile is False


def test_a_person_may_say_how_many():
    """sweep.pack is taken as it is, up to the members that there are; 1 is one after another."""
    choice = chosen(SMALL, 100, pack=10)
    assert (choice.size, choice.packed) == (10, True)
    assert chosen(SMALL, 5, pack=10).size == 5
    assert (one := chosen(SMALL, 100, pack=1)).size == 1
    assert one.packed is False


def test_memory_bounds_the_pack():
    """No more members than fit, and a clear sentence where not even one does."""
    free = round(40 * 2**20 / memory.SHARE)
    choice = chosen(SMALL | {40: 50e-6}, 300, free=free)
    assert choice.size == 40
    assert "fit into memory" in choice.reason
    with pytest.raises(ConfigError, match="needs about"):
        chosen(SMALL, 300, free=2**19)


def test_timing_is_bounded():
    """Sizes that would take too long to time are left out: alone and the first pack remain."""
    slow = dict.fromkeys((1, *SIZES), 0.1)
    assert set(chosen(slow, 300).measured) == {"1", "8"}


@pytest.mark.slow
def test_real_steps_are_timed():
    """A real network is timed at a few sizes of packs, each above 0."""
    config, data = tiny(), tiny_data()
    work = PlannedWork(16, 16 * 100_000, False, lambda size: COLD)
    choice = choose(for_target(config, data.target), [data], CPU, work)
    assert {"1", "8"} <= set(choice.measured) <= {"1", "8", "16"}  # 16 where it is quick enough
    assert all(each > 0 for each in choice.measured.values())


@pytest.fixture
def chooser(tmp_path, monkeypatch):
    """A chooser of a grid, whose timer is not asked twice."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    made = SimpleNamespace(times=SMALL, asked=0)

    class Timer:
        def __init__(self, *_):
            made.asked += 1

        def __call__(self, size):
            return made.times[max(known for known in made.times if known <= size)]

    monkeypatch.setattr(calibration, "_Timer", Timer)
    (tmp_path / "sweep").mkdir()
    made.directory = tmp_path / "sweep"
    config = tiny()
    made.jobs = [SimpleNamespace(number=number, config=config) for number in range(64)]
    made.settings = SimpleNamespace(pack="auto", workers=1)
    made.ask = lambda count=64: Chooser(made.directory, made.settings, lambda: made.jobs)(
        made.jobs[:count], {"a": tiny_data()}, CPU
    )
    return made


def test_a_choice_is_made_once(chooser):
    """A resumed sweep repeats what stands in its folder, though the machine is another today."""
    first = chooser.ask()
    chooser.times = WIDE
    assert chooser.ask() == first
    assert chooser.asked == 1
    (file,) = (chooser.directory / calibration.CHOICES).glob("*.json")
    assert PackChoice(**json.loads(file.read_text())) == first


def test_a_damaged_choice_is_made_anew(chooser):
    """Half a file is no choice."""
    first = chooser.ask()
    (file,) = (chooser.directory / calibration.CHOICES).glob("*.json")
    file.write_text(file.read_text()[:20])
    assert chooser.ask() == first
    assert json.loads(file.read_text())["size"] == first.size


def test_a_choice_is_on_the_disk_before_it_is_used(chooser, monkeypatch):
    """Its file's name, and that of the folder: both folders are synced."""
    synced, plain = [], folders.sync
    monkeypatch.setattr(folders, "sync", lambda path: (synced.append(path), plain(path)))
    chooser.ask()
    assert {chooser.directory, chooser.directory / calibration.CHOICES} <= set(synced)


def begun(chooser, number, **how):
    """A member that was saved, as an earlier process left it."""
    folder = chooser.directory / str(number)
    folder.mkdir()
    (folder / run_folder.CONFIG).write_text("{}")
    tensors = {name: {"w": torch.ones(1)} for name in checkpoints.TENSOR_FILES}
    checkpoints.save(folder / "checkpoints", 3, tensors, {"steps_into_epoch": 0} | how, keep=1)


def lose(chooser, how):
    """What a power cut does to a record that is not on the disk yet."""
    (file,) = (chooser.directory / calibration.CHOICES).glob("*.json")
    if how == "removed":
        shutil.rmtree(file.parent)
    else:
        file.write_text("" if how == "emptied" else file.read_text()[:20])


@pytest.mark.parametrize("how", ["emptied", "damaged", "removed"])
@pytest.mark.parametrize(("before", "after"), [(SMALL, WIDE), (WIDE, SMALL)])
def test_a_lost_choice_is_that_of_the_members_that_have_begun(chooser, how, before, after):
    """Whatever is measured today, packed and compiled are what the checkpoints say; and it is recorded."""
    chooser.times = before
    first = chooser.ask()
    lose(chooser, how)
    begun(chooser, 3, packed=first.packed, compile=True)
    chooser.times = after
    again = chooser.ask()
    assert (again.packed, again.compile) == (first.packed, True)
    assert (again.size > 1) == first.packed
    assert again.reason.startswith("as its first members were trained")
    asked = chooser.asked
    assert chooser.ask() == again
    assert chooser.asked == asked


@pytest.mark.parametrize(("lost", "packed"), [("removed", True), ("emptied", False)])
def test_one_that_a_search_trained_alone_may_have_been_lonely(chooser, lost, packed):
    """It binds the others of its kind only where an emptied file shows that there had been a choice."""
    chooser.settings = SimpleNamespace(pack="auto", workers=1, trials=100, at_once=16)
    chooser.ask()
    lose(chooser, lost)
    begun(chooser, 3, packed=False, compile=False)
    assert chooser.ask().packed is packed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "stopped", "before", "after"),
    [
        ("emptied", 5, SMALL, WIDE),  # in the first pack
        ("removed", 10, SMALL, WIDE),  # when that has ended
    ],
)
def test_a_lost_choice_changes_no_byte_of_a_resumed_sweep(chooser, tmp_path, how, stopped, before, after):
    """Of twelve members, some begun and some not, all end with the bytes of the undisturbed sweep."""

    def sweep(folder):
        words = (*SWEPT, "trainer.max_epochs=3", "trainer.progress=none")
        return slipstream.sweep({"seed": list(range(12))}, *words, directory=folder).exit_code

    chooser.times = before
    assert sweep(tmp_path / "whole") == 0
    folder = chooser.directory
    with at_step(stopped, terminate):
        assert sweep(folder) == 143
    for unsaved in [path for path in folder.glob("[0-9]*") if not any(path.glob("checkpoints/step-*"))]:
        shutil.rmtree(unsaved)
    lose(chooser, how)
    chooser.times = after
    assert sweep(folder) == 0
    for number in range(12):
        assert bytes_of(folder / str(number)) == bytes_of(tmp_path / "whole" / str(number))


def test_workers_agree(chooser, monkeypatch):
    """Of two workers that choose at the same time the first one's choice stands for both."""
    other = PackChoice(7, True, False, "another worker", {})
    path = chooser.directory / calibration.CHOICES
    original = calibration.choose

    def choose_late(*arguments, **settings):
        mine = original(*arguments, **settings)
        calibration._record(path / f"{calibration._digest(_signature(chooser))}.json", other)
        return mine

    monkeypatch.setattr(calibration, "choose", choose_late)
    assert chooser.ask() == other


def _signature(chooser):
    return calibration.signature(chooser.jobs[0].config)


def test_one_lonely_member_of_a_search_settles_nothing(chooser):
    """The next ones of its kind may be many."""
    chooser.settings = SimpleNamespace(pack="auto", workers=1, trials=100, at_once=16)
    assert chooser.ask(1).packed is False
    assert chooser.ask(64).packed is True


def test_a_compiled_kind_is_known_to_be_warm(chooser):
    """What was compiled before costs less, and is compiled for less work."""
    config = tiny()
    trainer = replace(config.trainer, compile="auto", max_epochs=4_000)
    chooser.jobs = [SimpleNamespace(config=replace(config, trainer=trainer))] * 64
    if not calibration.compile_pays("auto", 2**60, calibration.Pack(2)):
        pytest.skip("no compiler here")
    data = tiny_data()
    work = Chooser(chooser.directory, chooser.settings)._work(chooser.jobs[0].config, data, 64)
    assert work.compiling(32) == COLD
    calibration._note_compiled(chooser.jobs[0].config, data, 32)
    assert work.compiling(32) == calibration.WARM
    assert work.compiling(64) == COLD
