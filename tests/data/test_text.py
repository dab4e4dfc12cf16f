"""Texts: how they are read and cut, what the vocabulary knows, what is said of the rest."""

import gzip
import json
import re
import unicodedata
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

import slipstream
import slipstream.config.validation
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.data import from_json
from slipstream.data.text.vocabulary import Texts, Tokenizer
from slipstream.runs.session import run

WORDS = ["good", "bad", "film", "plot", "the", "a", "actor", "it's", "dull", "bright"]


def rows(count=60):
    """Labels and texts: `bright` texts are liked."""
    draw = np.random.default_rng(3)
    for i in range(count):
        words = list(draw.choice(WORDS[:8], size=draw.integers(2, 9)))
        yield ("liked" if i % 2 else "not"), " ".join([*words, WORDS[8 + i % 2]]).capitalize() + "."


def lines(count=60):
    return "".join(f"{label}\t{text}\n" for label, text in rows(count))


@pytest.fixture
def read(tmp_path, load):
    """read(content, file="t.txt", ...): the data of a file with that content."""

    def make(content=None, file="t.txt", **changes):
        path = tmp_path / file
        content = lines() if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load("text", path=str(path), **changes)

    return make


def words_of(data, part="train"):
    """The tokens of each row, from the ids back."""
    names = data.preprocessing["vocabulary"]
    return [[names[i] for i in row if i] for row in getattr(data, part).inputs.tolist()]


@pytest.mark.slow
def test_every_format_gives_the_same_texts(read, tmp_path, load):
    """Lines, gzip, CSV, TSV, Parquet and folders hold the same texts and give the same tokens."""
    import polars as pl

    first = read()
    frame = pl.DataFrame(list(rows()), schema=["label", "words"], orient="row")
    frame.write_parquet(tmp_path / "t.parquet")
    columns = {"text": "words", "target": "label"}
    found = [
        read(gzip.compress(lines().encode()), "t.txt.gz"),
        read("\n" + lines().replace("\n", "\r\n"), "dos.txt"),
        read(frame.write_csv(), "t.csv", **columns),
        read(frame.write_csv(separator="\t"), "t.tsv", **columns),
        load("text", path=str(tmp_path / "t.parquet"), **columns),
    ]
    for other in found:
        for part in ("train", "validation", "test"):
            assert words_of(other, part) == words_of(first, part)
            assert getattr(other, part).targets.tolist() == getattr(first, part).targets.tolist()
    for i, (label, text) in enumerate(rows()):
        (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / label / f"{i:03}.txt").write_text(text + "\n", encoding="utf-8")
    folder = load("text", path=str(tmp_path / "folder"), validation=0, test=0)
    ours = sorted(zip(folder.train.targets.tolist(), words_of(folder), strict=True))
    every = read(validation=0, test=0)
    assert ours == sorted(zip(every.train.targets.tolist(), words_of(every), strict=True))


@pytest.mark.parametrize("file", ["sms.tsv", "SMSSpamCollection"])
def test_a_tsv_file_without_header_is_lines(read, file):
    """Where no column is named, a file with tabs is labels and texts, quotes in them as they stand."""
    content = lines() + 'not\tand so "he" said "hi\n'
    found, first = read(content, file=file), read(content)
    assert found.fingerprint == first.fingerprint
    with pytest.raises(ConfigError, match=r"data\.target: is not set"):
        read(content, file="sms.tsv", text="column 2")
    table = read(lines(), file="t.csv", separator="\t", header=False, text="column 2", target="column 1")
    assert table.target.classes == first.target.classes


