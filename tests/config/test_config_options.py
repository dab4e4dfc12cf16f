"""Every shipped option fits its function, composes and validates; what comes out is plain and typed."""

from itertools import zip_longest

import numpy as np
import pytest
import yaml

from sampling import slow_after
from slipstream.config import Config, compose, composition, for_target, validate
from slipstream.config.files import defaults, folder
from slipstream.config.schema import CHOICES, GROUPS, options, settings
from slipstream.core.errors import ConfigError
from slipstream.core.types import Target

OPTIONS = [(group, name) for group in (*GROUPS, "sweep") for name in options(group)]


@pytest.mark.parametrize(("group", "name"), slow_after(3, OPTIONS))
def test_a_yaml_has_the_keys_of_its_function(group, name):
    """An option's YAML holds a value for every setting of its function and for nothing else."""
    assert defaults(group, name).keys() == settings(group, name).keys()


@pytest.mark.parametrize("group", [*GROUPS, "sweep"])
def test_a_group_has_a_yaml_for_every_option_and_no_other(group):
    """The files of a group are the names of its components."""
    files = {file.stem for file in (folder() / group).glob("*.yaml") if not file.stem.startswith("_")}
    assert files == set(options(group))


@pytest.mark.parametrize("group", [*CHOICES, "sweep"])
def test_a_yaml_says_its_own_name(group):
    """`name` in an option's YAML is the file's name, so that the right component is found."""
    for name in options(group):
        content = yaml.safe_load((folder() / group / f"{name}.yaml").read_text())
        assert content.get(group, content)["name"] == name


def rows():
    """Command lines that together choose every option of every group once."""
    columns = {group: options(group) for group in GROUPS}
    columns["regularizer"] = [f"[{name}]" for name in columns["regularizer"]]
    for values in zip_longest(*columns.values()):
        yield [f"{group}={value}" for group, value in zip(columns, values, strict=True) if value]


@pytest.mark.parametrize("row", slow_after(1, list(rows())), ids=str)
def test_every_option_composes(row):
    """Hydra accepts every option, and its values pass the schema; whether parts fit is another matter."""
    plain, problems = composition.screen(row)
    assert problems == []
    found = []
    try:
        validate(plain)
    except ConfigError as error:
        found = error.problems
    assert [
        text for text in found if "no such" in text or "expected number" in text or "has no value" in text
    ] == []


FITTING = {
    **{f"data={name}": ["data.path={folder}"] for name in ("images", "idx", "cifar")},
    "data=table": ["data.path={folder}/x.csv", "data.target=y"],
    "data=arrays": ["data.path={folder}/x.npz"],
    "optimizer=gradient_descent": [],
    "activation=softmax": ["model=perceptron", "loss=mse"],
    "activation=softmin": ["model=perceptron", "loss=mse"],
    "activation=maxout": ["activation.pieces=3"],
    "model=perceptron": ["activation=sigmoid", "loss=mse"],
    "regularizer=[label_smoothing]": ["data=iris", "regularizer.label_smoothing.amount=0.2"],
    "loss=hinge": ["data=breast_cancer"],
    "loss=huber": ["data=diabetes"],
    "early_stopping=none": [],
    "logger=none": [],
    "experiment=xor": [],
    "experiment=perceptron_xor": [],
    "experiment=learning_rate": [],
}


@pytest.mark.parametrize("choice", slow_after(2, FITTING))
def test_options_with_what_they_need_are_accepted(choice, tmp_path):
    """A choice with fitting companions validates."""
    (tmp_path / "x.csv").write_text("x,y\n1,0\n2,1\n")
    np.savez(tmp_path / "x.npz", inputs=np.zeros((4, 2)), targets=np.zeros(4))
    overrides = [text.format(folder=tmp_path) for text in FITTING[choice]]
    assert isinstance(validate(compose(choice, *overrides)), Config)


def test_the_result_is_plain_typed_and_complete(plain):
    """Settings are plain Python values of the annotated type, and raw holds all but `resume`."""
    config = validate(plain)
    assert config.name == config.data.name == "digits"
    assert config.optimizer.settings["lr"] == 0.001
    assert config.early_stopping.settings["metric"] == config.trainer.monitor == "val/loss"
    assert config.regularizers == {}
    assert set(config.raw) == {*GROUPS, "name", "seed"}
    assert yaml.safe_load(yaml.safe_dump(config.raw)) == config.raw
    assert validate(config.raw) == config


def test_a_whole_number_is_a_fine_float():
    """`optimizer.lr=1` becomes 1.0."""
    lr = validate(compose("optimizer.lr=1")).optimizer.settings["lr"]
    assert isinstance(lr, float)
    assert lr == 1.0


@pytest.mark.slow
def test_regularizers_compose_as_a_list():
    """Each regularizer keeps its settings under its own name."""
    config = validate(compose("regularizer=[dropout,l2]", "regularizer.l2.strength=0.5"))
    assert set(config.regularizers) == {"dropout", "l2"}
    assert config.regularizers["l2"] == {"strength": 0.5}


@pytest.mark.slow
def test_the_perceptron_has_no_activation_unless_it_is_chosen():
    """model=perceptron chooses identity; the command line and an experiment still win."""
    assert validate(compose("model=perceptron")).activation.name == "identity"
    assert validate(compose("experiment=perceptron_xor")).activation.name == "identity"
    chosen = compose("experiment=perceptron_xor", "activation=tanh", "loss=mse")
    assert validate(chosen).activation.name == "tanh"


@pytest.mark.slow
def test_gradient_descent_takes_all_data():
    """optimizer=gradient_descent sets data.batch_size, whatever data is chosen."""
    assert validate(compose("optimizer=gradient_descent", "data=iris")).data.settings["batch_size"] == "full"


def test_auto_loss_becomes_the_loss_of_the_target(plain):
    """Once the target is known, `auto` is replaced by a loss with the settings of its YAML."""
    config = validate(plain)
    target = Target("multiclass", classes=("a", "b", "c"))
    assert config.loss.name == "auto"
    assert for_target(config, target).loss.name == "cross_entropy"
    assert for_target(config, target).loss.settings == defaults("loss", "cross_entropy")
    assert for_target(config, target).raw["loss"]["name"] == "auto"


def test_the_target_of_read_data_is_held_against_the_choices(plain):
    """What could not be checked before reading is an error afterwards."""
    config = validate(plain | {"loss": {"name": "cross_entropy", **defaults("loss", "cross_entropy")}})
    with pytest.raises(ConfigError, match="cross_entropy: supports binary and multiclass"):
        for_target(config, Target("regression"))
