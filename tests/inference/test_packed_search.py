"""PackedSearchCV beside scikit-learn's own GridSearchCV around the same estimator."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sampling import scikit_learns_checks, slow_after
from slipstream import PackedSearchCV, SlipstreamClassifier, SlipstreamRegressor
from slipstream.config import validate
from slipstream.inference import estimator_base, packed_training
from slipstream.runs.prediction import model_of

X, Y = load_iris(return_X_y=True)
NET = SlipstreamClassifier(width=4, depth=1, max_epochs=3, random_state=0)
NUMBER = SlipstreamRegressor(width=4, depth=1, max_epochs=3, random_state=0)
GRID = {"lr": [0.01, 0.1]}
EXPECTED = {  # of GridSearchCV itself, in scikit-learn's own list
    "check_supervised_y_2d": "DataConversionWarning not caught",
    "check_requires_y_none": "Doesn't fail gracefully",
}
ALIKE = {"rtol": 1e-3, "atol": 1e-3}  # a network in a pack is rounded differently: three epochs of training


def searches():
    """As scikit-learn checks GridSearchCV: a classifier, a regressor, and pipelines that end in them."""
    nets = [
        SlipstreamClassifier(max_epochs=6, random_state=0),
        SlipstreamRegressor(max_epochs=20, random_state=0),
    ]
    pipes = [Pipeline([("scaler", StandardScaler()), ("net", net)]) for net in nets]
    # Shuffled: a regressor refuses a constant target, which the first half of sorted ones may be.
    words = {"cv": KFold(2, shuffle=True, random_state=0), "error_score": "raise"}
    alone = [PackedSearchCV(net, GRID, **words) for net in nets]
    return alone + [PackedSearchCV(pipe, {"net__lr": GRID["lr"]}, **words) for pipe in pipes]


def same(ours, theirs, *, exact=True):
    """Compare all of cv_results_ except times: keys, their order, types, masks and values."""
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for key, found in ours.cv_results_.items():
        other = theirs.cv_results_[key]
        assert type(found) is type(other), key
        if key == "params":
            assert found == other
            continue
        assert (found.dtype, found.shape) == (other.dtype, other.shape), key
        if isinstance(found, np.ma.MaskedArray):
            assert found.mask.tolist() == other.mask.tolist()
            assert found.filled("-").tolist() == other.filled("-").tolist() if found.dtype == object else True
        if "time" in key:
            assert (found >= 0).all()
        elif exact:
            np.testing.assert_array_equal(found, other, err_msg=key)
        elif "rank" not in key:
            np.testing.assert_allclose(found, other, err_msg=key, **ALIKE)


@pytest.fixture
def paired(monkeypatch):
    """A function that fits a search of scikit-learn whose every network trains in a pack of two like ones."""

    def submit(fit):
        end, _ = packed_training.train_all([fit, fit], lambda line: None)
        if end.error is not None:
            raise end.error

    def fitted(search, *arguments, **words):
        with monkeypatch.context() as patch:
            patch.setattr(estimator_base, "submit", submit)
            return search.fit(*arguments, **words)

    return fitted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*SCIPY_ARRAY_API.*", "ignore:invalid value encountered in cast")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        *scikit_learns_checks(searches()[:1], failing=EXPECTED),
        *scikit_learns_checks(searches()[1:], failing=EXPECTED, marks=[pytest.mark.exhaustive]),
    ],
)
def test_scikit_learns_checks(estimator, check):
    """The list passes except for what scikit-learn expects of GridSearchCV."""
    check(estimator)


@pytest.mark.slow
def test_results_are_those_of_grid_search(paired):
    """Keys, types, masks, scores and ranks of every split: to the last bit those of fits in packs of two."""
    grid = [{"lr": [0.01, 0.1], "width": [4, 5]}, {"lr": [0.05], "optimizer": ["adam", "sgd"]}]
    words = {
        "cv": 3,
        "return_train_score": True,
        "scoring": ["neg_log_loss", "accuracy"],
        "refit": "accuracy",
    }
    ours = PackedSearchCV(NET, grid, **words).fit(X, Y)
    theirs = paired(GridSearchCV(NET, grid, **words), X, Y)
    same(ours, theirs)
    assert (ours.best_params_, ours.best_index_) == (theirs.best_params_, theirs.best_index_)
    assert (ours.best_score_, ours.n_splits_, ours.multimetric_) == (theirs.best_score_, 3, True)
    assert list(ours.scorer_) == list(theirs.scorer_)
    assert ours.refit_time_ > 0
    alone = clone(NET).set_params(**ours.best_params_).fit(X, Y)
    assert np.array_equal(ours.predict_proba(X), alone.predict_proba(X))
    assert ours.score(X, Y) == alone.score(X, Y)
    assert (ours.classes_.tolist(), ours.n_features_in_) == ([0, 1, 2], 4)


@pytest.mark.slow
def test_fits_alone_are_alike():
    """A network in a pack is rounded differently from one alone, and by no more."""
    words = {"cv": 2, "scoring": "neg_log_loss", "refit": False}
    searches = (kind(NET, GRID, **words) for kind in (PackedSearchCV, GridSearchCV))
    same(*(search.fit(X, Y) for search in searches), exact=False)


@pytest.mark.slow
def test_a_fit_does_not_depend_on_other_candidates():
    """The scores of a candidate are the same bytes whatever else is searched."""
    words = {"cv": 2, "scoring": "neg_log_loss", "refit": False}
    few = PackedSearchCV(NET, {"lr": [0.01, 0.1]}, **words).fit(X, Y).cv_results_
    more = PackedSearchCV(NET, {"lr": [0.3, 0.1, 0.02, 0.01]}, **words).fit(X, Y).cv_results_
    assert few["mean_test_score"].tolist() == more["mean_test_score"][[3, 1]].tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not support sample_weight")
def test_regression_weights_groups_and_callables(paired):
    """Fits of numbers pack; weights and groups reach their places; refit and scoring may be functions."""
    y = X[:, 3] * 7 + 100
    draw = np.random.default_rng(0)
    given = {"sample_weight": draw.uniform(0.5, 2, len(X)), "groups": np.arange(len(X)) % 10}

    def simplest(results):
        return int(np.argmin(results["param_lr"].data.astype(float)))

    def error(network, X, y):
        return -np.abs(network.predict(X) - y).mean()

    words = {"cv": GroupKFold(2), "refit": simplest, "scoring": error}
    ours = PackedSearchCV(NUMBER, GRID, **words).fit(X[:, :3], y, **given)
    theirs = paired(GridSearchCV(NUMBER, GRID, **words), X[:, :3], y, **given)
    same(ours, theirs)
    assert ours.best_index_ == theirs.best_index_ == 0
    assert not hasattr(ours, "best_score_")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SlipstreamClassifier, SlipstreamRegressor])
def test_fits_of_one_structure_share_what_is_built(kind):
    """A network is built once for all rates of learning and dropout, and each predicts as its own would."""
    specs = {}
    for lr, rate in ((0.01, 0.1), (0.1, 0.5), (0.05, 0.3)):
        settings = [f"regularizer.dropout.rate={rate}"]
        net = kind(4, 1, max_epochs=2, lr=lr, regularizer=["dropout"], settings=settings, random_state=0)
        held = net.fit(X, Y)._trained
        own = model_of(held.raw, held.fitted, held.tensors)
        shared = model_of(held.raw, held.fitted, held.tensors, validate(held.raw), specs)
        assert np.array_equal(own.scores(own.inputs(X)), shared.scores(shared.inputs(X)))
    assert len(specs) == 1


@pytest.mark.slow
def test_distributions_are_drawn_as_by_randomized_search(paired):
    """n_iter and random_state give the candidates of RandomizedSearchCV."""
    space = {"lr": scipy.stats.loguniform(1e-3, 0.1), "width": [4, 5]}
    words = {"n_iter": 3, "random_state": 5, "cv": 2}
    ours = PackedSearchCV(NET, space, **words).fit(X, Y)
    same(ours, paired(RandomizedSearchCV(NET, space, **words), X, Y))
    with pytest.raises(ValueError, match=r"param_grid: lr is a distribution, expected a list .* n_iter"):
        PackedSearchCV(NET, space, cv=2).fit(X, Y)


@pytest.mark.slow
def test_a_pipeline_is_fitted_on_each_folds_rows(capsys, paired):
    """What comes before the network sees the fold's training rows alone; frames keep their names."""
    frame = pd.DataFrame(X, columns=list("pqrs"))
    pipe = make_pipeline(StandardScaler(), PCA(), NET)
    grid = {"pca__n_components": [2, 3], "slipstreamclassifier__lr": [0.01, 0.1]}
    ours = PackedSearchCV(pipe, grid, cv=2, verbose=1).fit(frame, Y)
    same(ours, paired(GridSearchCV(pipe, grid, cv=2), frame, Y))
    assert ours.feature_names_in_.tolist() == list("pqrs")
    said = capsys.readouterr().out
    assert "Fitting 2 folds for each of 4 candidates, totalling 8 fits" in said
    assert said.count("4 fits of ") == 2