def test_words_and_counts_agree_with_scikit_learn(read):
    """With scikit-learn's own pattern for a word, the vocabulary and every count are its own."""
    texts = [text for _, text in rows()]
    data = read(validation=0, test=0, min_count=1)
    assert [" ".join(words) for words in words_of(data)] == [
        " ".join(re.findall(r"[\w']+|\.", t.lower())) for t in texts
    ]
    reference = CountVectorizer(token_pattern=r"[\w']+|\.").fit(texts)
    vocabulary = data.preprocessing["vocabulary"]
    assert sorted(vocabulary[2:]) == reference.get_feature_names_out().tolist()
    counts = [Counter(words) for words in words_of(data)]
    ours = [[count[name] for name in reference.get_feature_names_out()] for count in counts]
    assert np.array_equal(reference.transform(texts).toarray(), ours)


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        ("Don’t  stop_it\t2 times!", "word", ["Don’t", "stop_it", "2", "times", "!"]),
        ("ab c\n", "character", ["a", "b", " ", "c"]),
        (unicodedata.normalize("NFD", "Größe é"), "word", ["Größe", "é"]),
        ("हिन्दी में", "word", ["हिन्दी", "में"]),
        ("'quoted' -- (x)", "word", ["'", "quoted", "'", "-", "-", "(", "x", ")"]),
        (" \n ", "word", []),
        ("🙂ok", "word", ["🙂", "ok"]),
    ],
)
def test_how_a_text_is_cut(text, level, expected):
    """Words keep their apostrophes and combining marks; signs stand alone; blanks count for characters."""
    assert Tokenizer(level, False, "NFC", 99, "first").cut(text) == expected


def test_the_normal_form_brings_spellings_together():
    """NFKC takes a ligature and a wide letter for what they mean, NFC does not."""
    assert Tokenizer("word", True, "NFKC", 9, "first").cut("ﬁne Ａ") == ["fine", "a"]
    assert Tokenizer("word", True, "NFC", 9, "first").cut("ﬁne Ａ") == ["ﬁne", "ａ"]


def test_the_vocabulary_knows_the_training_part_only(read):
    """A word that stands in no training text has no id, and its share in each part is reported."""
    first = read()
    seen = Counter(word for words in words_of(read(min_count=1)) for word in words)
    assert set(first.preprocessing["vocabulary"][2:]) == {word for word, n in seen.items() if n >= 2}
    text = "".join(f"{'ab'[i % 2]}\tword{i} same\n" for i in range(40))
    data = read(text, "unique.txt", min_count=1)
    assert (data.validation.inputs[:, 0] == 1).all()
    assert (data.train.inputs[:, 0] > 1).all()
    assert "train 0.0% unknown, validation 50.0% unknown, test 50.0% unknown" in data.summary


def test_min_count_and_max_words_choose_the_most_frequent(read):
    """Ids follow the counts in train; equal counts follow the alphabet; the rest is unknown."""
    text = "".join(
        f"{'ab'[i % 2]}\tx x y {'z w' if i % 2 else 'v'} {'rare' if i == 0 else ''}\n" for i in range(20)
    )
    data = read(text, validation=0, test=0, min_count=2)
    assert data.preprocessing["vocabulary"] == ["<padding>", "<unknown>", "x", "y", "v", "w", "z"]
    assert read(text, validation=0, test=0, max_words=3).preprocessing["vocabulary"][2:] == ["x", "y", "v"]
    with pytest.raises(
        DataError, match=r"no word occurs at least 99 times in the training split; lower data\.min_count"
    ):
        read(text, min_count=99)


@pytest.mark.parametrize("keep", ["first", "last"])
def test_long_texts_are_cut_off_and_counted(read, keep):
    """max_length tokens are kept, the first or the last; the summary warns how many texts were longer."""
    whole, cut = read(validation=0, test=0), read(validation=0, test=0, max_length=4, keep=keep)
    wanted = [words[:4] if keep == "first" else words[-4:] for words in words_of(whole)]
    assert words_of(cut) == wanted
    assert cut.form.shape == (4,)
    longer = sum(len(words) > 4 for words in words_of(whole))
    assert (
        f"{longer} of 60 texts ({longer / 60:.1%}) have more than 4 words; the {keep} 4 are kept"
        in cut.summary
    )


def test_padding_is_id_0_at_the_end(read):
    """A row is its tokens, all above 0, and then zeros; the longest text has none."""
    inputs = read(validation=0, test=0).train.inputs.numpy()
    lengths = (inputs != 0).sum(1)
    assert np.array_equal(inputs != 0, np.arange(inputs.shape[1]) < lengths[:, None])
    assert lengths.max() == inputs.shape[1]
    assert inputs.dtype == np.int16


