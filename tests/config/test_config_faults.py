"""Rows C1 to C12 of the catalogue of faults, and the user's own files: all mistakes are named at once."""

import shlex

import pytest

from sampling import slow_after
from slipstream.config import compose, composition, validate
from slipstream.core import registry
from slipstream.core.errors import ConfigError, UserError


@pytest.mark.parametrize(
    ("override", "hint"),
    slow_after(
        3,
        [
            ("optimiser=adam", "did you mean optimizer=adam?"),
            ("optimizer=adm", "did you mean adam?"),
            ("experiment=xr", "did you mean xor?"),
            ("optimzer.lr=1", "did you mean optimizer.lr=1?"),
            ("optimizer=[adam,sgd]", "takes one option, found 2"),
            ("optimizer=null", "not an option"),
            ("adam", "expected key=value"),
            ("optimizer.lr=0.1,0.2", "add -m"),
            ("lst", "did you mean slipstream list?"),
            ("optimizer.name=sgd", "select the option with optimizer=sgd"),
            ("scheduler=none", "did you mean constant?"),
            ("regularizer=none", "write regularizer=[]"),
            ("regularizer=[l2,l2]", "appears twice in the list"),
            ("+experiment=xor", "write it without +"),
            ("data.decimal=,", "as \"data.decimal=','\""),
            ("data.target=[a", "a bracket is not closed"),
            ("early_stopping=true", "early_stopping=true: no such option"),
            ("hydra.foo=1", "hydra.foo: Hydra has no such key"),
        ],
    ),
)
def test_c01_misspelled_group(override, hint, only_problem):
    """A group or option that does not exist is answered with the nearest name."""
    assert hint in only_problem(override)


def test_letters_outside_ascii_are_named_as_the_cause(tmp_path):
    """An unquoted umlaut is the one problem, and what the message says to type is accepted."""
    file = tmp_path / "t.csv"
    file.write_text("x,größe\n1,2\n", encoding="utf-8")
    table = ["data=table", f"data.path={file}"]
    with pytest.raises(ConfigError) as error:
        compose(*table, "data.target=größe")
    (sentence,) = error.value.problems
    assert "größe: ö ß must be in quotes" in sentence
    (word,) = shlex.split(sentence.partition("did you mean ")[2].rstrip("?"))
    assert compose(*table, word)["data"]["target"] == "größe"


@pytest.mark.parametrize("prefix", ["", "+", "++"])
@pytest.mark.parametrize(
    ("override", "hint"),
    [
        (
            "optimizer.lrr=1",
            "optimizer=adam has no such setting, did you mean optimizer.lr=1?",
        ),
        (
            "trainer.max_epoch=1",
            "trainer.max_epoch: the trainer has no such setting, did you mean trainer.max_epochs=1?",
        ),
        ("regularizer.dropout.rat=0.1", "has no such setting, did you mean regularizer.dropout.rate=0.1?"),
        ("sed=1", "did you mean seed=1?"),
    ],
)
def test_c02_misspelled_key(prefix, override, hint, only_problem):
    """An unknown key at any depth, with or without +, is answered with the nearest one."""
    assert hint in only_problem("regularizer=dropout", prefix + override)


def test_c02_a_key_below_a_value(only_problem):
    """A setting that is a number has nothing below it, with or without +."""
    found = only_problem("model.depth.x=1")
    assert found == "model.depth.x: no such key, model.depth is 2; set model.depth itself"
    assert only_problem("+model.depth.x=1").startswith("model.depth: found {'x': 1}, expected whole number")
    assert only_problem("+optimizer.lr=1") == "+optimizer.lr=1: the key exists; write it without +"


