"""Estimators by scikit-learn's own checks, and inside its pipelines, searches and ensembles."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    estimator_checks_generator,
)

import slipstream
from sampling import scikit_learns_checks
from slipstream import SlipstreamClassifier, SlipstreamRegressor
from slipstream.core.errors import UserError

BOTH = [SlipstreamClassifier(max_epochs=20), SlipstreamRegressor(max_epochs=20)]
FAST = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_estimators_pickle",
    "check_estimators_nan_inf",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_classifiers_one_label_sample_weights",
}
ARRAY_API = "ignore:.*SCIPY_ARRAY_API.*"  # scikit-learn skips one check where it is not set


@pytest.mark.slow
@pytest.mark.filterwarnings(ARRAY_API)
@pytest.mark.parametrize(("estimator", "check"), scikit_learns_checks(BOTH))
def test_scikit_learns_checks(estimator, check):
    """The whole list passes; nothing is expected to fail."""
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", BOTH[:1], ids=lambda estimator: type(estimator).__name__)
def test_some_of_scikit_learns_checks(estimator):
    """Weights, pickling, gaps, names and repeats, without waiting for all."""
    run = set()
    for made, check in estimator_checks_generator(estimator, mark=None):
        if check.func.__name__ in FAST:
            check(made)
            run.add(check.func.__name__)
    assert run >= FAST - {"check_classifiers_one_label_sample_weights"}


@pytest.mark.slow
@pytest.mark.parametrize("estimator", BOTH, ids=lambda estimator: type(estimator).__name__)
def test_names_of_columns(estimator):
    """Names of a data frame are kept, and others are refused in prediction."""
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


@pytest.mark.slow
def test_they_work_inside_scikit_learns_tools():
    """Cross-validation, calibration, stacking, a grid search, and a pipeline over columns of a frame."""
    X, y = load_iris(return_X_y=True)
    network = SlipstreamClassifier(width=32, random_state=0)
    assert cross_val_score(network, X, y, cv=3).mean() > 0.9
    assert CalibratedClassifierCV(network, cv=3).fit(X, y).score(X, y) > 0.9
    stack = StackingClassifier([("a", network), ("b", LogisticRegression(max_iter=500))], cv=3)
    assert stack.fit(X, y).score(X, y) > 0.9
    search = GridSearchCV(network, {"lr": [1e-6, 0.01]}, cv=3).fit(X, y)
    assert search.best_params_ == {"lr": 0.01}
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"]).assign(kind=np.where(X[:, 2] > 3, "long", "short"))
    columns = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["kind"]))
    assert make_pipeline(columns, network).fit(frame, y).score(frame, y) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels", [["b", "a", "c"], [7, 3, 1000], [False, True, True]], ids=["words", "integers", "booleans"]
)
def test_a_classifier_is_saved_and_loaded(tmp_path, labels):
    """The folder gives the same estimator, and slipstream.load the same labels; pickles hold plain bytes."""
    X, y = load_iris(return_X_y=True)
    frame, y = pd.DataFrame(X, columns=list("pqrs")), np.array(labels)[y]
    network = SlipstreamClassifier(width=8, max_epochs=10, random_state=0).fit(frame, y)
    again = SlipstreamClassifier.load(network.save(tmp_path / "saved"))
    restored = pickle.loads(pickle.dumps(network))
    for other in (again, restored):
        assert np.array_equal(other.predict_proba(frame), network.predict_proba(frame))
        assert other.predict(frame).tolist() == network.predict(frame).tolist()
        assert other.feature_names_in_.tolist() == list("pqrs")
    model = slipstream.load(tmp_path / "saved")
    assert model.predict(frame).labels.tolist() == network.predict(frame).tolist()
    assert {type(value).__module__ for value in network.__getstate__().values()} <= {"builtins", "numpy"}
    with pytest.raises(UserError, match=r"use slipstream\.SlipstreamClassifier\.load"):
        SlipstreamRegressor.load(tmp_path / "saved")
    with pytest.raises(UserError, match="holds no estimator"):
        SlipstreamClassifier.load(tmp_path)


@pytest.mark.slow
def test_a_regressor_keeps_units_and_shapes(tmp_path):
    """One target gives [N], several [N, D], in the units of y; saved and loaded the same."""
    draw = np.random.default_rng(0)
    X = draw.normal(5, 3, (150, 3))
    y = 1000 + 50 * X[:, 0]
    network = SlipstreamRegressor(random_state=0).fit(X, y)
    assert network.score(X, y) > 0.95
    pair = SlipstreamRegressor(random_state=0).fit(X, np.column_stack([y, -y]))
    assert pair.predict(X).shape == (150, 2)
    again = SlipstreamRegressor.load(pair.save(tmp_path / "saved"))
    assert np.array_equal(again.predict(X), pair.predict(X))
    assert np.allclose(slipstream.load(tmp_path / "saved").predict(X), pair.predict(X), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3])
def test_a_regressor_that_validates_keeps_its_units(seed):
    """Rows kept apart change neither the offset nor the scale of predictions: a line is learned."""
    X = np.linspace(0, 1, 24)[:, None]
    words = {"validation": 0.5, "max_epochs": 300, "settings": ["early_stopping=none"]}
    network = SlipstreamRegressor(16, 1, random_state=seed, **words)
    assert network.fit(X, 100 * X[:, 0]).score(X, 100 * X[:, 0]) > 0.999


@pytest.mark.slow
def test_parameters_reach_the_run():
    """Optimizer, regularizer, early stopping and settings are those of the run; seeds repeat it."""
    X, y = load_iris(return_X_y=True)
    words = {"regularizer": ["dropout"], "settings": ["regularizer.dropout.rate=0.3", "scheduler=cosine"]}
    network = SlipstreamClassifier(8, 1, optimizer="sgd", lr=None, max_epochs=5, validation=0.2, **words)
    raw = clone(network).set_params(random_state=3).fit(X, y)._trained.raw
    assert (raw["optimizer"]["name"], raw["early_stopping"]["name"]) == ("sgd", "patience")
    assert (raw["regularizer"]["dropout"]["rate"], raw["scheduler"]["name"]) == (0.3, "cosine")
    assert (raw["model"]["width"], raw["model"]["depth"], raw["data"]["validation"]) == (8, 1, 0.2)
    assert raw["trainer"]["observations"] is False  # they would be thrown away
    fits = [clone(network).set_params(random_state=seed).fit(X, y).predict_proba(X) for seed in (1, 1, None)]
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])
    with pytest.raises(ValueError, match="optimizer=adamm: no such option"):
        SlipstreamClassifier(optimizer="adamm").fit(X, y)


def test_what_they_do_not_take_is_said():
    """Sparse inputs, gaps, one class and one row are refused in a sentence, and tags say so."""
    X, y = load_iris(return_X_y=True)
    assert not get_tags(SlipstreamClassifier()).input_tags.allow_nan
    assert not get_tags(SlipstreamClassifier()).input_tags.sparse
    assert get_tags(SlipstreamRegressor()).target_tags.multi_output
    with pytest.raises(TypeError, match="Sparse data was passed"):
        SlipstreamClassifier().fit(scipy.sparse.csr_array(X), y)
    with pytest.raises(ValueError, match="contains NaN"):
        SlipstreamClassifier().fit(np.where(X > 7, np.nan, X), y)
    with pytest.raises(ValueError, match="found 1 class, expected at least 2"):
        SlipstreamClassifier().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="at least one non-zero"):
        SlipstreamClassifier().fit(X, y, sample_weight=np.zeros(len(X)))
