"""Composing on a copy of an earlier composition gives, node by node, what Hydra gives anew."""

import os
import random
import shutil
from copy import deepcopy
from itertools import zip_longest

import pytest
from hydra.types import RunMode
from omegaconf import Node

import slipstream
from sampling import exhaustive_after
from slipstream.config import composition, files, reuse
from slipstream.config.schema import GROUPS, options
from slipstream.core import compat
from slipstream.core.errors import ConfigError
from slipstream.core.registry import LISTS


def described(node):
    """All that a node of OmegaConf's holds, the nodes below it included."""
    content = node.__dict__.get("_content", node.__dict__.get("_val"))
    if isinstance(content, dict | list):
        items = list(content.items() if isinstance(content, dict) else enumerate(content))
        assert all(value._get_parent() is node for _, value in items)
        content = [(key, described(value)) for key, value in items]
    elif isinstance(content, Node):
        content = described(content)
    metadata = {name: value for name, value in vars(node._metadata).items() if name != "resolver_cache"}
    for name, value in metadata.items():  # Hydra's own tests make it read plugins again: other classes, alike
        if isinstance(value, type):
            metadata[name] = f"{value.__module__}.{value.__qualname__}"
    return type(node), content, metadata


def result(load, *arguments):
    """What a loader makes of a command line: its composition, or its complaint."""
    with composition.loading() as loader:
        try:
            return described(load(loader, composition.ROOT, *arguments))
        except Exception as error:
            return type(error), str(error), str(error.__cause__)


def agrees(lines, mode=RunMode.RUN, one_fault=True):
    """Composing twice with what is kept gives what Hydra gives, and the same again.

    one_fault: of several faults in the lines either may be the one that is named.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compat.defaults_list, "_create_interpolation_map", reuse.map_plainly)
        patch.setattr(compat.ConfigLoaderImpl, "_compose_config_from_defaults_list", reuse.merge_defaults)
        expected = result(reuse.plain, list(lines), mode)
    for _ in range(2):
        found = result(reuse.load_configuration, list(lines), mode)
        if isinstance(expected, tuple) and isinstance(expected[0], type) and not one_fault:
            assert found[0] is expected[0]
        else:
            assert found == expected
    return expected


def typed(choice):
    """How an option is chosen."""
    group, name = choice
    return f"{group}=[{name}]" if group in LISTS else f"{group}={name}"


CHOICES = [
    (group, name)
    for group in (*GROUPS, "sweep", "experiment")
    for name in (files.experiments() if group == "experiment" else options(group))
]
VALUES = [
    *(
        "seed=3",
        "name=x",
        "name='${hydra:job.name}'",
        "optimizer.lr=0.1",
        "optimizer.lr=1,2",
        "seed=range(3)",
    ),
    *("model.depth=null", "+new=1", "+new={a:[1,2]}", "++optimizer.lr=7", "++deep.er.key=1", "~optimizer.lr"),
    *("~optimizer.lr=5", "~nothing", "optimizer={lr:0.5}", "regularizer={}", "nothing=1", "optimizer.no=1"),
    *("~logger", "~logger=none", "+optimizer=sgd", "optimizer@a.b=sgd", "+optimizer@a.b=sgd", "a@b=1"),
    *("hydra.run.dir=there", "hydra.job.env_copy=[PATH]", "hydra.sweep.dir=x", "hydra/launcher=basic"),
    *("hydra.searchpath=[]", "hydra.no=1", "data/x=3", "optimizer=nothing", "optimizer=null", "data=[iris]"),
    *(
        'data.kinds={"a b":category}',
        "data.kinds.rooms=number",
        "trainer.metrics=[a,'b c']",
        "experiment=null",
    ),
    *(
        "hydra.job.config.override_dirname.exclude_keys=[seed]",
        "resume=x",
        "seed=${oc.env:HOME}",
        "=",
        "seed=[",
    ),
]


def one_of_each_group():
    """Choices of an option of each group, in which every option comes once; before them, single ones."""
    mixed = random.Random(1).sample(CHOICES, len(CHOICES))
    groups = [[choice for choice in mixed if choice[0] == group] for group in dict(mixed)]
    return [[choice] for choice in mixed[:4]] + [list(filter(None, row)) for row in zip_longest(*groups)]


@pytest.mark.slow
@pytest.mark.parametrize("chosen", exhaustive_after(4, one_of_each_group()))
def test_every_option_composes_as_hydra_composes_it(chosen):
    """Options of several groups and two values."""
    made = agrees([*map(typed, chosen), "seed=5", "trainer.max_epochs=3"])
    assert not issubclass(made[0], Exception), made


@pytest.mark.slow
@pytest.mark.parametrize("line", exhaustive_after(10, random.Random(1).sample(VALUES, len(VALUES))))
def test_every_kind_of_override_composes_as_hydra_composes_it(line):
    """Whatever can be typed: values, additions, deletions, packages, Hydra's own, and mistakes."""
    agrees([line, "trainer.max_epochs=3"])


