"""Splits: every row in one part, in the promised shares, classes, groups and order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from slipstream.core.errors import ConfigError, DataError
from slipstream.core.types import Target
from slipstream.data import splits
from slipstream.data.dataset import RawData

BASE = {
    "split": "auto",
    "validation": "auto",
    "test": "auto",
    "folds": None,
    "fold": 0,
    "split_seed": 0,
}


def raw(labels, classes=3, **other):
    labels = np.asarray(labels, np.int64)
    target = Target("multiclass", classes=tuple(map(str, range(classes))))
    return RawData(np.zeros((len(labels), 1)), ("x",), labels, target, **other)


def cut(data, **changes):
    return splits.split_rows(data, BASE | changes)[1]


@pytest.mark.slow
@examples(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=40, max_size=120),
    how=st.sampled_from(["random", "stratified", "time"]),
    validation=st.floats(0, 0.4),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 2**63),
)
def test_every_row_is_in_exactly_one_part(labels, how, validation, test, seed):
    """The three parts together are all rows, each once, in rising order, with the shares asked for."""
    parts = cut(raw(labels, 5), split=how, validation=validation, test=test, split_seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)
    for share, part in [(validation, parts[1]), (test, parts[2])]:
        # Stratified parts may fall short where every class has to keep a row in train.
        short = 5 if how == "stratified" else 0
        wanted = max(1, round(share * len(labels))) if share else 0
        assert wanted - short <= len(part) <= wanted


def test_stratified_parts_have_every_class_in_its_share():
    """Each class has its share of each part to within one row."""
    labels = np.repeat([0, 1, 2], [200, 70, 33])
    for part, share in zip(cut(raw(labels), split="stratified"), (0.7, 0.15, 0.15), strict=True):
        assert np.abs(np.bincount(labels[part]) - share * np.array([200, 70, 33])).max() <= 1.5


def test_rare_classes_stay_in_train():
    """A class of one row is never taken out of the training part by a stratified split."""
    labels = np.array([0] * 20 + [1] * 20 + [2])
    for seed in range(20):
        assert 40 in cut(raw(labels), test=0.4, validation=0.4, split_seed=seed)[0]


def test_another_seed_gives_another_split():
    """The split depends on split_seed and on nothing else."""
    labels = np.arange(60) % 3
    first, again, other = (cut(raw(labels), split_seed=seed)[2] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_global_generator_plays_no_part():
    """torch's generator neither changes a split nor is changed by it."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    cut(raw(np.arange(60) % 3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("how", ["random", "stratified", "group"])
def test_folds_share_the_test_part_and_divide_the_rest(how):
    """Over all folds the validation parts are the rows outside test, each once, of about equal size."""
    labels = np.arange(103) % 3
    data = raw(labels, groups=np.arange(103) // 2)
    folds = [cut(data, split=how, folds=5, fold=fold) for fold in range(5)]
    assert all(np.array_equal(fold[2], folds[0][2]) for fold in folds)
    together = np.sort(np.concatenate([fold[1] for fold in folds] + [folds[0][2]]))
    assert np.array_equal(together, np.arange(103))
    sizes = [len(fold[1]) for fold in folds]
    assert max(sizes) - min(sizes) <= (2 if how == "group" else 1)


def test_stratified_folds_agree_with_scikit_learn_on_class_counts():
    """Class counts of the folds differ by at most one, as in scikit-learn's StratifiedKFold."""
    labels = np.repeat([0, 1, 2], [50, 23, 9])
    ours = [
        np.bincount(labels[cut(raw(labels), test=0.0, folds=4, fold=f)[1]], minlength=3) for f in range(4)
    ]
    reference = StratifiedKFold(4).split(labels, labels)
    theirs = [np.bincount(labels[part], minlength=3) for _, part in reference]
    assert np.ptp(ours, axis=0).max() <= 1
    assert np.ptp(theirs, axis=0).max() <= 1
    assert (np.sum(ours, axis=0) == np.sum(theirs, axis=0)).all()


def test_groups_are_never_divided():
    """All rows of a group are in one part, and the parts are near their shares."""
    groups = np.repeat(np.arange(40), np.arange(40) % 5 + 1)
    rows = cut(raw(np.arange(len(groups)) % 3, groups=groups))
    of = [set(groups[part]) for part in rows]
    assert not of[0] & of[1]
    assert not of[0] & of[2]
    assert not of[1] & of[2]
    assert all(abs(len(part) / len(groups) - 0.15) < 0.04 for part in rows[1:])


def test_time_goes_forward_and_moments_stay_whole():
    """Train is before validation is before test, and rows of one time are in one part."""
    order = np.array([3, 1, 2, 2, 9, 8, 8, 8, 4, 5, 6, 7, 7, 0, 10, 11, 12, 13, 14, 15], float)
    train, validation, test = (order[part] for part in cut(raw(np.arange(20) % 3, order=order)))
    assert train.max() < validation.min()
    assert validation.max() < test.min()


def test_given_parts_stay_and_the_others_are_cut_from_train():
    """Rows that the data call test are the test part; validation comes out of the training rows."""
    parts = np.array([0] * 40 + [2] * 10, np.int8)
    train, validation, test = cut(raw(np.arange(50) % 3, parts=parts))
    assert np.array_equal(test, np.arange(40, 50))
    assert len(validation) == 6
    assert len(train) == 34


@pytest.mark.parametrize("changes", [{"validation": 0.2}, {"folds": 3}])
def test_a_share_of_a_given_part_is_refused(changes):
    """A setting that would be ignored, since the data name the part, is an error that names it."""
    data = raw(np.arange(30) % 3, parts=np.array([0] * 20 + [1] * 10, np.int8))
    with pytest.raises(ConfigError, match=f"data.{next(iter(changes))}"):
        cut(data, **changes)


@pytest.mark.parametrize(
    ("data", "how"),
    [
        (raw([0, 1]), "random"),
        (raw([0, 0, 1]), "stratified"),
        (raw(np.arange(30) % 3, groups=np.arange(30) // 15), "group"),
        (raw(np.arange(30) % 3, order=np.zeros(30)), "time"),
    ],
)
def test_too_little_to_split_is_an_error(data, how):
    """Where a part would be without rows, the error names the part and says how to go without it."""
    with pytest.raises(DataError, match=r"too few for a (test|validation) split .*data\.(test|validation)=0"):
        cut(data, split=how)
    assert splits.too_few("test", "random", 1, data).startswith("1 row is too few for a test split")
