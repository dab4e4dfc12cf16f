"""How files spell numbers and dates: marks, signs and orders, alike on every path, and said."""

import datetime
import json

import numpy as np
import polars as pl
import pytest

from slipstream.core.errors import DataError
from slipstream.data import from_json
from slipstream.data.tabular.spelling import days_of, hours_of, is_date, number_of

GERMAN = "a;b;y\n" + "".join(
    f"{f'{1000 + i}'[:1]}.{f'{1000 + i}'[1:]};{i * i},0;{'pn'[i % 2]}\n"
    if i % 2
    else f"{900 + i},5;{i * i},0;{'pn'[i % 2]}\n"
    for i in range(1, 41)
)
ENGLISH = "inc,b,y\n" + "".join(
    f'"{2 + i // 9},{100 + i}",{i * i},{"pn"[i % 2]}\n' if i % 2 else f"{500 + i},{i * i},{'pn'[i % 2]}\n"
    for i in range(40)
)
WHOLE = {"test": 0, "validation": 0}


def column(data, name):
    """How the column is kept in preprocessing.json."""
    return next(found for found in data.preprocessing["columns"] if found["name"] == name)


@pytest.mark.parametrize(
    ("word", "point", "comma"),
    [
        ("2,101", (2101, ""), (2.101, "")),
        ("85,091", (85091, ""), (85.091, "")),
        ("1.101", (1.101, ""), (1101, "")),
        ("1.234.567,5", None, (1234567.5, "")),
        ("12,34,567.5", (1234567.5, ""), None),
        ("0,5", None, (0.5, "")),
        ("0,123", None, (0.123, "")),
        ("1 234.5", (1234.5, ""), None),
        ("1\u202f234,5", None, (1234.5, "")),
        ("1'234", (1234, ""), (1234, "")),
        ("$1,100.50", (1100.5, "$"), None),
        ("-€5", (-5, "€"), (-5, "€")),
        ("€ -5", (-5, "€"), (-5, "€")),
        ("12,5 €", None, (12.5, "€")),
        ("CHF 12", (12, "CHF"), (12, "CHF")),
        ("(1,234.50)", (-1234.5, ""), None),
        ("($5)", (-5, "$"), (-5, "$")),
        ("8.90%", (8.9, "%"), None),
        ("\u22125", (-5, ""), (-5, "")),
        ("12.50-", (-12.5, ""), None),
        ("1e5", (1e5, ""), (1e5, "")),
        ("-inf", (-np.inf, ""), (-np.inf, "")),
        *(
            (word, None, None)
            for word in ("", "-", "$", "%", "(5", "(-5)", "--5", "2-", "1_000", "5'11", "1,2,3")
        ),
        *((word, None, None) for word in ("$5€", "nan", "3 kg", "10.0.0.1", "2020-03", "1,23,45", "0x10")),
    ],
)
def test_numbers_as_people_write_them(word, point, comma):
    """A word is a number, with its sign, or none, under either decimal mark."""
    assert number_of(word) == point
    assert number_of(word, ",") == comma


@pytest.mark.parametrize(
    ("word", "day", "month"),
    [
        ("10/03/2020", "2020-03-10", "2020-10-03"),
        ("13/08/2019", "2019-08-13", None),
        ("3.7.99", "1999-07-03", "1999-03-07"),
        ("10-03-2020 14:30", "2020-03-10T14:30", "2020-10-03T14:30"),
        ("3/10/20 12:05:30 AM", "2020-10-03T00:05:30", "2020-03-10T00:05:30"),
        *((word, "2020-03-10", "2020-03-10") for word in ("2020-03-10", "2020/3/10", "2020.03.10")),
        *((word, "2020-03-10", "2020-03-10") for word in ("Mar 10, 2020", "March 10th, 2020", "10 Mar 2020")),
        *((word, "2020-03-10", "2020-03-10") for word in ("10-Mar-20", "Tue, 10 March 2020", "10Mar2020")),
        *((word, "2020-03-01", "2020-03-01") for word in ("2020-03", "03/2020", "Mar 2020", "2020/03")),
        ("Mar 10, 2020 2:30 pm", "2020-03-10T14:30", "2020-03-10T14:30"),
        ("2020-03-10T12:00:00+02:00", "2020-03-10T10:00", "2020-03-10T10:00"),
        *(
            (word, None, None)
            for word in ("", "2020", "20200310", "13/13/2020", "2020-13", "2020-02-30", "1-2")
        ),
        *(
            (word, None, None)
            for word in ("555-12-3456", "1.2.3", "May", "May 2", "10/03/2020 25:00", "12/25")
        ),
    ],
)
def test_dates_as_people_write_them(word, day, month):
    """A word is a date, with the day or the month first, or none."""
    start = np.datetime64("1970-01-01T00:00:00")
    for first, expected in (("d", day), ("m", month)):
        found = days_of(word, first)
        right = None if expected is None else (np.datetime64(expected, "s") - start) / np.timedelta64(1, "D")
        assert found == (right if right is None else pytest.approx(right, abs=1e-9)), first
    assert is_date(word) == (day is not None or month is not None)