@pytest.mark.slow
def test_a_large_vocabulary_has_wider_ids():
    """Past 32,767 ids rows are int32."""
    texts = Texts.of(
        [" ".join(f"w{i}" for i in range(40_000))], Tokenizer("word", True, "NFC", 40_000, "first")
    )
    vocabulary = texts.vocabulary(np.array([0]))
    assert texts.encode(vocabulary, 40_000).dtype == np.int32
    assert texts.encode(vocabulary, 40_000).max() == 40_001


def test_new_texts_are_encoded_as_in_training(read):
    """Saved and read again, the preprocessing gives the training part's ids for its texts."""
    data = read(validation=0, test=0, min_count=1)
    again = from_json(json.loads(json.dumps(data.preprocessing)))
    texts = [text for _, text in rows()]
    for same in (texts, np.array(texts), {"text": texts}):
        ids, warnings = again.transform(same)
        assert np.array_equal(ids, data.train.inputs)
        assert warnings == []
    ids, warnings = again.transform(["Unheard film.", "", "bad " * 30])
    assert ids[0, 0] == 1
    assert ids[1].tolist() == [1] + [0] * (ids.shape[1] - 1)
    assert len(warnings) == 3
    for wrong, message in [
        ("one", "put it in brackets"),
        ([1], "text 1: found int"),
        ({"words": texts}, "'text'"),
    ]:
        with pytest.raises(DataError, match=message):
            again.transform(wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.txt: the file is empty"),
        ("a\tx\nb x\n", r"t\.txt: line 2 has no tab: found 'b x', expected label<TAB>text"),
        ("a\tx\nb\t \n", r"t\.txt: line 2: the text has no word \(1 of 2 texts\): .*data\.empty=drop"),
        ("a\tx\n\ty\n", r"t\.txt: line 2: the text has no label .*data\.missing_target=drop"),
        (b"a\tx\nb\t\xff\n", r"t\.txt: line 2 contains byte 0xff, which is not UTF-8"),
        (b"a\tx\nb\t\0\n", r"t\.txt: line 2 contains a zero byte"),
        ("a\tx\n".encode("utf-16"), r"t\.txt: the file is UTF-16; save it as UTF-8"),
        ("a\tx\na\ty\n", "has only one class"),
    ],
)
def test_broken_lines_are_named(read, content, message):
    """A file that is no list of labelled texts is refused, with the line."""
    with pytest.raises(DataError, match=message):
        read(content)


def test_texts_without_content_can_be_left_out(read):
    """empty=drop and missing_target=drop leave rows out and say how many."""
    data = read(lines() + "liked\t  \n\tno label\n", empty="drop", missing_target="drop")
    assert sum(map(len, (data.train, data.validation, data.test))) == 60
    assert "1 of 62 texts has no word; it is left out" in data.summary
    assert "1 of 62 texts has no label; it is left out" in data.summary
    assert data.fingerprint != read().fingerprint


