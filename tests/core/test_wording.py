"""What messages count and spell: the words, and what Hydra and bash make of them."""

import ast
import re
import shlex
import subprocess
import tomllib
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from packaging.requirements import Requirement

import slipstream
from slipstream.core.wording import counted, install, shell, spell, typed
from slipstream.runs import summary
from source_files import nodes as nodes_of

VALUES = [
    *(
        "a",
        "a b",
        "a,b",
        "it's",
        'say "x"',
        "Größe (cm)",
        "01",
        "1e5",
        "0.5",
        "-1",
        "null",
        "TRUE",
        "nan",
        "-inf",
    ),
    *(
        "",
        " a",
        "C:\\data\\my.csv",
        "C:\\data\\",
        "a\\'b",
        "/tmp/x.csv",
        "../x",
        "~/x",
        "$HOME",
        "`x`",
        "x!",
        "#1",
    ),
    *(
        "a:b",
        "a=b",
        "[a]",
        "{a: b}",
        "f(x)",
        "100%",
        "a/b",
        "e5",
        "Infinity",
        "choice(a,b)",
        "--",
        "a|b",
        "?",
        "*",
    ),
    *(
        [],
        ["a", "01", None, 1e-05, True],
        [["l2"], []],
        3,
        0.1,
        -2.5,
        1e-05,
        True,
        None,
        {"a": 1, "b": "x y"},
    ),
]


def read(word):
    return OverridesParser.create().parse_override(word)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_hydra_reads_the_same_value_again(value):
    """A value that is spelled is one value of the same type, alone and in a list."""
    for whole, given in ((value, spell(value)), ([value], f"[{spell(value)}]")):
        override = read(f"data.target={given}")
        assert not override.is_sweep_override()
        assert override.value() == whole
        assert type(override.value()) is type(whole)


def test_bash_reads_the_same_word_again():
    """What is typed for a value reaches the program as the override that was meant, in bash too."""
    lines = [typed("data.target", value) for value in VALUES]
    wanted = [f"data.target={spell(value)}" for value in VALUES]
    assert shlex.split(" ".join(lines)) == wanted
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {' '.join(lines)}"], capture_output=True, check=True
    )
    assert said.stdout.decode().splitlines() == wanted


def test_quotes_are_those_of_cmd_where_that_is_enough():
    """cmd knows double quotes only; single ones stand where bash would replace something between them."""
    assert typed("data.decimal", ",") == "\"data.decimal=','\""
    assert shell("regularizer=[l2,dropout]") == '"regularizer=[l2,dropout]"'
    assert shell("optimizer.lr=1e-3") == "optimizer.lr=1e-3"
    assert shell("data.target=a$b") == "'data.target=a$b'"


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        *((0, "epoch", "0 epochs"), (1, "epoch", "1 epoch"), (1200, "row", "1,200 rows")),
        *((2, "class", "2 classes"), (2, "batch", "2 batches")),
    ],
)
def test_counts_agree_with_their_nouns(number, noun, said):
    """One of a thing is singular, none and several are plural."""
    assert counted(number, noun) == said
    assert counted(2, "category", "categories") == "2 categories"


@pytest.fixture(params=["installed", "a bare checkout"])
def set_up(request, monkeypatch):
    """Whether there is metadata of the package, or nothing but its files."""

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    if request.param != "installed":
        monkeypatch.setattr(metadata, "distribution", absent)


def test_a_run_records_the_version_of_the_package(set_up):
    """A checkout that nobody installed has a version too."""
    assert summary._versions.__wrapped__()["slipstream"] == slipstream.__version__


