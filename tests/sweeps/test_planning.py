"""Plans of sweeps: what is read, what applies, what is refused, and that fast composing changes nothing."""

import json
import random
import re

import pytest

from sampling import exhaustive_after, slow_after
from slipstream.config import composed, composition, validate
from slipstream.core.errors import ConfigError
from slipstream.sweeps.plan import planning
from slipstream.sweeps.plan.space import Choices, Interval
from slipstream.sweeps.plan.sweep_plan import SweepPlan


def plan(*overrides, **more):
    return planning.plan(overrides, **more)


def problems(*overrides):
    with pytest.raises(ConfigError) as caught:
        plan(*overrides)
    return caught.value.problems


def swept(*overrides):
    """The command lines of all jobs."""
    return [" ".join(job.overrides) for job in plan(*overrides).jobs]


# Composing fast

SWEEPS = {
    "values": [
        "optimizer.lr=0.1,1,1e-5",
        "model.width=8,[4,2]",
        "model.residual=true,false",
        "trainer.threads=null,1",
    ],
    "options": ["optimizer=sgd,adam,muon", "activation=relu,elu", "early_stopping=patience,none,target"],
    "conditions": ["optimizer=sgd,momentum,nesterov", "optimizer.momentum=0.5,0.9", "seed=1,2"],
    "regularizers": [
        "regularizer=[],[dropout],[l2,dropout],l1",
        "regularizer.dropout.rate=0.1,0.2",
        "seed=0,1",
    ],
    "references": [
        "trainer.monitor=val/loss,val/accuracy",
        "data=digits,iris",
        "early_stopping=patience,none",
        "early_stopping.metric=train/loss,val/loss",
    ],
    "texts of references": ["name='run-${seed}-${data.name}'", "seed=1,2", "data=wine,iris"],
    "values that refer": ["seed=1,2", "data.split_seed='${seed}',7", "trainer.keep=2,3"],
    "Hydra's own values": ["name='a-${hydra:job.name}'", "seed=1,2"],
    "functions": ["name='a-${oc.select:seed}'", "seed=1,2"],
    "options that reach further": [
        "optimizer=gradient_descent,sgd,adam",
        "data=digits,iris,wine",
        "model=perceptron,mlp",
        "scheduler=constant,cosine",
    ],
    "a reach that is hidden by an equal value": [
        "optimizer=gradient_descent,adam",
        "data=iris,wine",
        "data.batch_size=full",
    ],
    "experiments": [
        "experiment=xor,perceptron_xor",
        "optimizer=sgd,adam",
        "seed=0,1",
        "scheduler=constant,cosine",
    ],
    "mappings": ["data=iris,wine", "data.class_weights={0:1.0,1:2.0},none", "seed=1,2"],
    "a key and one below it": ["model.width=[3,4],[5,6]", "model.width.0=7,8", "seed=1,2"],
    "forced": ["++model.width=4,5", "seed=1,2"],
    "glob": ["optimizer=glob(ada*,exclude=adamw)", "activation=glob([relu,elu])", "seed=range(2)"],
    "fixed keys that apply to some": [
        "optimizer=sgd,adam",
        "optimizer.beta1=0.5",
        "optimizer.lr=0.3",
        "model.width=7",
    ],
}


QUICK = ("values", "conditions", "references", "a reach that is hidden by an equal value")
ALL = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.exhaustive]) for name in SWEEPS]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_job_is_what_composing_its_command_line_gives(name):
    """Whatever is swept, a job's configuration is that of its overrides alone, all references filled in."""
    jobs = plan(*SWEEPS[name]).jobs
    assert len({job.overrides for job in jobs}) == len(jobs) > 1
    for job in random.Random(0).sample(jobs, min(len(jobs), 4)):
        alone = validate(composed(job.overrides))
        assert job.config == alone
        assert job.config.raw == alone.raw
        assert list(job.config.regularizers) == list(alone.regularizers)


@pytest.mark.slow
@pytest.mark.parametrize("count", exhaustive_after(1, [6, 30]))
def test_every_pair_of_options_is_as_composed(count):
    """Options of different groups, put together from what each says, are what Hydra makes of both."""
    groups = {
        "optimizer": ["gradient_descent", "sgd", "adam"], "data": ["digits", "diabetes", "linear"],
        "model": ["mlp", "perceptron"], "loss": ["auto", "mse"], "scheduler": ["constant", "one_cycle"],
        "initializer": ["auto", "lsuv"], "early_stopping": ["none", "target"], "regularizer": ["[]", "[l2]"],
        "logger": ["none", "tensorboard"],
    }  # fmt: skip
    jobs = plan(*(f"{group}={','.join(names)}" for group, names in groups.items())).jobs
    for job in random.Random(1).sample(jobs, count):
        assert job.config.raw == validate(composed(job.overrides)).raw