def test_thousands_marks_are_read_and_said(load_table):
    """2,101 is 2101; 1.101 is 1101 beside a decimal comma; a warning says it once."""
    data = load_table(ENGLISH, **WHOLE)
    right = [(2 + i // 9) * 1000 + 100 + i if i % 2 else 500 + i for i in range(40)]
    assert column(data, "inc")["offset"] == pytest.approx(np.mean(right))
    assert data.warnings == ("thousands separators are removed: inc ('2,101' is 2101)",)
    data = load_table(GERMAN, decimal=",", **WHOLE)
    right = [1000 + i if i % 2 else 900 + i + 0.5 for i in range(1, 41)]
    assert column(data, "a")["offset"] == pytest.approx(np.mean(right))
    assert data.warnings == ("thousands separators are removed: a ('1.001' is 1001)",)


def test_what_the_decimal_mark_is_is_never_guessed_in_silence(load_table):
    """The wrong setting is refused with the right one, and a doubtful one is told."""
    with pytest.raises(DataError, match=r"'2,101'.*thousands separators.*remove data\.decimal"):
        load_table(ENGLISH, decimal=",")
    with pytest.raises(DataError, match=r"""'900,5'|'902,5'.*set "data\.decimal=','\""""):
        load_table(GERMAN)
    rows = [f"{f'1.{100 + i}' if i % 2 else 900 + i},{i % 2}" for i in range(40)]
    data = load_table("\n".join(["a,y", *rows]) + "\n")
    assert data.warnings == (
        "every '.' is before three digits and is read as the decimal mark; if it separates thousands, "
        "set \"data.decimal=','\" or write the numbers without it: a ('1.101')",
    )
    rows = [f"1,{100 + i};{i % 2}" for i in range(40)]
    data = load_table("\n".join(["a;y", *rows]) + "\n", decimal=",", **WHOLE)
    assert column(data, "a")["offset"] == pytest.approx(1.1195)
    assert (
        "if it separates thousands, remove data.decimal or write the numbers without it: a ('1,100')"
        in data.warnings[0]
    )


@pytest.mark.slow
def test_a_column_that_becomes_formatted_late_is_read_from_its_start(load_table):
    """Thousands marks that stand only behind the first block of a large file are read all the same."""
    count = 300_000
    rows = [
        f'"{i // 1000},{i % 1000:03d}",{i % 2}' if i > count - 50 else f"{i % 900},{i % 2}"
        for i in range(count)
    ]
    data = load_table("\n".join(["a,y", *rows]) + "\n", **WHOLE)
    right = np.array([i if i > count - 50 else i % 900 for i in range(count)])
    assert column(data, "a")["offset"] == pytest.approx(right.mean(), rel=1e-12)


@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.parquet"])
def test_money_and_percent_are_numbers_on_every_path(load_table, tmp_path, file):
    """Signs are left out and said, in files of words, in Parquet, and of what is predicted later."""
    frame = pl.DataFrame(
        {
            "income": [f"${(i + 1) * 1000 + 100.5:,.2f}" for i in range(40)],
            "gain": [f"({i}.50)" if i % 2 else f"{i}.50" for i in range(40)],
            "day": [f"{1 + i % 28:02d}/{1 + i % 12:02d}/2020" for i in range(40)],
            "y": ["pn"[i % 2] for i in range(40)],
        }
    )
    if file.endswith("parquet"):
        frame.write_parquet(tmp_path / "source")
        content = (tmp_path / "source").read_bytes()
    else:
        content = frame.write_csv(separator="\t" if "tsv" in file else ",")
    data = load_table(content, file=file, **WHOLE)
    assert column(data, "income")["offset"] == pytest.approx(
        np.mean([(i + 1) * 1000 + 100.5 for i in range(40)])
    )
    assert column(data, "gain")["offset"] == pytest.approx(
        np.mean([-i - 0.5 if i % 2 else i + 0.5 for i in range(40)])
    )
    assert data.warnings == (
        "signs of numbers are ignored: income ($)",
        "thousands separators are removed: income ('$1,100.50' is 1100.5)",
        "dates are read with the day first: day ('13/01/2020' is 2020-01-13)",
    )
    kept = from_json(json.loads(json.dumps(data.preprocessing)))
    later = {
        "income": ["$1,100.50", "2100.5"],
        "gain": ["0.5", "(1.50)"],
        "day": ["01/01/2020", "02/02/2020"],
    }
    encoded, _ = kept.transform(later)
    first = data.train.inputs.numpy()
    np.testing.assert_array_equal(encoded, first[:2])
    for changed in ({"income": ["€5", "$5"]}, {"day": ["01/13/2020"] * 2}, {"gain": ["5%", "5"]}):
        with pytest.raises(DataError, match="row 1: found"):
            kept.transform(later | changed)


@pytest.mark.parametrize(
    ("word", "hours"),
    [
        *(("14:30", 14.5), ("9:05", 9 + 5 / 60), ("00:00", 0), ("24:00", 24), ("14:30:15", 14.5 + 15 / 3600)),
        *(("14:30:15.5", 14.5 + 15.5 / 3600), ("2:30 pm", 14.5), ("12:00 AM", 0), ("12:15p.m.", 12.25)),
        *(
            (word, None)
            for word in ("", "14", "14.30", "24:01", "25:00", "9:5", "10:60", "1:30:60", "13:00 pm")
        ),
        *((word, None) for word in ("-1:30", "2020-01-01 14:30", "T14:30", "14:30:", "1:2:3")),
    ],
)
def test_times_of_day_as_people_write_them(word, hours):
    """A word is a time of day, in hours, or none."""
    assert hours_of(word) == (hours if hours is None else pytest.approx(hours, abs=1e-12))


def clock(i):
    """A time of day in each row."""
    return datetime.time(i * 7 % 24, i * 11 % 60, i % 2 * 15)


@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.parquet", "typed.parquet"])
def test_times_of_day_are_hours_on_every_path(load_table, tmp_path, file):
    """14:30 is 14.5 and a place on the clock; a warning says it; files, types and frames are read alike."""
    times = [clock(i) for i in range(60)]
    words = [t.isoformat() if i % 3 else t.isoformat("seconds") for i, t in enumerate(times)]
    words = [word.removesuffix(":00") for word in words]
    frame = pl.DataFrame({"t": times if "typed" in file else words, "y": ["p", "n"] * 30})
    if file.endswith("parquet"):
        frame.write_parquet(tmp_path / "source")
        content = (tmp_path / "source").read_bytes()
    else:
        content = frame.write_csv(separator="\t" if "tsv" in file else ",")
    data = load_table(content, file=file, scaling="none", **WHOLE)
    hours = np.array([t.hour + t.minute / 60 + t.second / 3600 for t in times])
    angle = 2 * np.pi * hours / 24
    right = np.stack([hours, np.sin(angle), np.cos(angle)], axis=1)
    np.testing.assert_allclose(data.train.inputs, right, rtol=1e-5, atol=1e-5)
    shown = "00:00:00" if "typed" in file else "00:00"
    said = f"times of day are read as hours: t ('{shown}' is 0)"
    assert data.warnings == (said,)
    assert said in data.summary
    kept = from_json(json.loads(json.dumps(data.preprocessing)))
    assert kept.names == ("t", "t sine of 24 hours", "t cosine of 24 hours")
    first = data.train.inputs.numpy()
    for later in (times, words, pl.Series(times), np.array(times, object), hours.tolist()):
        np.testing.assert_allclose(kept.transform({"t": later})[0], first, rtol=1e-6)
    assert kept.transform({"t": datetime.time(14, 30)})[0][0, 0] == 14.5
    with pytest.raises(DataError, match="row 1: found '25:00', expected a time of day like 14:30"):
        kept.transform({"t": ["25:00", "14:30"]})


def test_a_missing_time_of_day_is_filled_and_flagged(load_table):
    """A gap among times is a gap among numbers."""
    rows = [f"{'' if i == 3 else clock(i)},{'pn'[i % 2]}" for i in range(60)]
    data = load_table("\n".join(["t,y", *rows]) + "\n", scaling="none", **WHOLE)
    assert data.train.inputs[3, 3] == 1
    assert data.train.inputs[:, 3].sum() == 1
    hours = [clock(i).hour + clock(i).minute / 60 + clock(i).second / 3600 for i in range(60) if i != 3]
    assert data.train.inputs[3, 0] == pytest.approx(np.median(hours), rel=1e-6)


def test_a_word_among_times_of_day_is_named(load_table):
    """What is no time is an error with its row, unless the column is said to hold categories."""
    rows = [f"{'noon' if i == 3 else clock(i % 5)},{i},{'pn'[i % 2]}" for i in range(60)]
    content = "\n".join(["t,x,y", *rows]) + "\n"
    with pytest.raises(DataError, match="row 4: found 'noon', expected a time of day like 14:30"):
        load_table(content)
    assert column(load_table(content, kinds={"t": "category"}), "t")["kind"] == "category"


def test_rows_are_split_by_the_time_of_day(load_table):
    """Times of day have an order."""
    rows = [f"{9 + i // 60}:{i % 60:02},{i},{'pn'[i % 2]}" for i in range(100)]
    data = load_table(
        "\n".join(["t,x,y", *rows]) + "\n", time_column="t", scaling="none", kinds={"x": "number"}
    )
    assert data.train.inputs[:, 0].max() < data.validation.inputs[:, 0].min()
    assert data.validation.inputs[:, 0].max() < data.test.inputs[:, 0].min()


def test_times_of_day_as_targets(load_table):
    """Many are numbers of hours, a few are labels that come back as they were written."""
    rows = [f"{i},{clock(i)}" for i in range(60)]
    data = load_table("\n".join(["x,y", *rows]) + "\n", target_scaling="none", **WHOLE)
    assert data.target.task == "regression"
    assert data.train.targets[1, 0] == pytest.approx(7 + 11 / 60 + 15 / 3600)
    rows = [f"{i},{('09:00', '14:00', '18:30')[i % 3]}" for i in range(60)]
    assert load_table("\n".join(["x,y", *rows]) + "\n").target.classes == ("09:00", "14:00", "18:30")


def test_a_target_in_percent_is_a_number(load_table):
    """8.90% is 8.9, not one class of 60."""
    rows = [f"{i % 7},{8 + i / 10:.2f}%" for i in range(60)]
    data = load_table("\n".join(["x,y", *rows]) + "\n", target_scaling="none", **WHOLE)
    assert data.target.task == "regression"
    np.testing.assert_allclose(data.train.targets[:, 0], [8 + i / 10 for i in range(60)], rtol=1e-6)
    assert "signs of numbers are ignored: y (%)" in data.warnings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["$5", "€6"], "'$5' (row 1) and '€6' (row 2) have different units"),
        (["5%", "0.5"], "'5%' (row 1) and '0.5' (row 2) have different units"),
        (["13/08/2019", "08/13/2019"], "'13/08/2019' (row 1) and '08/13/2019' (row 2) have different orders"),
    ],
)
def test_a_column_of_two_spellings_is_refused(load_table, values, words):
    """Two units, or two orders of day and month, are named with their rows."""
    rows = [f"{values[i % 2]},{i % 2}" for i in range(40)]
    with pytest.raises(DataError) as caught:
        load_table("\n".join(["a,y", *rows]) + "\n")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        (["10/03/2020", "13/08/2019"], "dates are read with the day first: a ('13/08/2019' is 2019-08-13)"),
        (["03/10/2020", "08/13/2019"], "dates are read with the month first: a ('08/13/2019' is 2019-08-13)"),
        (
            ["10.03.2020", "03.08.2019"],
            "but all are ambiguous; otherwise set data.day_first=false: a ('10.03.2020' is 2020-03-10)",
        ),
        (
            ["01/01/2021", "03/10/2020"],
            "but all are ambiguous; otherwise set data.day_first=true: a ('03/10/2020' is 2020-03-10)",
        ),
        (["20200310", "20190813"], "dates without separators are read as numbers; write 2026-01-31: a"),
        (["Mar 10, 2020", "Aug 13, 2019"], None),
        (["2020-03", "2019-08"], None),
    ],
)
def test_the_order_of_dates_is_told_by_the_column_and_said(load_table, dates, said):
    """Dates that are not ISO are dates; how they are read stands in one warning."""
    rows = [f'"{dates[i % 2]}",{i % 5},{i % 3 % 2}' for i in range(40)]
    data = load_table("\n".join(["a,x,y", *rows]) + "\n")
    assert column(data, "a")["kind"] == ("number" if "without separators" in str(said) else "date")
    assert [said in warning for warning in data.warnings] == ([True] if said else [])


