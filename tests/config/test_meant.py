"""Words of other tools and typing errors are answered with what to type, and that is accepted."""

import re
import shlex

import pytest

from sampling import slow_after
from slipstream.config import composed, meant, schema
from slipstream.config.synonyms import OPTIONS, SETTINGS, VALUES
from slipstream.core.errors import ConfigError, did_you_mean, folded

KEYS = {
    "lr=0.1": "optimizer.lr=0.1",
    "epochs=3": "trainer.max_epochs=3",
    "num_epochs=3": "trainer.max_epochs=3",
    "batch_size=32": "data.batch_size=32",
    "learning_rate=0.1": "optimizer.lr=0.1",
    "optimizer.learning_rate=0.1": "optimizer.lr=0.1",
    "optimizr.lr=0.1": "optimizer.lr=0.1",
    "optimiser=adam": "optimizer=adam",
    "optim=SGD": "optimizer=sgd",
    "optimizer.lrr=0.1": "optimizer.lr=0.1",
    "betas=[0.8,0.99]": "optimizer.beta1=0.8 optimizer.beta2=0.99",
    "scheduler.step_size=3": "scheduler=step scheduler.every_epochs=3",
    "optimizer.step_size=0.1": "optimizer.lr=0.1",
    "optimizer.betas=[0.8,0.99]": "optimizer.beta1=0.8 optimizer.beta2=0.99",
    "momentum=0.8": "optimizer=momentum optimizer.momentum=0.8",
    "optimizer.momentum=0.8": "optimizer=momentum optimizer.momentum=0.8",
    "optimizer.nesterov=true": "optimizer=nesterov",
    "dropout=0.25": "regularizer=dropout regularizer.dropout.rate=0.25",
    "dropout.p=0.25": "regularizer=dropout regularizer.dropout.rate=0.25",
    "model.dropout=0.25": "regularizer=dropout regularizer.dropout.rate=0.25",
    "weight_decay=0.1": "regularizer=weight_decay regularizer.weight_decay.strength=0.1",
    "gradient_clip_val=0.5": "regularizer=gradient_clipping regularizer.gradient_clipping.max_norm=0.5",
    "precision=16": "trainer.dtype=bfloat16",
    "trainer.precision=bf16-mixed": "trainer.dtype=bfloat16",
    "model.layers=3": "model.depth=3",
    "num_layers=3": "model.depth=3",
    "hidden_size=16": "model.width=16",
    "model.hidden_dim=16": "model.width=16",
    "hidden_layer_sizes=[16,8]": '"model.width=[16,8]"',
    "model.activation=tanh": "activation=tanh",
    "trainer.batch_size=16": "data.batch_size=16",
    "trainer.seed=3": "seed=3",
    "random_state=3": "seed=3",
    "patience=5": "early_stopping.patience=5",
    "validation_split=0.2": "data.validation=0.2",
    "data.test_size=0.2": "data.test=0.2",
    "class_weight=balanced": "data.class_weights=balanced",
    "accumulate_grad_batches=2": "trainer.accumulate=2",
    "metric=acc": '"trainer.metrics=[accuracy]"',
    "metrics=[f1,auc]": '"trainer.metrics=[f1_macro,roc_auc]"',
    "monitor=val_loss": "trainer.monitor=val/loss",
    "warmup=100": "scheduler.warmup_steps=100",
    "trainer.max_epochs=1e2": "trainer.max_epochs=100",
    "trainer.progress=off": "trainer.progress=none",
    "model.residual=1": "model.residual=true",
    "trainer.metrics=accuracy": '"trainer.metrics=[accuracy]"',
    "trainer.compile=1": "trainer.compile=true",
}


def problem(*overrides):
    with pytest.raises(ConfigError) as error:
        composed(overrides)
    (sentence,) = error.value.problems
    return sentence


@pytest.mark.parametrize(("typed", "meant"), slow_after(3, KEYS.items()), ids=KEYS)
def test_a_key_of_another_tool(typed, meant):
    """The answer is the full key with the value, and what it says can be typed in the shell."""
    assert problem(typed).endswith(f"did you mean {meant}?")
    composed(shlex.split(meant))