@pytest.mark.slow
def test_own_options_are_composed_by_hydra(mine):
    """Of a user's files nothing is assumed: an option may choose among other groups."""
    mine(
        "scheduler/mine.yaml",
        "# @package _global_\nscheduler:\n  name: constant\n  warmup_steps: 0\ndata:\n  batch_size: 8\n",
    )
    mine("data/few.yaml", "defaults: [_base, _self_]\nname: iris\nbatch_size: 16\n")
    jobs = plan("data=few,digits", "scheduler=mine,constant", "activation=relu,elu").jobs
    for job in jobs:
        assert job.config == validate(composed(job.overrides))


@pytest.mark.slow
def test_values_are_not_composed(monkeypatch):
    """However many values are swept, Hydra composes once for them all, and once for the settings."""
    calls = []
    read = composition.read
    monkeypatch.setattr(composition, "read", lambda *a, **k: calls.append(a) or read(*a, **k))
    assert len(plan("optimizer.lr=range(1,51)", "seed=range(10)").jobs) == 500
    assert len(calls) == 2


@pytest.mark.slow
def test_structures_are_composed_and_not_members(monkeypatch):
    """1,008 members of 24 structures: what is composed does not grow with the values of a number."""
    calls = []
    read = composition.read
    monkeypatch.setattr(composition, "read", lambda *a, **k: calls.append(a) or read(*a, **k))
    jobs = plan(
        "optimizer=sgd,adam,rmsprop",
        "activation=relu,tanh",
        "regularizer=[],[l2],[dropout],[l1]",
        "optimizer.lr=range(1,43)",
    ).jobs
    assert len(jobs) == 1008
    assert len(calls) == 8  # one structure, each other option (2 + 1 + 3) in it, and the sweep's settings


# What is read


@pytest.mark.parametrize(
    ("text", "values"),
    slow_after(
        2,
        [
            ("model.depth=1,2,3", (1, 2, 3)),
            ("model.depth=choice(1,2)", (1, 2)),
            ("model.depth=range(1,4)", (1, 2, 3)),
            ("optimizer.lr=range(0.5,2,0.5)", (0.5, 1.0, 1.5)),
            ("model.depth=sort(3,1,2)", (1, 2, 3)),
            ("model.depth=sort(1,3,2,reverse=true)", (3, 2, 1)),
            ("regularizer=[],[dropout],[dropout,l2]", ([], ["dropout"], ["dropout", "l2"])),
            ("name='a,b',c", ("a,b", "c")),
            ("optimizer=glob(ad*,exclude=adam*)", ("adadelta", "adafactor", "adagrad")),
            ("optimizer.lr=1e-3,1e-5", (0.001, 0.00001)),
        ],
    ),
)
def test_the_syntax_of_choices(text, values):
    """Every way in which Hydra writes several values is read as the values."""
    made = plan(text)
    assert made.space.axes == (Choices(text.partition("=")[0], values),)
    assert [tuple(job.values.values()) for job in made.jobs] == [(value,) for value in values]


@pytest.mark.slow
def test_shuffled_values_are_shuffled_alike():
    """shuffle() changes the order, and the same command has the same one, so that it can be joined."""
    text = "seed=shuffle(range(20))"
    first = [job.values["seed"] for job in plan(text).jobs]
    assert first == [job.values["seed"] for job in plan(text).jobs]
    assert first != sorted(first)
    assert sorted(first) == list(range(20))


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("optimizer.lr=interval(0.1,1)", Interval("optimizer.lr", 0.1, 1.0)),
        ("optimizer.lr=tag(log,interval(1e-4,1))", Interval("optimizer.lr", 0.0001, 1.0, log=True)),
        ("model.width=interval(4,64)", Interval("model.width", 4, 64, integer=True)),
        ("model.width=tag(log,int(interval(4,64)))", Interval("model.width", 4, 64, log=True, integer=True)),
        ("regularizer.dropout.rate=interval(0,0.5)", Interval("regularizer.dropout.rate", 0.0, 0.5)),
        ("optimizer.lr=int(interval(1,3))", Interval("optimizer.lr", 1, 3, integer=True)),
    ],
)
def test_the_syntax_of_intervals(text, interval):
    """Intervals may be logarithmic and whole; where a setting takes whole numbers only they are whole."""
    assert plan("sweep=random", "regularizer=dropout", text).space.axes == (interval,)


