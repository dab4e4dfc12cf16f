"""Metrics against scikit-learn and scipy, with and without weights; padding, absent classes, packs."""

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from scipy import stats

from references import REFERENCES
from sampling import slow_after
from slipstream.core.registry import component, components
from slipstream.metrics import confusion_matrix, defaults, every, final

N = 301  # odd, so that vectorised kernels have left-over elements
TASKS = ("binary", "multiclass", "multilabel", "regression")
METRICS = components("metric")
CASES = [(name, task) for name, part in METRICS.items() for task in part.traits.tasks]
ONES = torch.ones(N)


def problem(task, seed=0):
    """Scores (probabilities where there are classes), targets, and weights with zeros among them.

    Scores are rounded to two digits, so that there are ties.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(N, generator=generator) * (torch.rand(N, generator=generator) > 0.2)
    if task == "regression":
        targets = 50 + 10 * torch.randn(N, 3, generator=generator)
        return (targets + 5 * torch.randn(N, 3, generator=generator)).round(), targets.round(), weights
    if task == "multilabel":
        targets = torch.randint(0, 2, (N, 3), generator=generator).float()
        logits = targets + torch.randn(N, 3, generator=generator)
        return (logits.sigmoid() * 99 + 0.5).round() / 100, targets, weights
    classes = {"binary": 2, "multiclass": 7}[task]
    targets = torch.randint(0, classes, (N,), generator=generator)
    logits = 2 * torch.nn.functional.one_hot(targets, classes) + torch.randn(N, classes, generator=generator)
    counts = (logits.softmax(-1) * 90).round() + 1
    return counts / counts.sum(-1, keepdim=True), targets, weights


def untied(task, scores):
    """Scores without ties within an example, where the order of equal ones is a convention."""
    if task == "multiclass":
        scores = scores + 1e-4 * torch.arange(scores.shape[1])
        scores = scores / scores.sum(-1, keepdim=True)
    return scores


def test_every_metric_has_a_reference():
    """No metric goes untested."""
    assert set(REFERENCES) == set(METRICS)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[0] != "spearman"])
def test_equals_scikit_learn(name, task, weighted):
    """Each metric on each task is scikit-learn's, weights being its sample_weight."""
    scores, targets, weights = problem(task)
    scores, weights = untied(task, scores), weights if weighted else ONES
    result = component("metric", name)(scores, targets, weights)
    arrays = (t.double().numpy() if t.is_floating_point() else t.numpy() for t in (targets, scores, weights))
    assert result.shape == ()
    assert result.dtype == torch.float64
    # Scores are float32: their sums and squares differ in the seventh digit.
    assert float(result) == pytest.approx(REFERENCES[name](*arrays), rel=2e-6)


def test_spearman_is_scipys():
    """Without weights the rank correlation is scipy's, ties and all."""
    scores, targets, _ = problem("regression")
    reference = [stats.spearmanr(scores[:, c], targets[:, c]).statistic for c in range(3)]
    result = component("metric", "spearman")(scores, targets, ONES)
    assert float(result) == pytest.approx(np.mean(reference), rel=1e-10)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_weight_of_k_counts_as_k_examples(name, task):
    """Whole weights give the value of the data with each example repeated so often, 0 leaving it out."""
    scores, targets, _ = problem(task)
    counts = torch.randint(0, 4, (N,), generator=torch.Generator().manual_seed(2))
    metric = component("metric", name)
    repeated = scores.repeat_interleave(counts, 0), targets.repeat_interleave(counts, 0)
    expected = metric(*repeated, torch.ones(len(repeated[0])))
    assert float(metric(scores, targets, counts.float())) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_padding_leaves_no_trace(name, task, rubbish):
    """Rows of weight 0 may hold anything and do not change the value."""
    scores, targets, weights = problem(task)
    metric = component("metric", name)
    padded = torch.cat([scores, torch.full_like(scores[:7], rubbish)])
    truth = torch.cat([targets, targets[:7] if targets.dim() == 1 else torch.zeros_like(targets[:7])])
    value = metric(padded, truth, torch.cat([weights, torch.zeros(7)]))
    assert float(value) == pytest.approx(float(metric(scores, targets, weights)), rel=1e-12)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_without_any_weight_a_metric_is_nan(name, task):
    """Where nothing counts, nothing is claimed."""
    scores, targets, _ = problem(task)
    assert component("metric", name)(scores, targets, torch.zeros(N)).isnan()