def random_line(draw):
    """A command line of up to nine overrides, of which some may be mistakes."""
    chosen = draw.sample(CHOICES, draw.randint(0, 5))
    lines = [typed(choice) for choice in chosen]
    lines += draw.sample(VALUES, draw.randint(0, 4))
    draw.shuffle(lines)
    return lines


@pytest.mark.parametrize("seed", exhaustive_after(1, range(75)))
def test_random_command_lines_compose_as_hydra_composes_them(seed):
    """Four random command lines each, for a run and for a sweep."""
    draw = random.Random(seed)
    for _ in range(2):
        agrees(random_line(draw), RunMode.RUN, one_fault=False)
        agrees(random_line(draw), RunMode.MULTIRUN, one_fault=False)


def test_a_composition_is_the_callers_own():
    """What is done to one composition is not seen in the next one."""
    with composition.loading() as loader:
        first = reuse.load_configuration(loader, composition.ROOT, [], RunMode.RUN)
        expected = deepcopy(described(first))
        first.optimizer.lr = 7
        first.hydra.job.env_copy.append("HOME")
        first.trainer._set_flag("readonly", True)
        assert described(reuse.load_configuration(loader, composition.ROOT, [], RunMode.RUN)) == expected


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of the shipped folder, in which files may be changed."""
    copy = tmp_path / "configs"
    shutil.copytree(files.folder(), copy)
    for module in (reuse, composition):
        monkeypatch.setattr(module, "folder", lambda: copy)
    return copy


@pytest.mark.slow
def test_a_changed_file_is_read_again(shipped):
    """A value, an option and a default that change between two compositions are seen by the second one."""
    read = lambda *lines: composition.screen(lines)[0]  # noqa: E731
    before = read("optimizer=sgd")
    assert read("optimizer=sgd") == before
    file = shipped / "optimizer" / "sgd.yaml"
    file.write_text(file.read_text() + "added: 1\n")
    assert read("optimizer=sgd")["optimizer"] == before["optimizer"] | {"added": 1}
    os.rename(file, shipped / "optimizer" / "renamed.yaml")
    assert read("optimizer=renamed")["optimizer"]["added"] == 1
    _, problems = composition.screen(["optimizer=sgd"])
    assert problems[0].startswith("optimizer=sgd: is registered but has no YAML")


@pytest.mark.slow
def test_a_users_folder_keeps_nothing(mine):
    """With --config-dir each composition reads the files."""
    file = mine("optimizer/own.yaml", "name: own\nlr: 1\n")
    assert composition.screen(["optimizer=own"])[0]["optimizer"] == {"name": "own", "lr": 1}
    file.write_text("name: own\nlr: 2\n")
    assert composition.screen(["optimizer=own"])[0]["optimizer"] == {"name": "own", "lr": 2}


@pytest.mark.slow
def test_choices_are_listed_only_for_defaults_that_refer_to_them(mine, monkeypatch):
    """Hydra lists them for every file, which takes a third of the time."""
    asked = []
    plainly = reuse.map_plainly
    monkeypatch.setattr(reuse, "map_plainly", lambda *given: asked.append(given) or plainly(*given))
    composition.screen(["optimizer=sgd"])
    assert asked == []
    mine("experiment/refers.yaml", "# @package _global_\ndefaults:\n  - /loss@loss: ${model}\n")
    with pytest.raises(ConfigError, match="possible interpolation keys: experiment"):
        composition.screen(["experiment=refers"])
    assert asked


def test_the_files_of_hydra_are_merged_once(monkeypatch):
    """Other choices begin with what its own files gave, and add theirs."""
    slipstream.compose("optimizer=sgd")
    merged = []
    plainly = reuse.merge_defaults
    monkeypatch.setattr(reuse, "merge_defaults", lambda *given: merged.extend(given[1]) or plainly(*given))
    assert slipstream.compose("optimizer=sgd", "model=perceptron")["model"]["name"] == "perceptron"
    names = [default.config_path for default in merged]
    assert "model/perceptron" in names
    assert not [name for name in names if name.startswith("hydra/")]


@pytest.mark.slow
def test_other_files_of_hydra_are_another_beginning():
    """What was merged for one launcher is not taken for another."""
    slipstream.compose("optimizer=sgd")
    agrees(["hydra/launcher=basic", "optimizer=adam"])


@pytest.mark.slow
def test_a_wrong_section_of_hydra_is_named_with_its_file(shipped):
    """What an experiment makes of Hydra's own settings is merged later, and its error is Hydra's."""
    (shipped / "experiment" / "wrong.yaml").write_text("# @package _global_\nhydra:\n  job: 7\n")
    agrees(["experiment=wrong"])


def test_composing_again_reads_no_file(monkeypatch):
    """The second composition of the same choices takes their files from memory."""
    slipstream.compose("optimizer=sgd", "seed=1")
    monkeypatch.setattr("omegaconf.OmegaConf.load", None)
    assert slipstream.compose("optimizer=sgd", "seed=2")["seed"] == 2