@pytest.mark.slow
def test_a_space_in_yaml(mine):
    """An experiment may hold the whole sweep: texts as typed, lists, mappings, and single values."""
    mine(
        "experiment/mine.yaml",
        "# @package _global_\ndefaults:\n  - override /sweep: tpe\nsweep:\n  trials: 7\n  space:\n"
        "    optimizer: sgd,momentum\n    regularizer: [[], [dropout]]\n"
        "    optimizer.lr: {low: 1e-4, high: 1, log: true}\n"
        "    model.width: interval(4,8)\n    model.depth: 3\n",
    )
    made = plan("experiment=mine")
    assert made.name == "tpe"
    assert made.settings.trials == 7
    assert made.space.axes == (
        Choices("optimizer", ("sgd", "momentum")),
        Choices("regularizer", ([], ["dropout"])),
        Interval("optimizer.lr", 0.0001, 1.0, log=True),
        Interval("model.width", 4, 8, integer=True),
    )
    assert made.example.config.model.settings["depth"] == 3
    assert planning.is_sweep(["experiment=mine"])
    assert not planning.is_sweep(["experiment=xor"])
    typed = plan("experiment=mine", "optimizer=adam", "optimizer.lr=0.5")
    assert [axis.key for axis in typed.space.axes] == ["regularizer", "model.width"]


@pytest.mark.slow
def test_the_params_of_hydras_sweeper(mine):
    """hydra.sweeper.params in YAML are axes too."""
    mine(
        "experiment/mine.yaml",
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      optimizer: sgd,adam\n"
        "      seed: range(2)\n",
    )
    assert [job.values for job in plan("experiment=mine").jobs][1] == {"optimizer": "sgd", "seed": 1}


@pytest.mark.slow
def test_a_space_from_python():
    """Axes may be given as values; choices of a searcher come back as the values they were."""
    made = plan("sweep=random", space={"optimizer.lr": {"low": 0.1, "high": 1}, "regularizer": [[], ["l2"]]})
    job = made.job(3, 0, {"optimizer.lr": 0.123456789012345, "regularizer": ["l2"]})
    assert job.config.optimizer.settings["lr"] == 0.123456789012345
    assert list(job.config.regularizers) == ["l2"]
    assert job.overrides == ("optimizer.lr=0.123456789012345", "regularizer=[l2]")
    assert (job.number, job.trial) == (3, 3)
    assert job.config == validate(composed(job.overrides))


# What applies


def test_a_swept_key_applies_where_it_is_a_setting():
    """Jobs without the key are one, others have all of its values, and the plan says so."""
    made = plan("optimizer=sgd,momentum", "optimizer.momentum=0.5,0.9")
    assert [" ".join(job.overrides) for job in made.jobs] == [
        "optimizer=sgd",
        "optimizer=momentum optimizer.momentum=0.5",
        "optimizer=momentum optimizer.momentum=0.9",
    ]
    assert made.notes == ("optimizer.momentum applies only to optimizer=momentum",)


@pytest.mark.slow
def test_a_regularizers_setting_applies_where_it_is_in_the_list():
    """The rate of dropout is swept only with dropout."""
    assert swept("regularizer=[],[l2],[l2,dropout]", "regularizer.dropout.rate=0.1,0.2") == [
        "regularizer=[]",
        "regularizer=[l2]",
        "regularizer=[l2,dropout] regularizer.dropout.rate=0.1",
        "regularizer=[l2,dropout] regularizer.dropout.rate=0.2",
    ]


@pytest.mark.slow
def test_a_group_that_another_chooses():
    """model=perceptron chooses its activation: what belongs to another activation does not apply to it."""
    assert swept("model=mlp,perceptron", "model.width=4,8") == [
        *("model=mlp model.width=4", "model=mlp model.width=8", "model=perceptron"),
    ]


