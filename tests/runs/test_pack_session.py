"""One session for a run alone, a pack and a sweep: its slots can be filled again, and moved."""

from __future__ import annotations

import pytest
import torch

from harness import tiny, tiny_data
from slipstream.core.errors import DataError
from slipstream.runs import run_folder
from slipstream.runs.pack_session import PackSession, Slot, prepared, with_idle
from slipstream.training.interrupts import Interrupts


class PauseAfter:
    """An overseer that lets a pack train for some epochs."""

    def __init__(self, epochs):
        self.left = epochs

    def verdicts(self, trained):
        return {}

    def pauses(self):
        self.left -= 1
        return self.left == 0


def slot_of(seed, directory=None, **changes):
    config = tiny({f"trainer.{key}": value for key, value in changes.items()}, seed=seed)
    slot = Slot(prepared(config, directory, tiny_data(), None), 0)
    if directory is not None:
        slot.lock.enter_context(run_folder.claim(directory, resume=False))
    return slot


def session_of(*slots):
    session = PackSession(slots, [tiny_data()], torch.device("cpu"))
    session.begin(pytest.fail)
    return session


def trained(*slots):
    """The weights and last metrics of a session's first member, trained to its end."""
    session = session_of(*slots)
    session.advance([], Interrupts())
    return numbers(session.conclude([0])[0])


def numbers(result):
    weights = {name: tensor.numpy().tobytes() for name, tensor in result.weights.items()}
    return result.status, result.last, result.records, weights


@pytest.mark.slow
def test_a_member_in_a_freed_slot_is_the_one_that_began_with_its_pack():
    """Another size, other companions, another place, begun later: the same bytes."""
    session = session_of(slot_of(0), slot_of(1), slot_of(2))
    session.advance([], Interrupts())
    session.conclude([0, 1, 2])
    session.put([1], [slot_of(7, max_epochs=5)])
    session.advance([], Interrupts())
    assert numbers(session.conclude([1])[0]) == trained(*with_idle([slot_of(7, max_epochs=5)]))


@pytest.mark.slow
def test_members_that_move_to_a_smaller_engine_go_on_with_the_same_bytes():
    session = session_of(*(slot_of(seed, max_epochs=4) for seed in range(5)))
    session.advance([], Interrupts(), PauseAfter(2))
    assert [member.epoch for member in session.members] == [2] * 5
    session.keep([1, 4])
    session.advance([], Interrupts())
    assert numbers(session.conclude([1])[0]) == trained(*with_idle([slot_of(4, max_epochs=4)]))


@pytest.mark.slow
def test_what_a_member_of_a_pack_leaves_is_what_a_run_leaves(tmp_path):
    """The files of a session with folders, whether it is alone or beside others."""
    for name, count in (("alone", 1), ("pack", 3)):
        session = session_of(*(slot_of(seed, tmp_path / name / str(seed)) for seed in range(count)))
        session.advance([], Interrupts())
        session.conclude(range(count))
        session.close()
    folders = [tmp_path / name / "0" for name in ("alone", "pack")]
    alone, member = ({str(path.relative_to(each)) for path in each.rglob("*")} for each in folders)
    assert alone == member
    assert {"summary.json", "metrics.jsonl", "config.yaml"} <= alone


def test_a_checkpoint_of_other_data_is_refused():
    saved = ({}, {"fingerprint": "another"})
    with pytest.raises(DataError, match="the data have changed since this run started"):
        prepared(tiny(), None, tiny_data(), saved)