BY_CLASS = {
    "balanced_accuracy": (sk.recall_score, False),
    "precision_macro": (sk.precision_score, False),
    "recall_macro": (sk.recall_score, False),
    "f1_macro": (sk.f1_score, False),
    "roc_auc": (sk.roc_auc_score, True),
    "pr_auc": (sk.average_precision_score, True),
}


@pytest.mark.parametrize(
    ("name", "task"), [case for case in CASES if case[0] in BY_CLASS and case[1] != "binary"]
)
def test_a_mean_over_classes_is_over_those_that_are_there(name, task):
    """Each class that occurs enters as scikit-learn has it alone; the absent one does not."""
    scores, targets, weights = problem(task)
    scores = untied(task, scores)
    weights = weights * ((targets != 1) if targets.dim() == 1 else targets[:, 1] == 0)
    function, of_scores = BY_CLASS[name]
    if targets.dim() == 1:
        places = torch.arange(scores.shape[1])
        yes, guesses = targets.unsqueeze(1) == places, scores.argmax(1, keepdim=True) == places
    else:
        yes, guesses = targets > 0.5, scores > 0.5
    given = scores if of_scores else guesses
    right = [
        function(yes[:, c].numpy(), given[:, c].numpy(), sample_weight=weights.numpy())
        for c in range(scores.shape[1])
        if c != 1
    ]
    found = component("metric", name)(scores, targets, weights)
    assert float(found) == pytest.approx(np.mean(right), rel=1e-6)


def test_one_class_alone_leaves_undefined_what_compares_two():
    """Of a binary target with one class, correlation and the area below a curve of both say nothing."""
    scores, targets, weights = problem("binary")
    weights = weights * (targets == 0)
    undefined = {n for n in every("binary", 2) if component("metric", n)(scores, targets, weights).isnan()}
    assert undefined == {"mcc", "roc_auc", "pr_auc"}
    assert sk.matthews_corrcoef([0, 0, 0], [0, 1, 0]) == 0  # as the docstring has it; here alone we differ


def test_a_constant_prediction():
    """Predicting one class only: chance level, precision 0 where never predicted, no correlation."""
    _, targets, weights = problem("multiclass")
    scores = torch.nn.functional.one_hot(torch.full((N,), 3), 7).float()

    def value(name, targets=targets):
        return float(component("metric", name)(scores, targets, weights))

    assert value("balanced_accuracy") == pytest.approx(1 / 7)
    assert value("precision_macro") == pytest.approx(value("accuracy") / 7)
    assert value("mcc") == 0
    assert value("kappa") == pytest.approx(0, abs=1e-12)
    assert value("roc_auc") == pytest.approx(0.5)
    alone = torch.full((N,), 3)
    assert value("accuracy", alone) == 1
    assert np.isnan([value("mcc", alone), value("kappa", alone)]).all()


def test_regression_without_variation_is_undefined_where_it_must_be():
    """Equal targets leave r2 and spearman undefined, in any column, and only those; a target of 0 mape."""
    scores, targets, weights = problem("regression")
    targets[:, 1] = 0.1  # not a binary fraction: its mean rounds
    undefined = {
        n for n in every("regression", 0) if component("metric", n)(scores, targets, weights).isnan()
    }
    assert undefined == {"r2", "spearman"}
    targets[weights.argmax(), 1] = 0
    assert component("metric", "mape")(scores, targets, weights).isnan()
    assert component("metric", "spearman")(torch.ones(N, 3), problem("regression")[1], weights).isnan()


def test_perfect_and_opposite_predictions():
    """The best value is reached by the truth itself, and rank metrics see a reversed order."""
    _, targets, weights = problem("multiclass")
    truth = torch.nn.functional.one_hot(targets, 7).float()
    for name in every("multiclass", 7):
        best = 1 if METRICS[name].traits.mode == "max" else 0
        assert float(component("metric", name)(truth, targets, weights)) == pytest.approx(best, abs=1e-12), (
            name
        )
    _, numbers, _ = problem("regression")
    for name in every("regression", 0):
        best = 1 if METRICS[name].traits.mode == "max" else 0
        assert float(component("metric", name)(numbers, numbers, weights)) == pytest.approx(best), name
    assert float(component("metric", "spearman")(-numbers, numbers, weights)) == pytest.approx(-1)


