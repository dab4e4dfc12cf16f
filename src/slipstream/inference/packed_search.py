"""A scikit-learn search whose fits train together: `PackedSearchCV`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, check_cv
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import process_routing

from slipstream.core.compat import check_method_params, safe_split
from slipstream.core.types import DataLike, Plain
from slipstream.inference.packed_training import PendingFit, TrainedFit, postponing, train_all

TOGETHER = 4096  # fits prepared before any is scored; their rows and networks are in memory

Split = tuple[np.ndarray, np.ndarray]


class PackedSearchCV(GridSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """GridSearchCV and RandomizedSearchCV whose fits train together, as packs.

    Fits with the same structure (width, depth, batch size) and number of rows are one stacked computation.
    They may differ in learning rates, decays, seeds and folds. Each network is that of
    `clone(estimator).set_params(**params).fit(X[train], y[train])`, rounded as in a pack, and does not depend
    on the other candidates. Scaling and the earlier steps of a pipeline are fitted only on the fold's
    training rows. Other estimators are fitted one by one.

    Args:
        estimator: a `SlipstreamClassifier` or `SlipstreamRegressor`, or a Pipeline that ends in one.
        param_grid: lists by parameter, or a list of such dicts; with n_iter also scipy distributions.
        n_iter: the number of candidates to draw, as in RandomizedSearchCV; None for the whole grid.
        scoring, refit, cv, verbose, error_score, return_train_score: as in GridSearchCV. There is no n_jobs:
            a pack uses all cores.
        random_state: the seed of the draws.

    Attributes are those of GridSearchCV: `cv_results_`, `best_estimator_`, `best_params_`, `best_score_`,
    `best_index_`, `scorer_`, `n_splits_`, `refit_time_`, `multimetric_`. A fit's time is its share of its
    pack's.

    Example:
        >>> import slipstream
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> network = slipstream.SlipstreamClassifier(width=8, max_epochs=10, random_state=0)
        >>> search = slipstream.PackedSearchCV(network, {"lr": [1e-6, 0.1]}, cv=3).fit(X, y)
        >>> search.best_params_, search.cv_results_["mean_test_score"].shape
        ({'lr': 0.1}, (2,))
    """

    _parameter_constraints = GridSearchCV._parameter_constraints
    estimator: Any  # any of scikit-learn's kind

    def __init__(
        self,
        estimator: Any,  # any of scikit-learn's kind
        param_grid: Mapping[str, Plain] | Sequence[Mapping[str, Plain]],
        *,
        n_iter: int | None = None,
        scoring: Any = None,  # names, callables, lists and dicts of them, as in scikit-learn
        refit: bool | str | Callable[..., int] = True,
        cv: Any = None,  # a number, a splitter, or splits
        verbose: int = 0,
        random_state: Any = None,  # a seed, a RandomState or None
        error_score: float | str = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=1,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(self, X: DataLike, y: DataLike = None, **params: Plain) -> Self:
        """Train every candidate on every split, and the best one on all rows.

        Args:
            X: inputs [N, C].
            y: labels or target values, [N] or [N, D].
            params: for the estimator, scorers and splitter, as in GridSearchCV: sample_weight, groups.

        Returns:
            The search itself.

        Raises:
            ValueError: param_grid has a distribution without n_iter, or the data are unsuitable.
        """
        own = self.estimator
        self.estimator = TrainedAhead(own)  # GridSearchCV clones, fits and scores this
        self._given = X, y, params
        try:
            super().fit(X, y, **params)
        finally:
            self.estimator = own
            del self._given
        if self.scoring is None:
            self.scorer_ = check_scoring(own)
        return self

    def _candidates(self) -> list[dict[str, Plain]]:
        if self.n_iter is not None:
            return list(ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state))
        grids = [self.param_grid] if isinstance(self.param_grid, Mapping) else self.param_grid
        drawn = [name for grid in grids for name, values in grid.items() if hasattr(values, "rvs")]
        if drawn:
            raise ValueError(
                f"param_grid: {drawn[0]} is a distribution, expected a list of values; or set n_iter, the "
                "number of candidates to draw"
            )
        return list(ParameterGrid(self.param_grid))

    def _run_search(self, evaluate_candidates: Callable[..., dict[str, Any]]) -> None:  # scikit-learn's hook
        x, y, params = self._given
        x, y = indexable(x, y)
        of_splitter, of_fit = self._routed(params)
        candidates = self._candidates()
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(splitter.split(x, y, **of_splitter))
        ahead = self.estimator
        ahead.prepare(candidates, splits, (x, y, of_fit), print if self.verbose else quiet)
        results = evaluate_candidates(candidates, cv=_TheseSplits(splits))
        seconds = np.array(ahead.seconds).reshape(len(candidates), len(splits))
        results["mean_fit_time"], results["std_fit_time"] = seconds.mean(axis=1), seconds.std(axis=1)

    def _routed(self, params: Mapping[str, Plain]) -> tuple[Mapping[str, Plain], Mapping[str, Plain]]:
        """Return the arguments of `fit` for the splitter and those for the estimator's fit."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **params)
            return routed.splitter.split, routed.estimator.fit
        return {"groups": params.get("groups")}, {k: v for k, v in params.items() if k != "groups"}