def test_broken_folders_are_named(tmp_path, load):
    """A folder without classes, a class without files and a file of bytes are refused by name."""
    with pytest.raises(DataError, match="has no folders, expected one for each class"):
        load("text", path=str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"a: has no \.txt files, expected the texts of class 'a'"):
        load("text", path=str(tmp_path))
    (tmp_path / "a" / "1.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match=r"1\.txt: line 1 contains byte 0xff"):
        load("text", path=str(tmp_path))


@pytest.mark.parametrize("other", [unicodedata.normalize("NFD", "é"), "é "])
def test_folders_of_one_class_are_refused(tmp_path, load, other):
    """Names that are one label are not merged without a word; both are named."""
    for name in ("é", other):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text("a text")
    with pytest.raises(DataError, match="are both class 'é'") as caught:
        load("text", path=str(tmp_path))
    assert ascii("é") in str(caught.value)
    assert ascii(other) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": None}, "data.path: is not set"),
        ({"path": "nowhere.txt"}, "data.path: nowhere.txt does not exist"),
        ({"text": "words"}, "data.text: names a column, but .* is not a table"),
        ({"scaling": "minmax"}, "data.scaling: found minmax, but data=text has token ids; expected none"),
        (
            {"validation_path": "there.csv"},
            "data.text: is not set, expected the name of a column of there.csv",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(load, tmp_path, monkeypatch, changes, message):
    """What can be told without reading is told before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("a,b\n1,2\n")
    (tmp_path / "lines.txt").write_text(lines())
    with pytest.raises(ConfigError, match=message):
        load("text", **{"path": "lines.txt"} | changes)


def test_parts_can_come_from_files_of_their_own(read, tmp_path):
    """validation_path and test_path are those parts, cut with the training part's vocabulary."""
    (tmp_path / "v.txt").write_text("liked\tnever heard\nnot\tbad film\n", encoding="utf-8")
    data = read(validation_path=str(tmp_path / "v.txt"), test=0)
    assert len(data.train) == 60
    assert words_of(data, "validation") == [["<unknown>", "<unknown>"], ["bad", "film"]]


def test_a_numeric_target_is_regression(read):
    """The task is inferred from the target column as in a table."""
    table = "words,stars\n" + "".join(f"word {i % 7},{i * 0.37}\n" for i in range(50))
    data = read(table, "t.csv", text="words", target="stars")
    assert data.target.task == "regression"


@pytest.mark.slow
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=8)), max_size=40).map(
            lambda rows: "\n".join(f"{label}\t{text}" for label, text in rows).encode(
                "utf-8", "surrogatepass"
            )
        ),
    ),
    level=st.sampled_from(["word", "character"]),
)
def test_random_bytes_give_data_or_a_data_error(read, content, level):
    """Whatever the file holds, loading ends with ids of the vocabulary or with a user's error."""
    with suppress(UserError):
        found = read(content, level=level, min_count=1, empty="drop", missing_target="drop")
        for part in (found.train, found.validation, found.test):
            assert ((part.inputs >= 0) & (part.inputs < found.form.vocabulary)).all()
            assert (part.inputs[:, 0] > 0).all()


def test_a_combining_mark_alone_is_a_token():
    """What normalization leaves of odd writing is cut without loss of a visible sign."""
    cut = Tokenizer("word", False, "NFC", 9, "first").cut("\u0301 a\u0323\u0301b!")
    assert "".join(cut) == "\u0301\u1ea1\u0301b!"


@pytest.mark.slow
def test_a_trained_network_predicts_new_texts_as_it_was_measured(tmp_path):
    """The accuracy of predictions for the file's own texts is that of summary.json, from the saved folder."""
    path = tmp_path / "t.txt"
    path.write_text(lines(), encoding="utf-8")
    options = ("model=rnn", "model.width=4", "trainer.max_epochs=3", "logger=none", "trainer.progress=none")
    data = (
        "data=text",
        f"data.path={path}",
        "data.validation=0",
        "data.test=0.5",
        "trainer.monitor=train/loss",
    )
    config = slipstream.config.validate(slipstream.compose(*data, *options, "trainer.compile=false"))
    run(config, tmp_path / "run", [])
    path.unlink()
    model = slipstream.load(tmp_path / "run")
    found = model.predict([text for _, text in rows()])
    assert found.scores.shape == (60, 2)
    labels = np.array([label for label, _ in rows()])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    mean = (summary["train/accuracy"] + summary["test/accuracy"]) / 2
    assert np.mean(found.labels == labels) == pytest.approx(mean, abs=1e-6)


def test_what_a_target_is_read_as_is_said(load, tmp_path):
    """Signs of targets are left out with a warning, as in data=table."""
    rows = [f"some words {i},${i}.50" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,y", *rows]) + "\n")
    found = load("text", path=str(tmp_path / "t.csv"), text="text", target="y")
    assert "signs of numbers are ignored: y ($)" in found.warnings