@pytest.mark.slow
def test_it_works_inside_cross_validation():
    """A search is an estimator, in a pipeline and in cross_val_score, and can be pickled."""
    search = PackedSearchCV(clone(NET).set_params(max_epochs=20), {"lr": [1e-6, 0.1]}, cv=2)
    assert cross_val_score(make_pipeline(StandardScaler(), search), X, Y, cv=2).mean() > 0.8
    fitted = pickle.loads(pickle.dumps(search.fit(X, Y)))
    assert fitted.best_params_ == {"lr": 0.1}
    assert np.array_equal(fitted.predict(X), search.predict(X))
    assert "estimator__width" in clone(fitted).get_params()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_failing_fit_fails_alone():
    """What diverges or cannot be fitted scores error_score, or raises; the others are as without it."""
    grid = {"lr": [0.1, -1.0], "batch_size": [8]}
    with pytest.warns(Warning, match="2 fits failed out of a total of 4"):
        found = PackedSearchCV(NET, grid, cv=2, error_score=-1.0).fit(X, Y)
    assert found.cv_results_["mean_test_score"][1] == -1
    assert found.cv_results_["rank_test_score"].tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"optimizer\.lr: found -1"):
        PackedSearchCV(NET, grid, cv=2, error_score="raise").fit(X, Y)
    huge = clone(NUMBER).set_params(optimizer="sgd", max_epochs=20)
    with pytest.warns(Warning, match="no epoch ended with finite weights"):
        found = PackedSearchCV(huge, {"lr": [0.01, 1e39]}, cv=2).fit(X[:, :3], X[:, 3])
    assert np.isfinite(found.cv_results_["mean_test_score"]).tolist() == [True, False]


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_an_error_in_a_pack_ends_only_its_fit(monkeypatch):
    """Halves of a pack that fails are tried again, down to the fit at fault."""
    train, sizes = packed_training.run_pack, []

    def failing(configs, *arguments, **words):
        sizes.append(len(configs))
        if any(config.optimizer.settings["lr"] == 0.1 for config in configs):
            raise RuntimeError("out of luck")
        return train(configs, *arguments, **words)

    monkeypatch.setattr(packed_training, "run_pack", failing)
    with pytest.warns(Warning, match="out of luck"):
        found = PackedSearchCV(NET, {"lr": [0.01, 0.1, 0.2]}, cv=2, refit=False).fit(X, Y).cv_results_
    assert np.isfinite(found["mean_test_score"]).tolist() == [True, False, True]
    assert sizes[0] == 6


class Curious(SlipstreamClassifier):
    """An estimator that predicts while it is fitted."""

    def fit(self, X, y):
        super().fit(X, y)
        self.seen_ = self.predict(X)
        return self


@pytest.mark.parametrize(
    "net", slow_after(1, [Curious(4, 1, max_epochs=3, random_state=0), LogisticRegression(max_iter=1000)])
)
def test_others_are_fitted_one_by_one(net):
    """Estimators whose fit predicts, and those of other packages, are fitted as by GridSearchCV."""
    grid = {"lr": [0.01, 0.1]} if isinstance(net, Curious) else {"C": [0.1, 1.0]}
    same(PackedSearchCV(net, grid, cv=2).fit(X, Y), GridSearchCV(net, grid, cv=2).fit(X, Y))
