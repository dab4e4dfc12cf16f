"""Tab: what is offered after each word, in the shells' own scripts, fast and without a word of errors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sampling import slow_after
from slipstream.cli import completion
from slipstream.cli.completion import offers
from slipstream.config import schema
from slipstream.core.compat import get_args_parser


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with a run, a sweep, a folder without runs and a table."""
    text = "name: iris\nseed: 0\ndata:\n  batch_size: 64\n  name: iris\nmodel:\n  name: mlp\n"
    for run in ("outputs/iris/one", "outputs/wine/sweep/0", "outputs/wine/sweep/1"):
        folder = tmp_path / run
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text(text)
    (tmp_path / "outputs/wine/sweep/sweep.json").write_text("{}")
    (tmp_path / "docs/more").mkdir(parents=True)
    (tmp_path / "new.csv").write_text("a\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "offered"),
    slow_after(
        3,
        [
            ("ev", ["evaluate"]),
            ("optimizer=adama", ["optimizer=adamax"]),
            ("train scheduler=ste", ["scheduler=step"]),
            ("opt", ["optimizer.", "optimizer="]),
            ("-m optimizer=sgd,adama", ["optimizer=sgd,adamax"]),
            ("regularizer=[l2,drop", ["regularizer=[l2,drop_path", "regularizer=[l2,dropout"]),
            ("regularizer=[l2,l2", []),
            ("optimizer.", [f"optimizer.{key}=" for key in ("beta1", "beta2", "eps", "lr")]),
            ("optimizer=sgd optimizer.", ["optimizer.lr="]),
            ("optimizer=gradient_descent optimizer.", ["optimizer.lr="]),
            ("experiment=tabm model.ens", ["model.ensemble="]),
            ("sweep=tpe sweep.pr", ["sweep.pruner="]),
            ("sweep=tpe sweep.rep", ["sweep.repeats="]),
            ("data=table data.targ", ["data.target=", "data.target_scaling="]),
            (
                "regularizer=[dropout,l2] regularizer.",
                ["regularizer.dropout.rate=", "regularizer.l2.strength="],
            ),
            ("trainer.device=", ["trainer.device=auto", "trainer.device=cpu", "trainer.device=cuda"]),
            ("trainer.portable=f", ["trainer.portable=false"]),
            ("data=table data.path=n", ["data.path=new.csv"]),
            ("resume=", ["resume=outputs/"]),
            ("list experiment xo", ["xor"]),
            ("list metric mc", ["mcc"]),
            ("list optimizer adam ", []),
            ("evaluate outputs/", ["outputs/iris/", "outputs/wine/"]),
            ("evaluate outputs/wine/", ["outputs/wine/sweep"]),
            ("evaluate outputs/wine/sweep/", ["outputs/wine/sweep/0", "outputs/wine/sweep/1"]),
            ("evaluate outputs/iris/one data.test", ["data.test="]),
            ("evaluate outputs/wine/sweep data.split", ["data.split=", "data.split_seed="]),
            ("evaluate outputs/iris/one data.path=n", ["data.path=new.csv"]),
            ("find-lr outputs/", ["outputs/iris/", "outputs/wine/"]),
            ("find-lr optimizer=sgd scheduler=ste", ["scheduler=step"]),
            ("find-lr outputs/iris/one optimizer.beta", ["optimizer.beta1=", "optimizer.beta2="]),
            ("evaluate docs/", []),
            ("evaluate nowhere/", []),
            ("nothing.", []),
            ("optimizer=nothing optimizer.", []),
            ("nothing.at.all=", []),
        ],
    ),
)
def test_what_a_word_may_be(line, offered, runs):
    """Commands, options, settings, words and folders of runs, in the order of the alphabet or of the YAML."""
    *before, prefix = line.split(" ")
    assert sorted(offers(before, prefix)) == sorted(offered)


def test_every_setting_of_every_option_is_offered():
    """The names that are read from the YAML are those of the schema."""
    for group in (*schema.GROUPS, "sweep"):
        for option in completion.option_names(group, ()):
            known = {name for name in schema.settings(group, option) if name != "name"}
            assert set(completion._settings(group, option, ())) == known, (group, option)


def test_own_options_are_offered(tmp_path):
    """--config-dir brings options and their settings."""
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("name: mine\nrate: 0.1\n")
    before = ["--config-dir", str(tmp_path)]
    assert offers(before, "optimizer=mi") == ["optimizer=mine"]
    assert offers([*before, "optimizer=mine"], "optimizer.") == ["optimizer.rate="]


def test_the_flags_are_those_of_training():
    """Every flag that Tab offers is one that Hydra's parser takes, besides --version, which is ours."""
    assert {*completion.FLAGS} - {"--version"} <= {*get_args_parser()._option_string_actions}


def in_a_shell(shell, script, folder):
    """What a shell prints that has read its own completion script."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    pytest.importorskip("argcomplete")
    (folder / "slipstream").write_text(f'#!/bin/sh\nexec {sys.executable} -m slipstream "$@"\n')
    (folder / "slipstream").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        [shell, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_tab_in_bash(runs):
    """bash gets commands, choices of options, folders, and the part of a word behind its `=`."""
    script = 'eval "$(slipstream completion bash)"\ncomplete -p slipstream > /dev/null\n'
    lines = {
        "slipstream ev": ["evaluate "],
        "slipstream evaluate outputs/wine/sw": ["outputs/wine/sweep "],
        "slipstream evaluate outputs/iris/one --b": ["--by "],
        "slipstream evaluate outputs/iris/one data.batch": ["data.batch_size="],
        "slipstream export outputs/iris/one --to to": ["torch "],
        "slipstream optimizer=adamw": ["adamw "],
    }
    for line in lines:
        script += f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_TYPE=9\n_python_argcomplete slipstream\n"
        script += "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    assert in_a_shell("bash", script, Path.cwd()) == [
        found for offered in lines.values() for found in offered
    ]


@pytest.mark.slow
def test_tab_in_fish(runs):
    """fish gets the same words."""
    script = "slipstream completion fish | source; complete -C 'slipstream evaluate outputs/wine/sw'"
    assert in_a_shell("fish", script, Path.cwd()) == ["outputs/wine/sweep"]


@pytest.mark.slow
def test_the_script_of_zsh_is_read_by_zsh(runs):
    """zsh registers the completion."""
    script = 'autoload -Uz compinit; compinit -u -D; eval "$(slipstream completion zsh)"\n'
    script += "echo $_comps[slipstream]"
    assert in_a_shell("zsh", script, Path.cwd()) == ["_python_argcomplete"]


@pytest.mark.slow
@pytest.mark.parametrize("line", ["slipstream evaluate ", "slipstream optimizer.", "slipstream optimizer=ad"])
def test_tab_imports_nothing_large(line, runs):
    """An answer to Tab does not wait for torch, Hydra, numpy or rich."""
    pytest.importorskip("argcomplete")
    code = (
        "import os, sys\nos._exit = lambda code: None\nfrom slipstream.cli import completion\n"
        "completion.answer()\n"
        "sys.exit(str({'torch', 'hydra', 'numpy', 'rich', 'yaml'} & set(sys.modules) or ''))"
    )
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    environment["_ARGCOMPLETE_STDOUT_FILENAME"] = os.devnull
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stderr.strip() == ""