@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.parquet"])
@pytest.mark.parametrize("first", [True, False])
def test_the_order_of_dates_can_be_set_on_every_path(load_table, tmp_path, file, first):
    """data.day_first reads dates that tell nothing, in every kind of file and in what is predicted later, and
    there is nothing left to warn of."""
    frame = pl.DataFrame(
        {"a": [f"{1 + i % 3:02d}/{4 + i % 7:02d}/2020" for i in range(42)], "y": ["p", "n"] * 21}
    )
    frame.write_parquet(tmp_path / "source")
    content = (tmp_path / "source").read_bytes()
    if not file.endswith("parquet"):
        content = frame.write_csv(separator="\t" if "tsv" in file else ",")
    data = load_table(content, file=file, day_first=first, **WHOLE)
    days = [(1 + i % 3, 4 + i % 7)[:: 1 if first else -1] for i in range(42)]
    start = np.datetime64("1970-01-01")
    right = [float((np.datetime64(f"2020-{m:02d}-{d:02d}") - start).astype(int)) for d, m in days]
    assert column(data, "a")["offset"] == pytest.approx(np.mean(right))
    assert not [warning for warning in data.warnings if "dates" in warning]
    kept = from_json(json.loads(json.dumps(data.preprocessing)))
    np.testing.assert_allclose(kept.transform(frame)[0], data.train.inputs, rtol=1e-6)


