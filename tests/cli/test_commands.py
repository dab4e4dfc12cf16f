"""The commands besides training: their help, their messages, what they print."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys

import polars
import pytest
from PIL import Image

import slipstream
from slipstream.cli import main
from slipstream.cli.commands import COMMANDS


def typed(capsys, *words):
    """The exit code, and what is printed."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a table, and the table."""
    folder = tmp_path_factory.mktemp("run")
    rows = [f"{i % 7},{'ab'[i % 2]},{'xy'[i % 7 > 3]}" for i in range(90)]
    (folder / "t.csv").write_text("n,c,y\n" + "\n".join(rows) + "\n")
    words = [f"data.path={folder / 't.csv'}", "data.target=y", "trainer.progress=none", "logger=none"]
    slipstream.train(slipstream.compose("data=table", *words, "trainer.max_epochs=2"), folder / "run")
    return folder / "run", folder / "t.csv"


@pytest.mark.slow
def test_the_help_of_a_command_has_examples_and_needs_no_torch():
    """Help is read before anything large is, of one command after the other."""
    code = f"""
import sys
from slipstream.cli import main
for command in {[*COMMANDS]}:
    try:
        main([command, "--help"])
    except SystemExit:
        print("=====")
    found = {{"torch", "hydra", "polars", "rich", "numpy"}} & set(sys.modules)
    assert not found, (command, found)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command, help_ in zip(COMMANDS, told.split("=====\n"), strict=False):
        assert "examples:" in help_, command
        for example in importlib.import_module(COMMANDS[command]).EXAMPLES:
            assert example in help_


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with what the examples name: runs on tables and on images, files and folders."""
    folder = tmp_path_factory.mktemp("workplace")
    rows = [f"{i},{'ab'[i % 2]},{'uvw'[i % 3]},{i % 7},{'xy'[i % 7 > 3]}" for i in range(120)]
    table = "id,city,country,n,y\n" + "\n".join(rows) + "\n"
    (folder / "new.csv").write_text(table)
    polars.read_csv(folder / "new.csv").write_parquet(folder / "new.parquet")
    for number in range(40):
        for kind in ("cat", "dog"):
            (folder / "animals" / kind).mkdir(parents=True, exist_ok=True)
            shade = (number * 3, 90, 200 if kind == "cat" else 20)
            Image.new("RGB", (8, 8), shade).save(folder / "animals" / kind / f"{number}.png")
    shutil.copytree(folder / "animals" / "cat", folder / "photos")
    usual = ["trainer.progress=none", "logger=none", "trainer.max_epochs=2"]
    own = ["data=table", f"data.path={folder / 'new.csv'}", "data.target=y", *usual]
    for seed, name in enumerate(("mine", "other", "third")):
        slipstream.train(slipstream.compose(*own, f"seed={seed}"), folder / "outputs" / name)
    images = ["data=images", f"data.path={folder / 'animals'}", "data.size=8", "model.width=4", *usual]
    for name in ("cats", "photos"):
        slipstream.train(slipstream.compose(*images), folder / "outputs" / name)
    return folder


SERVES = {"serve"}  # its examples go on until they are told to end
EXAMPLES = [
    pytest.param(command, example, id=example, marks=pytest.mark.exhaustive if number else pytest.mark.slow)
    for command, module in COMMANDS.items()
    if command not in SERVES
    for number, example in enumerate(importlib.import_module(module).EXAMPLES)
]


@pytest.mark.parametrize(("command", "example"), EXAMPLES)
def test_an_example_of_the_help_runs(command, example, workplace, tmp_path, monkeypatch, capsys):
    """Typed as it stands there, in a folder with the runs and files that it names, it ends with 0."""
    program = "fish" if "fish" in example else "bash"
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for path in workplace.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    if set("|$") & set(example):
        (tmp_path / "slipstream").write_text(f'#!/bin/sh\nexec {sys.executable} -m slipstream "$@"\n')
        (tmp_path / "slipstream").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        subprocess.run([program, "-c", example], check=True, capture_output=True)
    else:
        code, _, err = typed(capsys, *shlex.split(example)[1:])
        assert code == 0, err


@pytest.mark.slow
def test_evaluate_prints_tables_and_writes_files(run, tmp_path, capsys):
    folder, table = run
    code, out, _ = typed(capsys, "evaluate", folder, f"data.path={table}", "--by", "c", "-o", tmp_path / "e")
    assert code == 0
    for heading in ("95 % interval", "by class", "by group", "largest losses", "t.csv: row"):
        assert heading in out
    assert len((tmp_path / "e" / "rows.csv").read_text().splitlines()) == 91
    code, out, _ = typed(capsys, "evaluate", folder)
    assert code == 0
    assert "recomputed" in out
    assert "-o DIR" in out
    code, _, err = typed(capsys, "evaluate", folder, "--by", "c")
    assert (code, "--by needs data to group" in err) == (2, True)


@pytest.mark.slow
def test_predict_writes_a_line_for_each_row(run, tmp_path, capsys):
    folder, table = run
    code, _, err = typed(capsys, "predict", folder, table, "-o", tmp_path / "p.csv")
    assert (code, "predicted 90 examples" in err) == (0, True)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 91


