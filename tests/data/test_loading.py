"""Loading: settings that contradict each other, weights, the fingerprint, and every option's YAML."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_class_weight

from sampling import slow_after
from slipstream import data
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component, components
from slipstream.training.inputs import ready

CONFIGS = Path(__file__).parents[2] / "configs"
SOURCES = sorted(components("data"))
READY = [
    name
    for name in SOURCES
    if "path" not in component("data", name).own_settings and not component("data", name).traits.in_memory
]


@pytest.mark.parametrize("name", slow_after(3, SOURCES))
def test_every_yaml_has_exactly_the_settings_of_its_source(name):
    """Hydra composes data=<name>, and its keys are `name` and the settings, own and common."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = OmegaConf.to_container(compose(overrides=[f"+data={name}"]).data)
    assert composed.pop("name") == name
    assert set(composed) == set(component("data", name).settings)


@pytest.mark.parametrize("name", slow_after(3, READY))
def test_every_ready_source_loads_without_warnings(name, load):
    """Defaults, scaled, give three parts of finite float32 inputs (images raw), without a warning."""
    found = load(name, scaling="standard")
    assert load(name).warnings == found.warnings == ()
    for part in (found.train, found.validation, found.test):
        assert len(part) > 0
        assert part.weights.dtype == torch.float32
        assert part.inputs.dtype in (torch.float32, torch.uint8)
        assert part.inputs.is_contiguous()
        assert torch.isfinite(part.inputs).all()
        assert len(part.inputs) == len(part.targets) == len(part.weights)
    scaled = ready(found.train.inputs, found.form, replace(found.form, scaling=None))
    assert scaled.mean().abs() < 1e-4
    channels = found.form.shape[-1 if found.form.kind == "sequence" else 0]
    assert len(found.input_names) == channels
    assert f"data={name}" in found.summary


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("iris", {"validation": 0.5, "test": 0.5}, "leave no rows to train on"),
        ("iris", {"fold": 1}, "data.fold: found 1, but data.folds is null"),
        ("iris", {"folds": 1}, "data.folds: found 1, expected at least 2"),
        ("iris", {"folds": 5, "fold": 5}, "data.fold: found 5, expected 0 to 4"),
        ("iris", {"folds": 5, "validation": 0.2}, "data.folds=5 defines"),
        ("iris", {"split": "group"}, "data.split: group needs"),
        ("iris", {"split": "time"}, "data.split: time needs"),
        ("iris", {"target_scaling": "standard"}, "data.target_scaling: standard is for regression"),
        ("diabetes", {"split": "stratified"}, "data.split: stratified needs classes"),
        ("diabetes", {"class_weights": "balanced"}, "data.class_weights: regression has no classes"),
        ("table", {}, "data.path: is not set"),
        ("table", {}, "data.target: is not set"),
        ("table", {"path": "nowhere.csv"}, "data.path: nowhere.csv is not a file"),
        ("table", {"path": __file__}, "data.path: found"),
        ("table", {"scaling": "global"}, "data.scaling: global"),
        ("table", {"split": "group"}, "data.split: group needs data.group_column"),
        ("table", {"split": "random", "group_column": "g"}, "data.group_column: is not used by data.split"),
        (
            "table",
            {"time_column": "t", "group_column": "g"},
            "data.time_column: data.group_column already keeps rows",
        ),
        (
            "table",
            {"split_column": "s", "test_path": __file__},
            "data.split_column: files already define the splits",
        ),
        (
            "table",
            {"target": "y", "weight_column": "y"},
            "data.weight_column: column 'y' is already data.target",
        ),
        ("table", {"target": "y", "inputs": ["y"]}, "data.inputs: column 'y' is already data.target"),
        ("table", {"target": "y", "kinds": {"y": "number"}}, "data.kinds.y: the column is data.target"),
        ("table", {"folds": 3, "time_column": "t"}, "data.folds: a split by time supports no folds"),
        ("table", {"separator": ";;"}, "data.separator: found ';;'"),
        ("table", {"separator": ",", "decimal": ","}, "data.decimal: ',' is already data.separator"),
    ],
)
def test_contradictions_are_found_without_reading(settings, name, changes, words):
    """Settings that contradict each other are listed, and loading refuses them with the same sentence."""
    values = settings(name, **changes)
    found = data.problems(values)
    assert any(words in problem for problem in found), found
    assert all(problem.startswith("data.") for problem in found)
    with pytest.raises(ConfigError) as caught:
        data.load(values)
    assert caught.value.problems == found


def test_good_settings_have_no_problems(settings, tmp_path):
    """What is valid is not complained about."""
    (tmp_path / "t.csv").touch()
    path = str(tmp_path / "t.csv")
    assert data.problems(settings("table", path=path, target="y", group_column="g", folds=5, fold=4)) == []
    assert all(data.problems(settings(name)) == [] for name in READY)