def test_the_order_of_a_time_column_and_of_steps_can_be_set(load_table, tmp_path, load):
    """Rows are cut at the time, and steps are in the order, that data.day_first reads."""
    dates = ["01/02/2020", "02/01/2020", "03/01/2021", "04/01/2021"]
    rows = [f"{dates[i % 4]},{i},{'pn'[i % 3 % 2]}" for i in range(80)]
    early = [
        load_table(
            "\n".join(["t,a,y", *rows]) + "\n", time_column="t", day_first=first, validation=0, test=0.75
        )
        for first in (True, False)
    ]
    assert [column(data, "a")["offset"] for data in early] == [39, 38]  # 2/1 is first, or 1/2
    (tmp_path / "s.csv").write_text(
        "s,t,a,y\n" + "".join(f"{i},01/02/2020,1,{i % 2}\n{i},02/01/2020,2,{i % 2}\n" for i in range(40))
    )
    settings = {"path": str(tmp_path / "s.csv"), "id": "s", "time": "t", "target": "y", "scaling": "none"}
    for first, order in ((True, [2, 1]), (False, [1, 2])):
        data = load("sequences", **settings, day_first=first)
        assert data.train.inputs[0, :, 0].tolist() == order
        kept = from_json(json.loads(json.dumps(data.preprocessing)))
        later = {"s": [7, 7], "t": ["01/02/2020", "02/01/2020"], "a": [1, 2]}
        assert kept.transform(later)[0][0, :, 0].tolist() == order