@pytest.mark.slow
def test_importance_prints_a_table_and_writes_files(run, tmp_path, capsys):
    folder, table = run
    code, out, _ = typed(capsys, "importance", folder, f"data.path={table}", "-o", tmp_path / "i")
    assert code == 0
    for said in ("lower is better) on 90 examples", "5 permutations", "worse by", "mean prediction"):
        assert said in out
    assert len((tmp_path / "i" / "importance.csv").read_text().splitlines()) == 3
    code, out, _ = typed(capsys, "importance", folder, "--metric", "accuracy", "--repeats", "2")
    assert code == 0
    assert "accuracy" in out
    assert "the test rows of the run" in out
    assert "-o DIR" in out


@pytest.mark.slow
def test_find_lr_names_a_rate_and_writes_files(tmp_path, capsys, monkeypatch):
    words = ("find-lr", "data=xor", "optimizer=sgd", "model.width=4", "trainer.max_epochs=8")
    code, out, _ = typed(capsys, *words, "-o", tmp_path / "rates")
    assert code == 0
    for said in ("lowest val/loss", "too low", "best", "instead of 0.1", "optimizer.lr="):
        assert said in out
    assert (tmp_path / "rates" / "learning_rates.png").exists()
    code, _, err = typed(capsys, "find-lr", "optimizer.lrr=1")
    assert (code, "did you mean optimizer.lr=1?" in err) == (2, True)
    monkeypatch.setattr("slipstream.diagnosis.learning_rates.chosen", lambda tried: None)
    code, out, _ = typed(capsys, *words, "--updates", "2", "--json")
    assert (code, json.loads(out)["named"]) == (3, None)
    code, out, _ = typed(capsys, *words, "--updates", "2")
    assert (code, "no rate lowers val/loss within 2 updates" in out) == (3, True)


@pytest.mark.slow
def test_compare_prints_tables_and_a_sentence(run, tmp_path, capsys):
    folder, table = run
    words = [f"data.path={table}", "data.target=y", "trainer.progress=none", "logger=none", "seed=5"]
    slipstream.train(slipstream.compose("data=table", *words, "trainer.max_epochs=2"), tmp_path / "more")
    code, out, _ = typed(capsys, "compare", folder, tmp_path / "more", f"data.path={table}", "-o", tmp_path)
    assert code == 0
    for said in ("configuration", "seed", "90 examples", "difference", "McNemar's exact test, p", "than run"):
        assert said in out.replace("or run is better", "than run")
    assert (tmp_path / "curves_loss.png").is_file()
    words = [folder, tmp_path / "more", folder, f"data.path={table}", "--metric", "mcc"]
    code, out, _ = typed(capsys, "compare", *words)
    assert code == 0
    assert "Holm's correction" in out
    assert "-o DIR" in out


@pytest.mark.slow
def test_report_writes_a_page(run, tmp_path, capsys):
    folder, _ = run
    code, out, _ = typed(capsys, "report", folder, "-o", tmp_path / "r.html")
    assert (code, "written: " in out) == (0, True)
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    code, _, err = typed(capsys, "report", folder, "-o", tmp_path / "r.html")
    assert (code, "already exists" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "a"], "slipstream report: the following arguments are required: -o/--output"),
        (["compare"], "slipstream compare: names no runs; see slipstream compare --help"),
        (["compare", "a", "data.path=b"], "slipstream compare: expected at least two runs; see"),
        (["importance"], "slipstream importance: names no run; see slipstream importance --help"),
        (
            ["importance", "nowhere", "--grid", "0"],
            "slipstream importance: argument --grid: found '0', expected a whole number >= 1; see",
        ),
        (["evaluate"], "slipstream evaluate: names no run; see slipstream evaluate --help"),
        (["evaluate", "nowhere"], "nowhere: no such folder, expected the folder of a run"),
        (
            ["predict", "nowhere"],
            "slipstream predict: the following arguments are required: FILE, -o/--output",
        ),
        (["predict", "nowhere", "f", "-o", "x.csv"], "nowhere: no such folder"),
        (["predict", "nowhere", "f", "--out", "x.csv"], "slipstream predict: "),
    ],
)
def test_a_mistake_is_one_line_and_code_2(capsys, words, said):
    code, _, err = typed(capsys, *words)
    assert code == 2
    assert err.startswith(said)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exaluate", "runs/x", "data.path=a b.csv"], 'slipstream evaluate runs/x "data.path=a b.csv"?'),
        (["Predict", "mine", "a.csv", "-o", "b.csv"], "slipstream predict mine a.csv -o b.csv?"),
        (["trian", "data=iris"], "slipstream train data=iris?"),
        (["eval", "run"], "slipstream evaluate run?"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_nearest(capsys, tmp_path, monkeypatch, words, said):
    """The whole command line comes back, with the command that was meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    code, _, err = typed(capsys, *words)
    assert (code, err) == (2, f"{words[0]}: no such command, did you mean {said}\n")


def test_a_word_before_a_run_is_no_setting(capsys, tmp_path):
    """A word that is like no command is one where a run's folder follows, and a setting's name elsewhere."""
    (tmp_path / "config.yaml").touch()
    assert typed(capsys, "infer", tmp_path)[2].startswith("infer: no such command, one of: ablate, compare, ")
    assert typed(capsys, "foo")[2].startswith("foo: no such command, one of: ablate, compare, ")
    assert (
        "optimizer.lr: has no value, expected optimizer.lr=VALUE" in typed(capsys, "train", "optimizer.lr")[2]
    )
    assert "expected key=value, did you mean trainer.metrics?" in typed(capsys, "score")[2]


def test_train_may_be_said(capsys):
    """`slipstream train optimizer=...` is `slipstream optimizer=...`."""
    assert typed(capsys, "train", "optimizer=adm")[::2] == typed(capsys, "optimizer=adm")[::2]