def test_balanced_class_weights_equal_scikit_learn(load):
    """balanced gives scikit-learn's weights, fitted on train and used in train only."""
    found = load("breast_cancer", class_weights="balanced")
    labels = found.train.targets.numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)[labels]
    assert np.allclose(found.train.weights, expected, rtol=1e-6)  # float32
    assert (found.validation.weights == 1).all()
    assert (found.test.weights == 1).all()


def test_balanced_class_weights_know_the_rows_weights(load_table):
    """scikit-learn's with sample_weight: every class has the same sum, whatever its rows weigh."""
    lines = [f"{i % 7},{[0.5, 2, 7][i % 3]},{'aaabc'[i % 5]}" for i in range(90)]
    table = "x,w,y\n" + "\n".join(lines) + "\n"
    found = load_table(table, weight_column="w", class_weights="balanced", test=0.0, validation=0.0)
    own = np.array([[0.5, 2, 7][i % 3] for i in range(90)])
    labels = found.train.targets.numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels, sample_weight=own)
    assert np.allclose(found.train.weights, own * expected[labels], rtol=1e-6)  # float32
    sums = np.bincount(labels, found.train.weights.numpy().astype(float))
    assert sums == pytest.approx([own.sum() / 3] * 3)


def test_a_class_of_weight_0_stays_there(load_table):
    """It is no share of the others', and nothing is divided by 0."""
    table = "x,w,y\n" + "\n".join(f"{i % 7},{i % 3},{'abc'[i % 3]}" for i in range(60)) + "\n"
    found = load_table(table, weight_column="w", class_weights="balanced", test=0.0, validation=0.0)
    sums = np.bincount(found.train.targets.numpy(), found.train.weights.numpy().astype(float))
    assert sums == pytest.approx([0, 30, 30])


def test_given_class_weights(load):
    """A mapping gives each class its weight; a wrong, or missing, class is named."""
    found = load("iris", class_weights={"setosa": 2.0, "versicolor": 1.0, "virginica": 0.5})
    assert torch.equal(found.train.weights, torch.tensor([2.0, 1.0, 0.5])[found.train.targets])
    with pytest.raises(ConfigError, match=r"data\.class_weights\.setoza: .* did you mean setosa\?"):
        load("iris", class_weights={"setoza": 2.0})
    with pytest.raises(ConfigError, match="missing versicolor, virginica"):
        load("iris", class_weights={"setosa": 2.0})


def test_class_weights_of_numbered_classes(load):
    """Classes that are numbers can be named as numbers, as YAML reads them."""
    found = load("digits", class_weights={i: i + 1.0 for i in range(10)})
    assert torch.equal(found.train.weights, found.train.targets + 1.0)


def test_weights_multiply(load_table):
    """A row's own weight and its class's weight are multiplied."""
    table = "x,w,y\n" + "\n".join(f"{i % 5},{i % 3 + 1},{'aab'[i % 3]}" for i in range(60)) + "\n"
    found = load_table(
        table, weight_column="w", class_weights={"a": 1.0, "b": 10.0}, test=0.0, validation=0.0
    )
    assert found.train.weights[:3].tolist() == [1, 2, 30]


def test_the_fingerprint_tells_data_apart(load, load_table):
    """The same settings give the same fingerprint; other rows, targets, scaling, seeds or files another."""
    assert load("iris").fingerprint == load("iris").fingerprint
    changes = [{}, {"split_seed": 1}, {"scaling": "minmax"}, {"test": 0.2}, {"class_weights": "balanced"}]
    assert len({load("iris", **change).fingerprint for change in changes}) == len(changes)
    table = "x,unused,y\n" + "\n".join(f"{i},0,{i / 2}" for i in range(30)) + "\n"
    prints = {load_table(text, inputs=["x"]).fingerprint for text in (table, table.replace("1,0,", "1,7,"))}
    assert len(prints) == 2


def test_batch_size_does_not_change_the_data(load):
    """The fingerprint says nothing about batches: it is of the data alone."""
    assert load("iris", batch_size="full").fingerprint == load("iris").fingerprint


def test_iris_can_be_learned(load):
    """Inputs and targets still belong together: logistic regression finds the species of the test flowers."""
    found = load("iris", test=0.3)
    model = LogisticRegression().fit(found.train.inputs.numpy(), found.train.targets.numpy())
    assert model.score(found.test.inputs.numpy(), found.test.targets.numpy()) > 0.9


@pytest.mark.slow
def test_digits_can_be_learned(load):
    """The default data allow 97 % in test by a small network."""
    found = load("digits")
    scaled = replace(found.form, scaling=None)
    train, test = (ready(part.inputs, found.form, scaled).flatten(1) for part in (found.train, found.test))
    model = MLPClassifier(
        (128,), learning_rate_init=0.003, max_iter=60, random_state=0, tol=0, n_iter_no_change=60
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(train.numpy(), found.train.targets.numpy())
    assert model.score(test.numpy(), found.test.targets.numpy()) >= 0.97