# Numbers before a noun that are not counted(): never 1, or told apart beside.
NEVER_ONE = {
    ("diagnosis/why.py", "gain.pairs"),  # CONFIRMED
    ("runs/symptoms.py", "number(rate / usual, 2)"),  # at least 30, or at most a thirtieth
    ("runs/symptoms.py", "epochs"),  # "the last epoch" is said otherwise
    ("diagnosis/causes/optimization.py", "number(times, 2)"),  # above 3, or below a third
    ("sweeps/report/aggregates.py", "max(epochs)"),  # above the least
    ("runs/checkpoints.py", "need"),
    ("sweeps/plan/planning.py", "size * chosen.members"),  # more than a grid may have
    ("sweeps/plan/planning.py", "times"),
    ("data/overview.py", "len(classes)"),
    ("data/overview.py", "len(names)"),
    ("data/classes.py", "len(group)"),
    ("data/image/image_files.py", "found.st_size"),  # more than a file may have
    ("data/sources/images.py", "len(sizes)"),
    ("data/splits.py", "part"),  # no number
    ("data/loading.py", "settings['split']"),  # "needs rows"
    ("data/sources/idx.py", "sides"),  # "2 x 3"
    ("data/targets.py", "count"),
    ("data/targets.py", "len(found)"),
    ("data/targets.py", "len(present)"),  # an identifier
    ("data/tabular/table_preprocessing.py", "len(there)"),  # two at least look alike
    ("early_stopping.py", "waited"),
    ("inference/html_report.py", "own.split"),  # "test rows"
    ("inference/own_data.py", "first.split"),
    ("inference/paired_comparison.py", "own[0].split"),
    ("inference/paired_comparison.py", "other.split"),
    ("inference/asked_data.py", "own.split"),
    ("models/convnet.py", "found"),  # "blocks of model=resnet keep their channels"
    ("runs/monitoring.py", "len(truth)"),
    ("regularizers/weight_averaging.py", "cycles"),  # more than there are epochs
    ("regularizers/norms.py", "groups"),
    ("sweeps/work/calibration.py", "apart / together"),
    ("sweeps/work/worker.py", "len(left)"),
    ("sweeps/runner.py", "mistake.count"),
    ("sweeps/report/aggregates.py", "len(keys)"),
    ("sweeps/report/aggregates.py", "len(trials)"),
    ("training/member.py", "made"),
    ("training/model_spec.py", "parameters"),
    ("augmentations/pixels.py", "channels"),  # 1 is known
    ("diagnosis/data_checks/part_checks.py", "name"),  # of a part
    ("diagnosis/data_checks/label_checks.py", "name"),
    ("diagnosis/data_checks/duplicate_checks.py", "name"),
    ("diagnosis/data_checks/column_checks.py", "ratio"),  # "5 times as far"
    ("diagnosis/data_checks/order_checks.py", "raw.inputs.shape[1]"),  # at least 4
    ("diagnosis/causes/stopping.py", "tenth"),  # 1 is "the last epoch"
}


@pytest.mark.slow
def test_numbers_in_messages_agree_with_their_nouns():
    """Before the plural of a noun that is counted anywhere stands no bare number that may be 1."""
    source = Path(slipstream.__file__).parent
    nodes = [
        (str(file.relative_to(source)), node)
        for file in source.rglob("*.py")
        for node in nodes_of(file)
        if isinstance(node, ast.Call | ast.JoinedStr)
    ]
    nouns, found = {"classes", "cycles", "keys", "parameters", "sizes", "targets"}, set()
    for _, node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "counted":
            said = [word.value for word in node.args[1:] if isinstance(word, ast.Constant)]
            nouns |= {counted(2, *said)[2:]} if said else set()
    plural = re.compile(rf" (?:[a-z]+ )?(?:{'|'.join(nouns)})\b")
    for name, node in nodes:
        for number, text in pairwise(node.values if isinstance(node, ast.JoinedStr) else []):
            if isinstance(number, ast.FormattedValue) and isinstance(text, ast.Constant):
                bare = plural.match(text.value) and "counted(" not in ast.unparse(number)
                found |= {(name, ast.unparse(number.value))} if bare else set()
    assert len(nouns) > 20
    assert found == NEVER_ONE


def test_what_an_extra_needs_is_named_as_it_is_installed(set_up):
    """The command names every package of the extra in pyproject.toml, and bash leaves its bounds alone."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    for extra in ("search", "slurm", "hub", "serve"):
        command, subcommand, *packages = shlex.split(install(extra))
        assert (command, subcommand) == ("pip", "install")
        wanted = project["project"]["optional-dependencies"][extra]
        assert {Requirement(name) for name in packages} == {Requirement(name) for name in wanted}