@pytest.mark.slow
def test_the_advice_keeps_what_is_chosen():
    """A regularizer is added to those that are chosen, and the setting of a chosen one needs no choice."""
    found = problem("regularizer=l2", "dropout=0.25")
    assert found.endswith('did you mean "regularizer=[l2,dropout]" regularizer.dropout.rate=0.25?')
    assert problem("regularizer=[l2]", "l2.lambda=1").endswith("did you mean regularizer.l2.strength=1?")
    assert problem("optimizer=sgd", "momentum=1").endswith("optimizer=momentum optimizer.momentum?")
    found = problem("regularizer=l2", "regularizer.dropout.p=0.25")
    assert found.endswith('add it: "regularizer=[l2,dropout]" regularizer.dropout.rate=0.25')


NAMES = {
    "loss": "bce binary_cross_entropy, crossentropy cross_entropy, NLLLoss cross_entropy, l1 mae",
    "optimizer": "SGD sgd, Adam adam, AdamW adamw, RMSprop rmsprop",
    "scheduler": "cosine_annealing cosine, CosineAnnealingLR cosine, OneCycleLR one_cycle",
    "activation": "swish silu, ReLU relu, LeakyReLU leaky_relu, hardswish hard_swish",
    "initializer": "he_normal kaiming_normal, glorot xavier_uniform",
    "augmentation": "hflip horizontal_flip, RandomCrop crop",
    "regularizer": "BatchNorm batch_norm, droppath drop_path",
    "early_stopping": "true patience",
    "model": "cnn convnet, resnet18 resnet",
    "data": "csv table, cifar10 cifar",
}


@pytest.mark.parametrize("group", NAMES)
def test_an_option_of_another_tool(group):
    """The answer to an option's name elsewhere is the name here."""
    for pair in NAMES[group].split(", "):
        name, right = pair.split()
        assert problem(f"{group}={name}").endswith(f"no such option, did you mean {right}?")


def test_the_tables_of_synonyms_lead_somewhere():
    """Every synonym is folded, is no option of ours, and stands for an option, a setting or a value."""
    for group, names in OPTIONS.items():
        known = schema.options(group)
        for other, ours in names.items():
            assert folded(other) == other
            assert ours.partition(" ")[0] in known, (group, other)
            assert other not in known, (group, other)
    settings = {*meant.TOP}
    for group in (*schema.GROUPS, "sweep"):
        settings |= {name for option in schema.options(group) for name in schema.settings(group, option)}
    for other, ours in SETTINGS.items():
        assert folded(other) == other
        assert set(ours) <= settings, other
    for key, values in VALUES.items():
        group, _, name = key.partition(".")
        option = {"trainer": "default", "data": "table"}[group]
        for other, ours in values.items():
            assert folded(other) == other
            kind = schema.settings(group, option)[name]
            assert schema.fits(kind, ours) or schema.fits(kind, {"a column": ours}), (key, other)


def test_words_without_a_meaning_here_say_what_is_instead():
    """What needs no setting here is answered with a sentence."""
    assert "shuffled every epoch" in problem("shuffle=true")
    assert "early_stopping=patience" in problem("callbacks=x")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("optimizer:adam", "did you mean optimizer=adam?"),
        ("adam", "did you mean optimizer=adam?"),
        ("lr", "did you mean optimizer.lr?"),
        ("optimizer", "such as optimizer=adam"),
        (
            "optimizer=adam,lr=0.1",
            "write the option and its settings as separate overrides: optimizer=adam optimizer.lr=0.1",
        ),
        ("data=my.csv", "did you mean data=table data.path=my.csv?"),
        ("model=lstm", "did you mean model=rnn model.cell=lstm?"),
        ("trainer.monitor=val_loss", "such as val/loss"),
    ],
)
def test_other_ways_to_type(typed, hint):
    """Punctuation and bare words of other tools are answered with how it is typed here."""
    assert problem(typed).endswith(hint)