def test_c02_settings_of_a_regularizer_that_is_not_chosen(only_problem):
    """Setting what is not in the list says how to add it."""
    found = only_problem("regularizer=dropout", "regularizer.l2.strength=1")
    assert '(dropout); add it: "regularizer=[dropout,l2]" regularizer.l2.strength=1' in found
    assert "add it: regularizer=l2 regularizer.l2.strength=1" in only_problem("regularizer.l2.strength=1")
    found = only_problem("regularizer.mixup.alpha=1")
    assert found.endswith("mixup is an option of augmentation, did you mean augmentation.mixup.alpha?")
    assert only_problem("regularizer.dropot.rate=0.1").endswith("dropout regularizer.dropout.rate=0.1?")


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (
            ["augmentation=rotation", "augmentation.degrees=20"],
            "augmentation.degrees: no such option, did you mean augmentation.rotation.degrees=20?",
        ),
        (["augmentation.degrees=20"], "augmentation=rotation augmentation.rotation.degrees=20?"),
        (
            ["augmentation={rotation:{degrees:10}}"],
            "write augmentation=[rotation] augmentation.rotation.degrees=10",
        ),
        (["regularizer={dropout:{},l2:{}}"], "write regularizer=[dropout,l2]"),
        (["optimizer={sgd:{lr:1}}"], "write optimizer=sgd optimizer.lr=1"),
        (["optimizer={name:sgd,lr:1}"], "set each setting by itself, optimizer.SETTING=VALUE"),
    ],
)
def test_c02_settings_below_the_list_itself(overrides, hint, only_problem):
    """A setting without its option's name, or a mapping of all, is answered with how it is written."""
    assert hint in only_problem(*overrides)


@pytest.mark.slow
def test_what_an_experiment_brings_is_said_to_come_from_it(problems_of):
    """A problem over a choice that nobody typed names the experiment, and the one for such data."""
    (found,) = problems_of("experiment=realmlp", "data=diabetes")
    assert found.endswith(
        "remove it: regularizer=[dropout] (regularizer.label_smoothing comes from experiment=realmlp: "
        "take experiment=realmlp_regression)"
    )
    (found,) = problems_of("experiment=realmlp", "data=shapes", "data.scaling=none", "model.depth=-1")
    assert "comes from" not in found
    assert problems_of("experiment=resnet", "data=iris")[0].endswith("(model comes from experiment=resnet)")
    typed = "regularizer=[dropout,label_smoothing]"
    (found,) = problems_of("experiment=realmlp", "data=diabetes", typed)
    assert found.endswith("remove it: regularizer=[dropout]")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.depth=abc", "model.depth: found 'abc', expected whole number >= 0"),
        ("model.depth=2.5", "model.depth: found 2.5, expected whole number >= 0"),
        ("model.width=[8,x]", "expected whole number >= 1 or list of (whole number >= 1)"),
        ("optimizer.lr=fast", "expected number > 0"),
        ("optimizer.lr=null", "found null, expected number > 0"),
        ("model.residual=1", "model.residual: found 1, expected true or false"),
        ("trainer.device=gpu", "expected one of 'auto', 'cpu', 'cuda'"),
        ("trainer.compile=1", "expected 'auto' or true or false"),
        ("trainer.metrics=accuracy", "expected one of 'auto', 'all' or list of (text)"),
        ("name=5", "name: found 5, expected text"),
    ],
)
def test_c03_wrong_type(override, expected, only_problem):
    """A value of the wrong type is shown with the type and range that is expected."""
    assert expected in only_problem(override)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_c04_not_finite(value, only_problem):
    """NaN and infinities are no numbers for a setting."""
    assert only_problem(f"optimizer.lr={value}").endswith("expected number > 0 (finite)")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.max_epochs=-5", "trainer.max_epochs: found -5, expected whole number >= 1"),
        ("optimizer.lr=0", "optimizer.lr: found 0, expected number > 0"),
        ("optimizer.beta1=1", "expected number >= 0 and < 1"),
        ("seed=-1", "seed: found -1"),
        (f"seed={2**64}", "expected whole number >= 0 and < 18446744073709551616"),
        ("trainer.keep=1", "expected whole number >= 2"),
        ("name=../up", "expected a folder name"),
    ],
)
def test_c05_out_of_range(override, expected, only_problem):
    """A number out of its range is shown with the range."""
    assert expected in only_problem(override)


def test_c06_a_bool_is_no_number(only_problem):
    """true is neither 1 nor 1.0."""
    assert "found true, expected whole number" in only_problem("model.depth=true")
    assert "found true, expected number > 0" in only_problem("optimizer.lr=true")