def test_a_key_that_applies_nowhere_is_a_mistake():
    """It is the error of a single run, in each option's words."""
    assert problems("optimizer=sgd,adam", "optimizer.momentum=0.1,0.2")[0].startswith(
        "optimizer.momentum: optimizer=sgd has no such setting"
    )


# Repeats


def test_repeats_are_seeds_of_one_trial():
    """A trial has a member for each seed, counted from the configured one."""
    jobs = plan("optimizer.lr=0.1,0.2", "seed=7", "sweep.repeats=3").jobs
    assert [job.number for job in jobs] == list(range(6))
    assert [job.trial for job in jobs] == [0, 0, 0, 1, 1, 1]
    assert [job.config.seed for job in jobs] == [7, 8, 9] * 2
    assert jobs[1].overrides == ("optimizer.lr=0.1", "seed=8")
    assert jobs[1].values == {"optimizer.lr": 0.1}


def test_folds_are_members_too():
    """Each repeat has every fold."""
    jobs = plan("optimizer.lr=0.1,0.2", "sweep.repeats=2", "sweep.folds=3").jobs
    assert [(job.trial, job.config.seed, job.config.data.settings["fold"]) for job in jobs[:7]] == [
        *((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (0, 1, 2), (1, 0, 0))
    ]
    assert all(job.config == validate(composed(job.overrides)) for job in jobs[::5])


def test_seeds_and_folds_that_are_swept_by_hand_repeat_a_trial():
    """Jobs that differ only in seed or fold share a trial, wherever the axis stands."""
    jobs = plan("seed=1,2", "optimizer.lr=0.1,0.2", "data.folds=2", "data.fold=0,1").jobs
    assert [job.trial for job in jobs] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_a_searchers_members_have_their_numbers():
    """Numbers count trial by trial, so that every process gives a member the same folder."""
    made = plan("sweep=tpe", "sweep.repeats=2", "optimizer.lr=interval(0.1,1)")
    assert made.members == 2
    assert made.job(5, 1, {"optimizer.lr": 0.5}).number == 11
    assert made.jobs == ()


# What is refused


@pytest.mark.parametrize(
    ("overrides", "hint"),
    slow_after(3, [
        (["optimizer.lr=interval(0.1,1)"], "use sweep=random"),
        (["sweep=tpe"], "nothing to search"),
        (["sweep=tpe", "seed=1,2"], "use sweep.repeats=N to repeat every trial"),
        (["sweep=tpe", "trainer.monitor=val/loss,train/loss"], "cannot be searched"),
        (["sweep=random", "optimizer.lr=interval(1,0.1)"], "two numbers in ascending order"),
        (["sweep=random", "optimizer.lr=tag(log,interval(0,1))"], "must start above 0"),
        (["sweep=random", "optimizer.lr=tag(exp,interval(0.1,1))"], "the only tag"),
        (["sweep=random", "model.width=interval(1.5,3)"], "whole numbers at both ends"),
        (["optimizer.lr=tag(log,choice(0.1,0.2))"], "tags are for intervals"),
        (["optimizer=glob(x*)"], "has no values, expected at least one"),
        (["sweep.repeats=2", "seed=1,2"], "seed is already swept"),
        (["sweep.folds=2", "data.folds=3"], "sets data.folds itself"),
        (["sweep.folds=1", "seed=1,2"], "expected whole number >= 2 or null"),
        (["sweep.repeat=2", "seed=1,2"], "did you mean repeats?"),
        (["sweep.repeats=2,3"], "have one value"),
        (["sweep.trials=5", "seed=1,2"], "cma_es, gp have it: did you mean sweep=random sweep.trials=5?"),
        (["seed=range(3"], 'a bracket is not closed, did you mean "seed=range(3)"?'),
        (["seed", "=1,2"], "seed =1,2: there must be no space next to =, did you mean seed=1,2?"),
        (["sweep.space.seed=1"], "write the swept key"),
        (["sweep=tpe", "sweep.pruner=median", "sweep.patience=2", "seed=1"], "it is for patient"),
        (["sweep=tpe", "sweep.pruner=wilcoxon", "optimizer.lr=interval(0.1,1)"], "set sweep.repeats"),
        (["sweep.slurm={a: 1}", "seed=1,2"], "sweep.cluster=slurm"),
        (["seed=range(200000)"], "200,000 members"),
        (["seed=1,2", "hydra/sweeper=basic", "sweep.repeats=2", "sweep=grid"], "only comma-separated values"),
        (["seed=1,2", "hydra/launcher=basic", "sweep.workers=2"], "are for hydra/launcher=packs"),
        (["sweep=random", "model.depth=interval(1,9)", "model.depth=[a"], "a bracket is not closed"),
        (["sweep=random", "optimizer.lr=interval(-1,1)"], "found -1.0, expected number > 0"),
        (["+optimizer.lr=1,2"], "the key exists; write it without +"),
        (["foo=1,2"], "no such group or key"),
        (["model.depth.x=1,2"], "model.depth is 2; set model.depth itself"),
    ]),
)  # fmt: skip
def test_what_cannot_be_is_refused(overrides, hint):
    """Contradictions and settings that would be ignored are answered with what to do instead."""
    assert any(hint in problem for problem in problems(*overrides)), problems(*overrides)


def test_s4_all_problems_of_all_jobs():
    """Every fault stands once, with the job that has it; what all jobs share needs no job."""
    found = problems("optimizer=sgd,adm", "optimizer.lr=0.1,-1", "seed=1,-2", "model.width=0")
    assert found == [
        "optimizer=adm: no such option, did you mean adam?",
        "model.width: found 0, expected whole number >= 1 or list of (whole number >= 1)",
        "seed: found -2, expected whole number >= 0 and < 18446744073709551616 "
        "(in optimizer=sgd optimizer.lr=0.1 seed=-2, and 3 more)",
        "optimizer.lr: found -1, expected number > 0 (in optimizer=sgd optimizer.lr=-1 seed=1, and 3 more)",
    ]


@pytest.mark.slow
def test_a_mistake_that_only_one_option_shows():
    """Rules between parts are held for every job, and the job is named."""
    (found,) = problems("activation=relu,softmax", "seed=1,2")
    assert found.endswith("(in activation=softmax seed=1, and 1 more)")


@pytest.mark.slow
def test_a_searchers_ends_are_tried_before_it_starts():
    """Both ends of an interval and every choice are validated, those under a condition too."""
    found = problems("sweep=tpe", "optimizer=sgd,momentum", "optimizer.momentum=interval(0.5,1.5)")
    assert found == [
        "optimizer.momentum: found 1.5, expected number >= 0 and < 1 "
        "(in optimizer=momentum optimizer.momentum=1.5)"
    ]


def test_a_wide_interval_that_is_linear_is_mentioned():
    """Three powers of ten without a logarithm are drawn as written, and a note says what that means."""
    (note,) = plan("sweep=random", "optimizer.lr=interval(1e-4,1)").notes
    assert "tag(log,interval(0.0001,1))" in note
    assert plan("sweep=random", "optimizer.lr=interval(0.01,1)").notes == ()


# Kept as JSON


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conditions", "references", "mappings", "experiments"])
def test_a_plan_survives_json_without_another_look_at_yaml(name, monkeypatch):
    """What was frozen makes the same jobs, without Hydra."""
    made = plan(*SWEEPS[name])
    saved = json.dumps(made.to_json())

    def nothing(*_, **__):
        raise AssertionError("composed again")

    monkeypatch.setattr(composition, "read", nothing)
    again = SweepPlan.from_json(json.loads(saved))
    assert again == made
    assert again.jobs == made.jobs
    assert json.dumps(again.to_json()) == saved


def test_a_plan_from_before_a_setting_was_there_has_its_default():
    """A sweep's folder of an older slipstream is resumed."""
    saved = plan("seed=0,1").to_json()
    saved["templates"]["composed"] = [
        [which, re.sub(r"  portable: .*\n", "", text)] for which, text in saved["templates"]["composed"]
    ]
    assert "portable" not in repr(saved["templates"]["composed"])
    assert [job.config.trainer.portable for job in SweepPlan.from_json(saved).jobs] == [False, False]


# Once is enough


@pytest.mark.parametrize(
    ("typed", "single", "said"),
    slow_after(
        1,
        [
            ("optimizer.lr=0.1,0.1,0.01", "optimizer.lr=0.1,0.01", "optimizer.lr=0.1: appears twice"),
            ("optimizer.lr=0.1,1e-1,0.01,0.10", "optimizer.lr=0.1,0.01", "optimizer.lr=0.1: appears 3 times"),
            ("optimizer.lr=1,0.5,1.0", "optimizer.lr=1,0.5", "optimizer.lr=1: appears twice"),
            ("optimizer=adam,sgd,adam", "optimizer=adam,sgd", "optimizer=adam: appears twice"),
            ("regularizer=[l2],[],[l2]", "regularizer=[l2],[]", "regularizer=[l2]: appears twice"),
            ("model.width=[3,4],8,[3,4]", "model.width=[3,4],8", "model.width=[3,4]: appears twice"),
            ("seed=range(3),1", "seed=0,1,2", "seed=1: appears twice"),
            ("seed=4,range(3,6)", "seed=4,3,5", "seed=4: appears twice"),
            ("data.folds=3,3,4", "data.folds=3,4", "data.folds=3: appears twice"),
            ("scheduler=cosine,constant,cosine", "scheduler=cosine,constant", "scheduler=cosine: appears"),
        ],
    ),
)
def test_a_value_named_twice_counts_once(typed, single, said):
    """Members, trials and axes are those of the command without the repetition, which is mentioned."""
    rest = ("activation=relu,elu",)
    found, expected = plan(typed, *rest), plan(single, *rest)
    assert [job.config for job in found.jobs] == [job.config for job in expected.jobs]
    assert [(job.number, job.trial, job.values) for job in found.jobs] == [
        (job.number, job.trial, job.values) for job in expected.jobs
    ]
    assert found.space == expected.space
    (note,) = found.notes
    assert note.startswith(said)


def test_values_that_are_alike_and_not_the_same_stay():
    """true is not 1, an order of layers is one of its own."""
    assert len(plan("model.width=[3,4],[4,3],3").jobs) == 3
    assert len(plan("model.residual=true,false").jobs) == 2


@pytest.mark.parametrize(
    ("overrides", "count", "note"),
    slow_after(
        1,
        [
            (
                ("data.split_seed='${seed}',7", "seed=7"),
                1,
                "data.split_seed=7 equals data.split_seed='${seed}'",
            ),
            (("regularizer=[l2],l2,[]", "sweep.repeats=2"), 4, "regularizer=l2 equals regularizer=[l2]"),
            (("data=iris,wine", "scheduler=constant", "name=a,b"), 4, None),
            (("data.split_seed='${seed}',7", "seed=7,8"), 4, None),  # one of two seeds is no repetition
        ],
    ),
)
def test_a_configuration_written_in_two_ways_is_trained_once(overrides, count, note):
    """References and options that come to the same settings are one trial, and it is said."""
    made = plan(*overrides)
    assert len(made.jobs) == count
    assert [job.number for job in made.jobs] == list(range(count))
    assert [text.partition("skipped: ")[2] for text in made.notes] == ([note] if note else [])


def test_a_repeated_value_is_refused_where_hydra_makes_the_jobs():
    """Its own sweeper would train the same twice."""
    (problem,) = problems("optimizer.lr=0.1,0.1", "hydra/sweeper=basic")
    assert "optimizer.lr=0.1: appears twice" in problem


@pytest.mark.slow
def test_a_searcher_has_every_value_once():
    """A value named twice would be drawn twice as often, and be two choices to learn about."""
    made = plan("sweep=random", "optimizer.lr=0.1,0.1,0.01", "optimizer=adam,sgd")
    assert made.space.axes[0] == Choices("optimizer.lr", (0.1, 0.01))


@pytest.mark.slow
def test_no_experiment_is_a_choice_like_the_others():
    """experiment=null,realmlp compares the default with a preset, and null alone is what nothing is."""
    made = plan("data=iris", "experiment=null,realmlp")
    assert [job.config.model.name for job in made.jobs] == ["mlp", "realmlp"]
    assert made.jobs[0].config == validate(composed(["data=iris"]))
    assert composed(["experiment=null"]) == composed([])


@pytest.mark.parametrize(("trials", "said"), [(4, 0), (6, 0), (7, 1), (100, 1)])
def test_a_space_smaller_than_the_search_is_mentioned(trials, said):
    """Nothing is tried twice: so many trials as there are configurations."""
    made = plan("sweep=random", f"sweep.trials={trials}", "optimizer.lr=0.1,0.01,1", "optimizer=adam,sgd")
    assert made.trials == min(trials, 6)
    notes = [note for note in made.notes if "the space has 6 configurations, fewer than sweep.trials" in note]
    assert len(notes) == said
    assert plan("sweep=random", "sweep.trials=9", "optimizer.lr=interval(0.1,1)").trials == 9