def test_confusion_matrix_is_scikit_learns():
    """True classes are rows, predicted ones columns, and weights are added up."""
    scores, targets, weights = problem("multiclass")
    reference = sk.confusion_matrix(targets, scores.argmax(1), sample_weight=weights)
    np.testing.assert_allclose(confusion_matrix(scores, targets, weights), reference, rtol=1e-6)


def test_a_probability_of_zero_costs_a_finite_log_loss():
    """A sure and wrong prediction counts as one of float precision, as in scikit-learn."""
    scores, targets = torch.tensor([[1.0, 0.0], [0.25, 0.75]]), torch.tensor([1, 1])
    expected = (-np.log(np.finfo(np.float32).eps) - np.log(0.75)) / 2
    assert float(component("metric", "log_loss")(scores, targets, torch.ones(2))) == pytest.approx(expected)


@pytest.mark.parametrize("k", slow_after(1, [3, 2, 8]))
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_pack_gives_each_member_its_own_bytes(name, task, k):
    """Under vmap a member's value is its own to the last digits, and its bytes those of a pack of 2."""
    metric = component("metric", name)
    problems = [problem(task, seed) for seed in range(k)]
    scores, weights = torch.stack([p[0] for p in problems]), problems[0][2]
    for targets, axis in ((problems[0][1], None), (torch.stack([p[1] for p in problems]), 0)):
        packed = torch.vmap(metric, (0, axis, None))(scores, targets, weights)
        pair = torch.vmap(metric, (0, axis, None))(
            scores[:2], targets if axis is None else targets[:2], weights
        )
        assert torch.equal(packed[:2], pair)
        for i in range(k):
            alone = metric(scores[i], targets if axis is None else targets[i], weights)
            assert float(packed[i]) == pytest.approx(float(alone), rel=1e-12)


@pytest.mark.slow
def test_all_compile_in_a_pack_as_one_graph():
    """torch.compile takes every vmapped metric without a graph break."""
    for task in TASKS:
        metrics = [METRICS[name].function for name, t in CASES if t == task]
        scores, targets, weights = problem(task)

        def member(scores, targets=targets, weights=weights, metrics=metrics):
            return torch.stack([metric(scores, targets, weights) for metric in metrics])

        pack = torch.stack([scores, scores.roll(1, 0)])
        compiled = torch.compile(torch.vmap(member), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(pack), torch.vmap(member)(pack))


@pytest.mark.slow
def test_large_data_lose_no_digits():
    """With a million examples and targets far from 0, float64 sums agree with numpy's."""
    generator = torch.Generator().manual_seed(0)
    targets = 1e4 + torch.randn(1_000_000, 1, generator=generator)
    scores = targets + 0.5 * torch.randn(1_000_000, 1, generator=generator)
    t, s = targets.double().numpy(), scores.double().numpy()
    weights = torch.ones(1_000_000)
    # The difference of two float32 numbers near 1e4 is exact to 1e-3 at worst and averages out.
    assert float(component("metric", "r2")(scores, targets, weights)) == pytest.approx(
        sk.r2_score(t, s), rel=1e-9
    )
    rmse = float(component("metric", "rmse")(scores, targets, weights))
    assert rmse == pytest.approx(sk.root_mean_squared_error(t, s), rel=1e-6)
    right = torch.rand(1_000_000, 2, generator=generator)
    classes = (right[:, 1] > 0.3).long()
    auc = float(component("metric", "roc_auc")(right, classes, weights))
    assert auc == pytest.approx(1.0, rel=1e-12)


def test_names_for_each_task_fit_it():
    """Defaults fit the task; five stand at the end; top-k and probabilities stand only where they can."""
    for task in TASKS:
        for probabilistic in (True, False):
            usual = final(task, 10, probabilistic, [])
            assert len(usual) == 5
            assert set(usual) <= set(every(task, 10, probabilistic))
        assert final(task, 10, True, [usual[0], "asked"]) == [*final(task, 10, True, []), "asked"]
        assert set(defaults(task)) <= set(every(task, 10)) <= {n for n, t in CASES if t == task}
    assert "top_3_accuracy" in every("multiclass", 4)
    assert "top_3_accuracy" not in every("multiclass", 3)
    assert "top_5_accuracy" not in every("binary", 2)
    assert set(every("binary", 2)) - set(every("binary", 2, probabilistic=False)) == {
        "log_loss",
        "brier",
        "ece",
    }