def test_c07_unknown_option_in_a_list(only_problem):
    """One wrong name in a list is named with the nearest right one."""
    assert only_problem("regularizer=[l2,drop]") == "regularizer=drop: no such option, did you mean dropout?"


@pytest.mark.parametrize(
    ("overrides", "reason"),
    slow_after(
        3,
        [
            (
                ["loss=hinge", "data=diabetes"],
                "loss=hinge: supports binary and multiclass, but data=diabetes is regression",
            ),
            (["loss=huber"], "data=digits is multiclass"),
            (["activation=softmax"], "is meant for the output layer"),
            (["model=perceptron", "activation=softmax"], "would be normalized twice"),
            (["model.output_activation=softmax"], "would be normalized twice"),
            (["model=perceptron", "activation=sigmoid", "data=xor"], "binary_cross_entropy expects logits"),
            (["model.output_activation=relu"], "restricts their range"),
            (["model=perceptron", "activation=tanh"], "restricts their range"),
            (["model.output_activation=relu", "data=diabetes"], "targets are standardized"),
            (["model.output_activation=sigmod"], "did you mean sigmoid?"),
            (["model.output_activation=maxout", "loss=mse"], "cannot follow the output layer"),
            (["model.output_activation=elu", "loss=mse"], "has settings; only an activation without"),
            (["trainer.metrics=[rmse]"], "rmse does not support multiclass data"),
            (["trainer.metrics=[acuracy]"], "did you mean accuracy?"),
            (["trainer.monitor=loss"], "such as val/loss"),
            (["early_stopping.metric=val/nothing"], "early_stopping.metric: found 'val/nothing'"),
        ],
    ),
)
def test_c08_loss_and_output_that_do_not_fit(overrides, reason, only_problem):
    """Parts that do not fit each other or the task are refused with the reason."""
    assert reason in only_problem(*overrides)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    slow_after(
        3,
        [
            (["optimizer=gradient_descent", "data.batch_size=8"], "uses the whole training set"),
            (["regularizer=label_smoothing", "loss=hinge"], "which loss=hinge does not support"),
            (["regularizer=label_smoothing", "data=diabetes"], "diabetes is regression"),
            (["regularizer=dropout", "model=perceptron"], "model=perceptron has none"),
            (["regularizer=batch_norm", "model.depth=0"], "acts on hidden layers"),
            (["regularizer=batch_norm", "data.batch_size=1"], "one example has no variance"),
            (["data.validation=0"], "trainer.monitor: val/loss needs a validation split"),
            (["optimizer=adamw", "regularizer=weight_decay"], "already decays the weights"),
            (["model.depth=3", "model.width=[4,4]"], "2 widths for 3 hidden layers"),
            (["data.validation=0.6", "data.test=0.6"], "expected a sum below 1"),
        ],
    ),
)
def test_c09_contradictions(overrides, reason, only_problem):
    """Settings that contradict each other are refused, with one sentence; none is ignored."""
    assert reason in only_problem(*overrides)


@pytest.mark.slow
def test_c10_a_duplicate_key(mine, only_problem):
    """A key that a YAML has twice is an error that names file and line."""
    file = mine("optimizer/twice.yaml", "name: sgd\nlr: 0.1\nlr: 0.2\n")
    assert only_problem("optimizer=twice") == f"{file}, line 3: found duplicate key lr"


@pytest.mark.slow
def test_c11_a_number_that_reads_as_text(mine, only_problem):
    """1e-3 is the number it looks like; in quotes it is text, and the message says so."""
    mine("optimizer/plain.yaml", "name: sgd\nlr: 1e-3\n")
    mine("optimizer/quoted.yaml", "name: sgd\nlr: '1e-3'\n")
    assert compose("optimizer=plain")["optimizer"]["lr"] == 0.001
    assert "YAML reads this as text: write it without quotes" in only_problem("optimizer=quoted")
    assert compose("optimizer.lr=1e-3")["optimizer"]["lr"] == 0.001