TABLE = ["data=table", "data.path=iris.csv", "data.target=species"]
TYPED = {
    "a letter outside ASCII": (
        ["data.target=größe"],
        "data.target=größe: ö ß must be in quotes, did you mean \"data.target='größe'\"?",
        [*TABLE[:2], "data.target='größe'"],
    ),
    "a name outside ASCII": (
        ["data.kinds.größe=category"],
        "größe must be in quotes, did you mean \"data.kinds={'größe':category}\"?",
        [*TABLE, "data.kinds={'größe':category}"],
    ),
    "an empty item": (
        ["data.missing=[n/a,unknown,]"],
        "an item is empty; did you mean \"data.missing=[n/a,unknown,'']\", with an empty text?",
        [*TABLE, "data.missing=[n/a,unknown,'']"],
    ),
    "a bracket": (
        ["model.width=[1,2"],
        'a bracket is not closed, did you mean "model.width=[1,2]"?',
        ["model.width=[1,2]"],
    ),
    "a blank before =": (
        ["optimizer.lr", "=0.1"],
        "optimizer.lr =0.1: there must be no space next to =, did you mean optimizer.lr=0.1?",
        ["optimizer.lr=0.1"],
    ),
    "a blank behind =": (["optimizer.lr=", "0.1"], "did you mean optimizer.lr=0.1?", ["optimizer.lr=0.1"]),
    "blanks around =": (
        ["seed", "=", "1"],
        "seed = 1: there must be no space next to =, did you mean seed=1?",
        [],
    ),
    "blanks in one word": (["optimizer.lr = 0.1"], "did you mean optimizer.lr=0.1?", ["optimizer.lr=0.1"]),
    "a file": (["iris.csv"], "did you mean data=table data.path=iris.csv?", TABLE),
    "a command": (["fit"], "remove fit: slipstream trains without a command", []),
    "another command": (["predict"], "did you mean slipstream predict RUN FILE -o OUT?", []),
    "a metric": (
        ["trainer.monitor=val/acc"],
        "found 'val/acc', no such metric, did you mean trainer.monitor=val/accuracy?",
        ["trainer.monitor=val/accuracy"],
    ),
    "a setting below the list": (
        ["regularizer=dropout", "regularizer.rate=0.5"],
        "did you mean regularizer.dropout.rate=0.5?",
        ["regularizer=dropout", "regularizer.dropout.rate=0.5"],
    ),
    "a column to leave out": (
        [*TABLE, "data.ignore=a"],
        "data.ignore: data=table has no such setting, did you mean data.kinds.a=ignore?",
        [*TABLE, "data.kinds.a=ignore"],
    ),
    "columns to leave out": (
        [*TABLE, "drop_columns=[a,b c]"],
        "did you mean \"data.kinds={a:ignore,'b c':ignore}\"?",
        [*TABLE, "data.kinds={a:ignore,'b c':ignore}"],
    ),
    "a kind": (
        [*TABLE, "data.kinds.b=numeric"],
        "'category', 'ignore', did you mean data.kinds.b=number?",
        [*TABLE, "data.kinds.b=number"],
    ),
    "a kind of pandas": (
        [*TABLE, "data.kinds={'a b': float64}"],
        "did you mean \"data.kinds={'a b':number}\"?",
        [*TABLE, "data.kinds={'a b':number}"],
    ),
}


@pytest.mark.parametrize("case", slow_after(3, TYPED))
def test_a_slip_of_typing_is_one_problem_with_its_cure(case, tmp_path, monkeypatch):
    """What cannot be read is not also reported as missing, and the answer is accepted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris.csv").touch()
    words, hint, right = TYPED[case]
    if case == "a letter outside ASCII":
        words = ["data=table", "data.path=iris.csv", *words]
    assert problem(*words).endswith(hint)
    composed(right)


def test_a_word_of_one_letter_means_nothing():
    """No setting is guessed from one letter."""
    assert problem("x") == "x: expected key=value"


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("<=50K.", ["<=50K", ">50K"], "did you mean <=50K?"),
        ("CHURN", ["churn", "turn"], "did you mean churn?"),
        ("f1", ["f1_macro", "mae"], "one of: f1_macro, mae"),
        ("x", ["adam"], "one of: adam"),
        ("rot", ["rotation", "root"], "did you mean rotation?"),
    ],
)
def test_the_nearest_name(name, options, hint):
    """Case and separators do not count, a beginning wins over likeness, and one letter says nothing."""
    assert did_you_mean(name, options) == hint


def test_flags_of_other_tools(capsys):
    """--lr 0.1 is answered with what to type, and with exit code 2, without Hydra's usage."""
    from slipstream.cli import main

    for words in (["--lr", "0.1"], ["--lr=0.1"], ["-lr", "0.1", "data=iris"], ["data=iris", "--lr", "0.1"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert said.count("\n") == 2
        assert said.endswith("write settings as key=value, did you mean optimizer.lr=0.1?\n")
    with pytest.raises(SystemExit):
        main(["--optimizer", "adam", "--max-epochs=3", "--no-cuda"])
    said = re.findall(r"did you mean (.*)\?", capsys.readouterr().err)
    assert said[:2] == ["optimizer=adam", "trainer.max_epochs=3"]