def test_dates_that_are_not_as_the_setting_says_are_refused(load_table, tmp_path):
    """With the row and what to type; in a file for the test part too, which alone tells the order."""
    rows = [f"0{1 + i % 9}/0{1 + i % 7}/2020,{'pn'[i % 2]}" for i in range(40)]
    table = "\n".join(["a,y", *rows]) + "\n"
    with pytest.raises(
        DataError, match=r"row 41: '13/08/2019' begins with the day, but data\.day_first=false"
    ):
        load_table(table + "13/08/2019,p\n", day_first=False)
    with pytest.raises(
        DataError, match=r"row 41: '08/13/2019' begins with the month, but data\.day_first=true"
    ):
        load_table(table + "08/13/2019,p\n", day_first=True)
    other = tmp_path / "other.csv"
    other.write_text(table + "13/08/2019,p\n")
    with pytest.raises(DataError, match=r"other\.csv.*row 41.*\(the day first\? set data\.day_first=true\)"):
        load_table(table, test_path=str(other))
    assert len(load_table(table, test_path=str(other), day_first=True).test) == 41


def test_seasons_are_no_months(load_table):
    """2009-10 beside 2008-09 and 2012-13 is a season."""
    rows = [f"{2003 + i % 10}-{(4 + i % 10):02d},{i % 2}" for i in range(60)]
    assert column(load_table("\n".join(["a,y", *rows]) + "\n"), "a")["kind"] == "category"


def test_plain_columns_keep_no_format(load_table):
    """What old runs have kept of plain columns is what is kept today."""
    rows = [f"{i * 0.5},2020-01-{1 + i % 28:02d},{i % 2}" for i in range(40)]
    data = load_table("\n".join(["a,d,y", *rows]) + "\n")
    assert not [found for found in data.preprocessing["columns"] if "format" in found]
    assert data.warnings == ()