@pytest.mark.slow
def test_c12_unresolved_references_and_missing_values(mine, problems_of):
    """${nothing} and ??? are named with their key, together with all the rest."""
    mine("optimizer/open.yaml", "name: adam\nlr: ???\nbeta1: ${no.such}\nbeta2: 2\neps: 1e-8\n")
    found = problems_of("optimizer=open", "seed=${nowhere}")
    assert "seed: found '${nowhere}', which refers to nothing: Interpolation key 'nowhere' not found" in found
    assert "optimizer.lr: has no value, expected number > 0; set it with optimizer.lr=..." in found
    assert any(
        text.startswith("optimizer.beta1: found '${no.such}', which refers to nothing") for text in found
    )
    assert "optimizer.beta2: found 2, expected number >= 0 and < 1" in found
    assert len(found) == 4


def test_all_problems_are_listed_at_once(problems_of):
    """Faults of names, keys, types and ranges come in one message."""
    found = problems_of(
        "optimizer=adm", "optimizer.momentum=1", "model.depht=2", "trainer.keep=0", "foo=1", "seed=-1"
    )
    starts = ["optimizer=adm", "foo=1", "seed", "model.depht", "trainer.keep"]
    assert [text.partition(":")[0] for text in found] == starts


@pytest.mark.slow
def test_own_options_are_found_and_win_over_shipped_ones(mine):
    """--config-dir adds options, and a file of a shipped name takes its place."""
    mine("optimizer/mine.yaml", "name: sgd\nlr: 0.25\n")
    mine("optimizer/sgd.yaml", "name: sgd\nlr: 0.75\n")
    assert compose("optimizer=mine")["optimizer"]["lr"] == 0.25
    assert compose("optimizer=sgd")["optimizer"]["lr"] == 0.75


@pytest.mark.parametrize(
    ("content", "hint"),
    slow_after(
        1,
        [
            (b"name: sgd\nlr: [", "broken.yaml, line 2"),
            (b"\xff\xfe", "is not UTF-8 text"),
            (b"- a\n", "no option is selected"),
            (b"name: sgd\nlr: 0.1\n_target_: os.system\n", "has no such setting"),
            (
                b"# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: os.getcwd\n",
                "cannot contain code",
            ),
        ],
    ),
)
def test_a_broken_file_is_named(mine, content, hint, problems_of):
    """YAML that cannot be read, or that names code, is refused."""
    mine("optimizer/broken.yaml", content)
    assert hint in " ".join(problems_of("optimizer=broken"))


def test_a_component_without_its_yaml(monkeypatch, only_problem):
    """A registered option that has no YAML is not called unknown."""
    ours = registry._components["optimizer"]
    monkeypatch.setitem(ours, "mine", ours["sgd"])
    assert "create DIR/optimizer/mine.yaml and add --config-dir DIR" in only_problem("optimizer=mine")


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["resume=outputs/x"], "python train.py resume=outputs/x"),
        (["hydra.run.dir=x"], "slipstream.train(config, directory)"),
        ([5], "5: expected a string"),
        ([["seed=1"], "sed=1"], "did you mean seed=1?"),
    ],
)
def test_compose_refuses_what_it_would_ignore(overrides, hint):
    """From Python there is no folder and nothing to resume; anything but text is named."""
    with pytest.raises(ConfigError) as caught:
        compose(*overrides)
    assert hint in str(caught.value)


def test_a_configuration_is_a_mapping():
    """A text in the place of a configuration is answered with a sentence; a list of overrides composes."""
    with pytest.raises(ConfigError, match="expected a mapping"):
        validate("optimizer=adam")
    assert compose(["seed=1", "optimizer=sgd"]) == compose("seed=1", "optimizer=sgd")


def test_a_folder_that_does_not_exist():
    """--config-dir of nothing is an error."""
    with pytest.raises(UserError, match="no such folder"):
        composition.use_folder("/no/such/folder")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("regularizer=mixup", "it is an option of augmentation: augmentation=[mixup]"),
        ("augmentation=[dropout]", "it is an option of regularizer: regularizer=[dropout]"),
        ("regularizer=augmentation", "it is a group of its own: augmentation=[...]"),
    ],
)
def test_an_option_of_the_other_list_is_found(override, hint):
    """Regularizers and augmentations are easily taken for each other: the message says where it is."""
    with pytest.raises(ConfigError) as caught:
        compose(override)
    assert hint in str(caught.value)
