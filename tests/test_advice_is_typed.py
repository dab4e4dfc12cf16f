"""What messages advise is typed as printed, in bash, and is accepted."""

import csv
import itertools
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sampling import slow_after
from slipstream import data
from slipstream.config import composed, validate
from slipstream.core.errors import UserError
from slipstream.core.types import Target
from slipstream.core.wording import spell, typed
from slipstream.data.classes import require_known
from slipstream.data.dataset import RawData
from slipstream.runs import setup
from slipstream.sweeps.plan import planning

ROWS = "".join(f"{i},{i % 7}.5,{i % 2}\n" for i in range(40))


def read(*words):
    """The data of a command line, as a run reads them."""
    chosen = validate(composed(words)).data
    return data.load({"name": chosen.name, **chosen.settings})


def refused(*words):
    with pytest.raises(UserError) as error:
        read(*words)
    return str(error.value)


def advised(message, pattern):
    """The words that a shell makes of the advice which the pattern finds."""
    found = re.search(pattern, message)
    assert found, message
    return in_bash(found[1])


@cache
def in_bash(line):
    """The words that a program gets from bash."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


TABLES = {
    "a word": ("a,b,y\nx2,1.5,0\n" + ROWS, r"set (data\.kinds\.a=category)"),
    "decimal comma": ("a;b;y\n" + ROWS.replace(",", ";").replace(".", ","), r"set (\"data\.decimal=','\")"),
    "no target": ("a,b,y\n1,1.5,\n" + ROWS, r"drop this row with (\S+)"),
    "separator": ("a|b|y\n" + ROWS.replace(",", "|"), r"set (\S+)"),
}


@pytest.mark.parametrize("case", TABLES)
def test_what_is_advised_about_a_table(case, tmp_path, monkeypatch):
    """The same command with the advice behind it reads the table."""
    monkeypatch.chdir(tmp_path)
    content, pattern = TABLES[case]
    Path("my table.csv").write_text(content)
    command = in_bash(f"data=table {typed('data.path', 'my table.csv')} data.target=y")
    if case == "separator":  # guessed where it can be
        command += in_bash(typed("data.separator", ","))
        again = [*command[:-1], *advised(refused(*command), pattern)]
    else:
        again = [*command, *advised(refused(*command), pattern)]
    assert len(read(*again).train.inputs) > 20


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "val", "test")])
def test_what_is_advised_about_texts_in_folders_of_parts(names, tmp_path, monkeypatch):
    """data.path and the paths of the other parts are printed, each its folder."""
    monkeypatch.chdir(tmp_path)
    for part, label, i in itertools.product(names, ("pos", "neg"), range(9)):
        folder = Path("my texts", part, label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.txt").write_text(f"{label} words {i}", encoding="utf-8")
    command = ["data=text", "model=rnn", in_bash(typed("data.path", "my texts"))[0]]
    found = read(*command[:2], *advised(refused(*command), r"set (.*)"))
    assert len(found.test) == 18
    assert len(found.validation) == (18 if "val" in names else 3)


DOUBTS = {
    "dates": ("a,b,y\n" + re.sub(r"(?m)^(\d+)", "03/10/2020", ROWS), r"set (data\.day_first=true): a", 18538),
    "thousands": (
        "a;b;y\n" + "".join(f"{f'1.{100 + i}' if i % 2 else 901};1;{i % 2}\n" for i in range(40)),
        r"set (\S+) or",
        1010.5,
    ),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_what_is_advised_about_a_doubtful_column(case, tmp_path, monkeypatch):
    """A warning prints the setting that reads the column otherwise, and ends the doubt."""
    monkeypatch.chdir(tmp_path)
    content, pattern, mean = DOUBTS[case]
    Path("t.csv").write_text(content, encoding="utf-8")
    command = in_bash(
        "data=table data.path=t.csv data.target=y data.validation=0 data.test=0 trainer.monitor=train/loss"
    )
    doubts = [warning for warning in read(*command).warnings if " set " in warning]
    found = read(*command, *advised(doubts[0], pattern))
    assert found.preprocessing["columns"][0]["offset"] == mean
    assert doubts[0] not in found.warnings
    assert "none tells" not in "".join(found.warnings)


def texts(folder):
    for i, label in enumerate(["p"] * 20 + ["n"] * 20):
        Path(folder, label).mkdir(parents=True, exist_ok=True)
        Path(folder, label, f"{i}.txt").write_text(f"words {i % 3}", encoding="utf-8")


def unknown_in_tables():
    Path("t.csv").write_text("a,y\n" + "1,p\n2,it's\n" * 20, encoding="utf-8")
    Path("o.csv").write_text('a,y\n1,p\n2,$5 "x"\n', encoding="utf-8")
    return "data=table data.path=t.csv data.test_path=o.csv data.target=y", "o.csv: row 2: "


def unknown_in_sequences():
    for name, labels in {"t.csv": ["0", "1"] * 9, "o.csv": ["1", "2"]}.items():
        rows = [f"{name}{i},{t},{t * i},{label}\n" for i, label in enumerate(labels) for t in range(3)]
        Path(name).write_text("".join(["s,t,a,y\n", *rows]), encoding="utf-8")
    command = "data=sequences data.path=t.csv data.test_path=o.csv data.id=s data.time=t data.target=y"
    return f"{command} model=rnn", "o.csv: row 4: "


def unknown_in_lines():
    Path("t.txt").write_text("p\ta b\nn\tb c\n" * 20, encoding="utf-8")
    Path("o.txt").write_text("p\ta b\n\n0x\tb c\n", encoding="utf-8")
    return "data=text data.path=t.txt data.test_path=o.txt model=rnn", "o.txt: line 3: "


def unknown_in_text_folders():
    texts("t")
    texts("o")
    Path("o/n").rename("o/null")
    return "data=text data.path=t data.test_path=o model=rnn", "o/null/20.txt: "


def unknown_in_image_folders():
    for i, place in enumerate(("train/a", "train/b", "test/b", "test/true")):
        Path("i", place).mkdir(parents=True)
        for k in range(12):
            pixels = np.full((8, 8), 16 * i + k, np.uint8)
            Image.fromarray(pixels).save(Path("i", place, f"{k}.png"))
    return "data=images data.path=i data.cache=null model=convnet", "i: test/true/0.png: "


def unknown_in_arrays():
    draw = np.random.default_rng(0).normal(size=(20, 2))
    np.savez("t.npz", x=draw, y=np.arange(20) % 2, x_test=draw[:3], y_test=np.array([0, 1, 2]))
    return "data=arrays data.path=t.npz data.inputs=x data.targets=y", "t.npz: y_test[2]: "


UNKNOWN = {name: make for name, make in globals().items() if name.startswith("unknown_in_")}


@pytest.mark.parametrize("case", slow_after(1, UNKNOWN))
def test_what_is_advised_about_a_label_that_training_lacks(case, tmp_path, monkeypatch):
    """The message begins with the label's own file and place, and what it prints takes the label in."""
    monkeypatch.chdir(tmp_path)
    command, place = UNKNOWN[case]()
    message = refused(*in_bash(command))
    assert message.startswith(place), message
    found = read(*in_bash(command), *advised(message, r"or set (.*)"))
    assert len(found.target.classes) == 3