class _TheseSplits:
    """A splitter with fixed splits, because drawing them again may give others."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.splits = splits

    def split(self, *_: DataLike, **__: DataLike) -> Iterator[Split]:
        return iter(self.splits)


class PreparedFit(NamedTuple):
    """A candidate on a split: the estimator without its networks, the networks' fits, and the seconds taken.

    done: False if the whole fit has yet to run.
    """

    estimator: Any  # any of scikit-learn's kind
    networks: list[PendingFit]
    seconds: float
    done: bool


class TrainedAhead:
    """A stand-in for an estimator in GridSearchCV, which sets a candidate's parameters, fits and scores.

    It relies on the order of GridSearchCV: all splits of a candidate, then the next. `set_params` returns the
    already trained estimator of that candidate and split, whose next `fit` does nothing. After the last one
    it returns a fresh clone, which is fitted as usual: the best candidate on all rows.
    """

    def __init__(self, estimator: Any) -> None:  # any of scikit-learn's kind
        self.estimator = estimator
        self.seconds: list[float] = []  # of every fit, in that order
        self._ready: Iterator[Any] = iter(())  # estimators of any kind

    def __repr__(self) -> str:
        return repr(self.estimator)

    def __getattr__(self, name: str) -> Any:  # an attribute of the estimator
        if name == "estimator" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.estimator, name)

    def __sklearn_clone__(self) -> Self:
        """Return itself: the estimator is cloned for every fit."""
        return self

    def __sklearn_tags__(self) -> Any:  # scikit-learn's record of tags
        """Return the estimator's tags."""
        return self.estimator.__sklearn_tags__()

    def set_params(self, **params: Plain) -> Any:  # an estimator of the same kind
        """Return the next estimator of the search, or after the last one a clone with these parameters."""
        found = next(self._ready, None)
        return clone(self.estimator).set_params(**params) if found is None else found

    def prepare(
        self,
        candidates: Sequence[Mapping[str, Plain]],
        splits: Sequence[Split],
        given: tuple[DataLike, DataLike, Mapping[str, Plain]],
        say: Callable[[str], None],
    ) -> None:
        """Store all candidates and splits. given: X, y and the arguments of the estimator's fit."""

        def ready() -> Iterator[Any]:  # estimators of any kind
            pairs = product(candidates, [train for train, _ in splits])
            while some := [self._prepared(*pair, *given) for pair in islice(pairs, TOGETHER)]:
                ends = iter(train_all([network for each in some for network in each.networks], say))
                for each in some:
                    yield self._trained(each, list(islice(ends, len(each.networks))))

        self._ready = ready()

    def _prepared(
        self,
        parameters: Mapping[str, Plain],
        train: np.ndarray,
        x: DataLike,
        y: DataLike,
        arguments: Mapping[str, Plain],
    ) -> PreparedFit:
        """Fit a candidate on the training rows of a split, without its networks."""

        def candidate() -> Any:  # an estimator of the same kind
            return clone(self.estimator).set_params(**clone(parameters, safe=False))

        begun, estimator = time.perf_counter(), candidate()
        own = check_method_params(x, params=arguments, indices=train)
        rows, targets = safe_split(estimator, x, y, train)
        try:
            with postponing() as networks:
                estimator.fit(rows, **own) if y is None else estimator.fit(rows, targets, **own)
        except Exception:  # its fit predicts or fails: it is repeated when GridSearchCV calls it
            return PreparedFit(candidate(), [], 0.0, done=False)
        return PreparedFit(estimator, networks, time.perf_counter() - begun, done=True)

    def _trained(self, prepared: PreparedFit, ends: Sequence[TrainedFit]) -> Any:  # its estimator
        """Return the estimator with a one-time `fit` that returns it or raises the fit's error."""
        estimator, place = prepared.estimator, len(self.seconds)
        self.seconds.append(prepared.seconds + sum(end.seconds for end in ends))
        errors = [end.error for end in ends if end.error is not None]

        def fit(*given: DataLike, **arguments: Plain) -> Any:  # the estimator
            del estimator.fit
            if errors:
                raise errors[0]
            if not prepared.done:
                begun = time.perf_counter()
                try:
                    estimator.fit(*given, **arguments)
                finally:
                    self.seconds[place] += time.perf_counter() - begun
            return estimator

        estimator.fit = fit
        return estimator


def quiet(line: str) -> None:
    """Discard a line."""