def test_names_are_not_advised_where_labels_are_counted():
    """Of labels 3, 5 and 7 in an array data.classes would name 0, 1 and 2: that is not printed."""
    raw = RawData(
        *(np.zeros((3, 1)), ("x",), np.array([0, 1, 2]), Target("multiclass", ("y",), ("3", "5", "7"))),
        parts=np.array([0, 0, 2], np.int8),
    )
    with pytest.raises(UserError, match=r"one of: 3, 5\); spell labels alike in both$"):
        require_known(raw, counted_from_0=True)


NAMES = [
    "a.b (c)",
    "größe",
    "it's",
    "$HOME",
    "50%",
    'say "x"',
    "a,b",
    "x=y",
    "01",
    "true",
    "~a",
    "a\\b",
    "!a",
]


@pytest.mark.parametrize("name", slow_after(2, NAMES))
def test_a_column_of_any_name_gets_the_kind_that_is_advised(name, tmp_path, monkeypatch):
    """A word among its numbers is named with the setting that makes it a category, and that works."""
    monkeypatch.chdir(tmp_path)
    with open("t.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[name, "b", "y"], ["x2", "1.5", "0"]])
        file.write(ROWS)
    command = ["data=table", "data.path=t.csv", "data.target=y"]
    found = read(*command, *advised(refused(*command), r" set (\S*data\.kinds.*)$"))
    assert f"{name}=x2" in found.input_names or any("x2" in column for column in found.input_names)


def pictures(folder, *classes, sizes=((8, 8),)):
    """A folder of pictures for each class."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            colour = (20 * i, 100 * k, 0)
            Image.new("RGB", sizes[i % len(sizes)], colour).save(folder / name / f"{i}.png")


def broken(folder):
    pictures(folder, "a", "b")
    (folder / "a" / "3.png").write_bytes(b"no picture")
    (folder / "b" / "5.png").write_bytes(b"")


def cifar(folder):
    folder.mkdir()
    record = np.zeros(3073, np.uint8)
    for name in (*(f"data_batch_{i + 1}.bin" for i in range(5)), "test_batch.bin"):
        (folder / name).write_bytes(b"".join(bytes([i]) + record[1:].tobytes() for i in range(10)))


FOLDERS = {
    "on_error": ("data=images", broken, r"skip them with (\S+)"),
    "size": ("data=images", lambda f: pictures(f, "a", "b", sizes=[(8, 8), (6, 9)]), r"for example (\S+)"),
    "labels": ("data=cifar data.labels=coarse", cifar, r"set (\S+)"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_what_is_advised_about_a_folder(case, tmp_path):
    """The same command with the advice in place of what was wrong reads the pictures."""
    option, plant, pattern = FOLDERS[case]
    folder = tmp_path / "my pictures (1)"
    plant(folder)
    command = [*option.split(), *in_bash(typed("data.path", folder))]
    command += ["data.streaming=never", "data.cache=null"] * (option == "data=images")
    (word,) = advised(refused(*command), pattern)
    assert word.startswith(f"data.{case}=")
    kept = [other for other in command if not other.startswith(f"data.{case}=")]
    assert len(read(*kept, word).train.inputs) > 10


def instead(words, *advice):
    """The words of a command with the advice in place of what it changes."""
    keys = {word.partition("=")[0] for word in advice}
    return [*(word for word in words if word.partition("=")[0] not in keys), *advice]


@pytest.mark.parametrize(
    "words",
    [
        "data=iris",
        "data=shapes model=convnet model.channels=[16,32]",
        "data=iris model=mlp model.width=[9,7]",
    ],
)
def test_what_is_advised_when_memory_runs_out(words):
    """Every setting that may be lowered can be, and the smaller batch with its updates is accepted."""
    words = ["data.batch_size=64", *words.split()]
    config = validate(composed(words))
    with pytest.raises(UserError) as error, setup.explain_oom(config):
        raise MemoryError
    large = advised(str(error.value), r"with (.*): lower one")
    named = [word.removesuffix(",") for word in large]
    assert named[0] == "data.batch_size=64"
    assert len(named) > 1
    for word in named:
        key, _, value = word.partition("=")
        if key == "model.depth" and "[" in " ".join(words):  # as many as the list has
            continue
        lower = [max(int(n) // 2, 1) for n in value.strip("[]").split(",")]
        composed(instead(words, f"{key}={lower if '[' in value else lower[0]}".replace(" ", "")))
    smaller = advised(str(error.value), r"\((data.*) makes the same updates")
    halved = validate(composed(instead(words, *smaller)))
    assert (halved.data.settings["batch_size"], halved.trainer.accumulate) == (32, 2)


@pytest.mark.slow
def test_the_commands_of_a_run_are_typed_as_printed(tmp_path, warm):
    """A run is refused when its data changed, and goes on when the advice stands behind the command."""
    table = tmp_path / "it's my table.csv"
    table.write_text("a,b,y\n" + ROWS)
    data_set = f"data=table {typed('data.path', table)} data.target=y logger=none trainer.progress=plain"
    folder = tmp_path / "läufe (2)" / "$1"

    def bash(line):
        python, *words = in_bash(line)
        assert python == "python"
        return warm.python(*words, cwd=Path(__file__).parents[1])

    first = bash(f"python train.py {data_set} trainer.max_epochs=2 {typed('hydra.run.dir', folder)}")
    assert first.returncode == 0, first.stderr
    table.write_text("a,b,y\n" + ROWS.replace("1.5", "2.5"))
    again = f"python train.py {typed('resume', folder)} trainer.max_epochs=3"
    changed = bash(again)
    assert changed.returncode == 2
    (word,) = re.findall(r"continue anyway with (\S+)", changed.stderr)
    done = bash(f"{again} {word}")
    assert (done.returncode, "3 epochs done" in done.stdout) == (0, True), done.stderr


CONFIGURATIONS = {
    "regularizer=[dropout,label_smoothing] data=diabetes": r"remove it: (\S+)",
    "optimizer={sgd:{lr:1}}": r"write (.*)",
    "augmentation={rotation:{degrees:10}} data=shapes model=convnet": r"write (.*)",
    "regularizer=dropout regularizer.l2.strength=1": r"add it: (.*)",
    "optimizer=adamw regularizer=weight_decay": r"set (\S+) or",
    "activation=softmax": r"Use (relu);",
    "scheduler=none": r"did you mean (\w+)\?",
    "data=iris data.validation=0": r"use (trainer\.monitor=\S+)",
    "early_stopping=generalization_loss data.validation=0 trainer.monitor=train/loss": r"use (\S+)",
}


@pytest.mark.parametrize("command", slow_after(2, CONFIGURATIONS))
def test_what_is_advised_about_a_configuration(command):
    """What the advice sets takes the place of what was wrong, and the whole is accepted."""
    words = command.split()
    with pytest.raises(UserError) as error:
        composed(words)
    (sentence,) = error.value.problems
    advice = advised(sentence, CONFIGURATIONS[command])
    advice = [word if "=" in word else f"{sentence.partition('=')[0]}={word}" for word in advice]
    keys = {word.partition("=")[0] for word in advice}
    kept = [word for word in words if word.partition("=")[0] not in keys]
    composed([*kept, *advice])


@pytest.mark.parametrize(
    ("command", "pattern"),
    slow_after(
        1,
        [
            ("sweep=tpe", r"add an axis: (.*)"),
            ("sweep=tpe optimizer.lr=tag(lg,interval(1e-4,1))", r"is log: (.*)"),
            ("sweep=tpe optimizer.lr=tag(log,choice(1,2))", r"are for intervals: (.*)"),
        ],
    ),
)
def test_what_is_advised_about_a_sweep(command, pattern):
    """An interval is printed in the quotes that a shell needs around its parentheses."""
    words = command.split()
    with pytest.raises(UserError) as error:
        planning.plan(words)
    advice = advised(str(error.value), pattern)
    assert planning.plan([words[0], "sweep.trials=2", *advice]).space.axes[0].key == "optimizer.lr"


def test_a_linear_interval_is_advised_as_a_logarithmic_one():
    """The note about an interval of many powers of ten names the override that draws over them."""
    (note,) = planning.plan(["sweep=random", "sweep.trials=2", "optimizer.lr=interval(1e-5,1)"]).notes
    (word,) = advised(note, r"write (.*)")
    (axis,) = planning.plan(["sweep=random", "sweep.trials=2", word]).space.axes
    assert axis.log


@pytest.mark.parametrize("name", ["runs", "my runs", "läufe (2)", "a=b", "it's", "$HOME"])
def test_a_folder_of_any_name_is_continued_as_printed(name, tmp_path):
    """resume=DIR is printed so that the shell and Hydra hand on the very folder."""
    from slipstream.config.replay import folder_of

    folder = tmp_path / name
    (word,) = in_bash(typed("resume", folder))
    assert folder_of([word]) == folder
    assert spell(folder) == spell(str(folder))


DAYS = [f"{date:%Y-%m-%d}" for date in (np.datetime64("2020-01-01") + np.arange(80)).tolist()]
NUMBERS = [f"{i % 7 + i / 100:.2f}" for i in range(80)]
MISREAD = {
    "counts": (
        "a,b,y\n" + "".join(f"{n},1.5,{i % 6}\n" for i, n in enumerate(NUMBERS)),
        "has 6 whole numbers, 0 to 5, which are treated as classes",
        r"set (data\.task=regression)",
    ),
    "classes": (
        "a,b,y\n" + "".join(f"{n},1.5,{i % 6}\n" for i, n in enumerate(NUMBERS)),
        "treated as classes",
        r"otherwise (data\.task=multiclass)",
    ),
    "a series": (
        "d,a,y\n" + "".join(f"{d},{n},{n}\n" for d, n in zip(DAYS, NUMBERS, strict=True)),
        "the rows are sorted by 'd'",
        r"set (data\.split=time data\.time_column=d)",
    ),
    "nines": (
        "a,b,y\n" + "".join(f"{-999 if i % 9 == 0 else n},1,{n}\n" for i, n in enumerate(NUMBERS)),
        "-999 in column 'a' appears in several rows",
        r'set ("data\.missing=.*\'-999\'\]")',
    ),
}


@pytest.mark.parametrize("case", MISREAD)
def test_what_may_be_misread_is_said_until_settled(case, tmp_path, monkeypatch):
    """Counts as classes, a series cut at random, -999 as a number: the printed setting ends the doubt."""
    monkeypatch.chdir(tmp_path)
    content, said, pattern = MISREAD[case]
    Path("t.csv").write_text(content, encoding="utf-8")
    command = ["data=table", "data.path=t.csv", "data.target=y"]
    (doubt,) = [warning for warning in read(*command).warnings if said in warning]
    assert not any(said in warning for warning in read(*command, *advised(doubt, pattern)).warnings)


def test_dates_in_several_ways_and_a_target_far_away_are_said(tmp_path, monkeypatch):
    """Both are kept as they are; the row of the target is named."""
    monkeypatch.chdir(tmp_path)
    mixed = [f"{d[8:]}.{d[5:7]}.{d[:4]}" if i % 2 else d for i, d in enumerate(DAYS)]
    rows = [f"{d},{n},{n}\n" for d, n in zip(mixed, NUMBERS, strict=True)]
    rows[7] = f"{mixed[7]},1,1e6\n"
    Path("t.csv").write_text("d,a,y\n" + "".join(rows), encoding="utf-8")
    parts = ["data.validation=0", "data.test=0", "trainer.monitor=train/loss"]
    found = read("data=table", "data.path=t.csv", "data.target=y", *parts)
    said = "\n".join(found.warnings)
    assert "dates have several formats; write all as 2026-01-31: d ('2020-01-01', '02.01.2020')" in said
    assert "target 'y': 1 of 80 training rows lies more than 300 interquartile ranges" in said
    assert "such as 1e+06 (t.csv: row 8)" in said


def test_a_misspelt_file_is_answered_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my rooms.csv").write_text("a,b,y\n" + "1,2.5,up\n2,1.5,down\n" * 20, encoding="utf-8")
    found = refused("data=table", "data.path='my room.csv'", "data.target=y")
    words = advised(found, r"is not a file, did you mean (.*)\?")
    assert len(read("data=table", *words, "data.target=y").train) == 28


def test_a_target_of_words_is_no_regression(tmp_path, monkeypatch):
    """The advice is to leave the task out; kinds are for inputs alone."""
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("a,b,y\n" + "1,2.5,up\n2,1.5,down\n" * 20, encoding="utf-8")
    command = ["data=table", "data.path=t.csv", "data.target=y"]
    assert refused(*command, "data.task=regression").endswith(
        "Remove data.task=regression: words are classes"
    )
    Path("t.csv").write_text("a,b,y\n" + "1,2.5,3.25\n2,1.5,2.5\n" * 20 + "1,1,x\n", encoding="utf-8")
    found = refused(*command)
    assert "data.kinds" not in found
    words = advised(found, r"Correct it, or add it to data\.missing \((.*)\) if it means a missing value$")
    assert len(read(*command, "data.missing_target=drop", *words).train) == 28


def test_only_settings_that_the_source_has_are_advised(tmp_path, monkeypatch):
    """A table of images has no data.missing."""
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        Image.new("L", (4, 4), i).save(f"{i}.png")
    rows = "".join(f"{i}.png,{'x' if i == 11 else i + 0.5}\n" for i in range(12))
    Path("t.csv").write_text("file,y\n" + rows, encoding="utf-8")
    found = refused("data=images", "data.path=t.csv", "data.image=file", "data.target=y", "model=convnet")
    assert found.endswith("Correct it")


def test_a_header_in_another_encoding_is_named(tmp_path, monkeypatch):
    """The first wrong byte stands in the header, and what the file probably is stands beside it."""
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_bytes("größe,y\n1,2\nß,3\n".encode("latin-1"))
    found = refused("data=table", "data.path=t.csv", "data.target=y")
    assert found.startswith("t.csv: the header holds byte 0xf6, which is not UTF-8")
    assert "probably Latin-1: 'größe'" in found
    Path("t.csv").write_bytes("a,y\n1,2\nß,3\n".encode("latin-1"))
    assert "row 2 (below the header) holds byte 0xdf" in refused(
        "data=table", "data.path=t.csv", "data.target=y"
    )


def test_a_table_without_header_and_a_folder_say_so(tmp_path, monkeypatch):
    """A name that is no word of the first row points to data.header; a folder is called one."""
    monkeypatch.chdir(tmp_path)
    Path("t.tsv").write_text("it is a good film\tpos\nit is a bad film\tneg\n" * 20, encoding="utf-8")
    command = ["data=text", "data.path=t.tsv", "model=rnn"]
    found = refused(*command, "data.text=review", "data.target=pos")
    (header,) = advised(found, r"set (data\.header=false)")
    assert len(read(*command, header, "data.text=column 1", "data.target=column 2").train.inputs) > 20
    assert "is a folder, expected a file (.csv" in refused("data=table", "data.path=.", "data.target=y")


def test_the_padding_channel_is_named(tmp_path, monkeypatch):
    """Sequences of several lengths have one channel more than columns, which the card says."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},{t},{t * i},{i % 2}\n" for i in range(20) for t in range(2 + i % 3))
    Path("t.csv").write_text("s,t,a,y\n" + rows, encoding="utf-8")
    words = ["data=sequences", "data.path=t.csv", "data.id=s", "data.time=t", "data.target=y", "model=rnn"]
    assert "sequences of 4 x 2 (the last marks padding)" in read(*words).card


@pytest.mark.slow
def test_an_experiment_for_other_data_asks_for_data():
    """experiment=realmlp alone meets the digits, whose images its scaling does not fit."""
    found = refused("experiment=realmlp")
    (choice,) = advised(found, r"such as (data=wine)\)")
    assert composed(["experiment=realmlp", choice])


@pytest.mark.slow
def test_a_combination_of_a_grid_can_be_left_out():
    """Values that are sound one by one but not together are said to need commands of their own."""
    words = ["model.depth=0,1", "regularizer=[],[dropout]", "optimizer=sgd,adam"]
    with pytest.raises(UserError) as error:
        planning.plan(words)
    said = str(error.value)
    assert said.endswith('sweep model.depth=0 in a separate command without "regularizer=[dropout]"')
    planning.plan(["model.depth=0", "regularizer=[]", "optimizer=sgd,adam"])
