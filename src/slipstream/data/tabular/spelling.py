"""The spelling of numbers and dates in a text column: separators, signs, the order of day and month.

One grammar parses all words. The whole column decides what a single word leaves open (the decimal mark, the
order of day and month, the sign of all values). The result is the column's format: the decimal mark and the
sign for numbers (`,€`), `:` for times of day, which become hours, and `d` or `m` for dates that begin with
the day or the month. It is "" for normal spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.wording import counted, typed
from slipstream.data.messages import brief, phrase
from slipstream.data.tabular.values import Text

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
Note = tuple[str, str]  # a remark about a column, and the column
CLOCK = ":"  # the format of times of day
DayFirst = bool | Literal["auto"]  # True if dates such as 03/10/2020 begin with the day
ORDERS = {"d": "day", "m": "month"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?")

_CODES = (
    "US$|R$|A$|C$|S$|HK$|NZ$|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|"
    "KRW|RUB|TRY|SGD|HKD|ILS|THB|IDR|Fr.|kr.|kr|Rs.|Rs|zł|Kč|Ft"
)
_SIGN = "|".join([*map(re.escape, _CODES.split("|")), "[$¢£¤¥฿₠-₿﹩＄￠￡￥]"])
_SPACES = " \u00a0\u2009\u202f'’"  # more thousands separators, for either decimal mark


def _numbers_with(decimal: str, mark: str) -> re.Pattern[str]:
    """Match numbers with signs and one kind of thousands separator, in groups of three (two in India)."""
    marked = rf"[1-9]\d{{0,2}}(?P<mark>[{mark}{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}})*"
    indian = rf"[1-9]\d?(?:{re.escape(mark)}\d\d)+{re.escape(mark)}\d{{3}}"
    return re.compile(
        rf"(?P<open>\()?\s*(?P<minus>[+-])?\s*(?P<before>{_SIGN})?\s*(?P<inner>[+-])?"
        rf"(?:(?P<grouped>{marked}|{indian})|(?P<plain>\d+)|(?=\{decimal}\d))(?:\{decimal}(?P<part>\d*))?"
        rf"(?P<power>[eE][+-]?\d+)?\s*(?P<after>%|{_SIGN})?\s*(?P<trailing>-)?(?P<close>\))?"
    )


_GRAMMAR = {".": _numbers_with(".", ","), ",": _numbers_with(",", ".")}


def number_of(word: str, decimal: str = ".") -> tuple[float, str] | None:
    """Parse a word as a number with a sign (% or a currency, "" for none). Return None for other words.

    Parentheses or a trailing minus make the number negative, as in accounting.

    >>> number_of("$1,100.50"), number_of("(8,9 %)", ","), number_of("0,5")
    ((1100.5, '$'), (-8.9, '%'), None)
    """
    if decimal == "." and NUMBER.fullmatch(word):
        return float(word), ""
    found = _GRAMMAR[decimal].fullmatch(word.replace("\u2212", "-"))
    if found is None:
        return (float(word), "") if word.lower().lstrip("+-") in ("inf", "infinity") else None
    minus = [found[name] for name in ("open", "minus", "inner", "trailing") if found[name]]
    if len(minus) > 1 or (found["open"] is None) != (found["close"] is None):
        return None
    if found["before"] and found["after"]:
        return None
    if found["trailing"] and not (found["grouped"] or found["part"]):  # 2- is probably a school grade
        return None
    whole = re.sub(r"\D", "", found["grouped"] or found["plain"] or "0")
    value = float(f"{whole}.{found['part'] or 0}{found['power'] or ''}")
    return (-value if minus and minus != ["+"] else value), found["before"] or found["after"] or ""


def number_format(name: str, text: Text, decimal: str) -> tuple[str, list[Note]]:
    """Return the format of a column of numbers or times of day, and notes about it.

    Raises DataError with rows for two signs, or for thousands separators equal to data.decimal.
    """
    if clock := _mostly_times(text):
        said = f"{name} ({brief(clock)} is {hours_of(clock):.4g})"
        return CLOCK, [("times of day are read as hours", said)]
    signs: dict[str, int] = {}
    grouped = ""
    for i in _present(text):
        word = text.values[i]
        found = number_of(word, decimal)
        if found is not None:
            grouped = grouped or (word if _has_groups(word, decimal) else "")
            if found[1] or found[0]:  # 0 is 0 in any unit
                signs.setdefault(found[1], int(i))
    named = [sign for sign in signs if sign]
    mixed = ["%", ""] if named == ["%"] and "" in signs else named
    if len(mixed) > 1:
        one, other = (f"{brief(text.values[signs[s]])} (row {_row(text, signs[s])})" for s in mixed[:2])
        raise DataError(f"column {name!r}: {one} and {other} have different units; convert all to one unit")
    notes = [("signs of numbers are ignored", f"{name} ({named[0]})")] if named else []
    if grouped:
        read = number_of(grouped, decimal)
        assert read is not None
        notes.append(
            ("thousands separators are removed", f"{name} ({brief(grouped)} is {_plain(read[0])})"),
        )
    doubtful = thousands_under(text, decimal)
    if doubtful:
        count, word, sure = doubtful
        if decimal == "," and sure:
            raise DataError(
                f"column {name!r}: in {counted(count, 'value')} such as {brief(word)}, every ',' is "
                "before three digits, and the others are whole numbers below 1000. These are thousands "
                f"separators, which {typed('data.decimal', ',')} would read as decimal marks; "
                f"remove data.decimal"
            )
        if decimal == "," or sure:
            how = "remove data.decimal" if decimal == "," else f"set {typed('data.decimal', ',')}"
            notes.append(
                (
                    f"every '{decimal}' is before three digits and is read as the decimal mark; if it "
                    f"separates thousands, {how} or write the numbers without it",
                    f"{name} ({brief(word)})",
                )
            )
    return "" if decimal == "." and not named else decimal + "".join(named), notes


def _mostly_times(text: Text) -> str:
    """Return an example from a column that is mostly times of day, or ""."""
    counts = text.counts()
    found = [i for i in _present(text) if hours_of(text.values[i]) is not None]
    return text.values[found[0]] if counts[found].sum() > counts.sum() / 2 else ""


def _has_groups(word: str, decimal: str) -> bool:
    found = _GRAMMAR[decimal].fullmatch(word.replace("\u2212", "-"))
    return found is not None and found["grouped"] is not None


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def thousands_under(text: Text, mark: str) -> tuple[int, str, bool] | None:
    """Detect decimal marks in the position of thousands separators (2,101 and 503, never 2,1).

    Return how many values have one, an example, and True if other values are whole numbers.
    """
    counts, marked, others = text.counts(), [], 0
    for i in _present(text):
        word = text.values[i]
        if mark in word:
            if not re.fullmatch(rf"\D*[1-9]\d{{0,2}}\{mark}\d{{3}}\D*", word):
                return None
            marked.append(i)
        elif not re.fullmatch(r"\D*\d{1,3}\D*", word):
            return None
        else:
            others += 1
    return (int(counts[marked].sum()), text.values[marked[0]], others > 0) if marked else None


def number_reader(format: str) -> Callable[[str], float | None]:
    """Return a function that parses numbers in this format and returns None for other words."""
    if format == CLOCK:
        return hours_of
    decimal, sign = format[:1] or ".", format[1:]

    def read(word: str) -> float | None:
        found = number_of(word, decimal)
        if found is None or found[1] not in ("", sign):
            return None
        return None if sign == "%" and not found[1] and found[0] else found[0]

    return read


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?(?:\s*(?P<half>[ap])\.?m\.?)?"
_TIME_OF_DAY = re.compile(_TIME, re.IGNORECASE)
_CLOCK = rf"(?:(?:T|,?\s+){_TIME})?"
_FIGURES = re.compile(rf"(\d{{1,4}})([-/.])(\d{{1,2}})(?:\2(\d{{1,4}}))?{_CLOCK}", re.IGNORECASE)
_MONTH_YEAR = re.compile(r"(\d{1,2})[-/](\d{4})")
_NAMED = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
    rf"(?:(?P<m1>{_MONTH})[\s-]+(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?,?[\s-]+(?P<y1>\d{{4}})|"
    rf"(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\.?[\s/-]*(?P<m2>{_MONTH}),?[\s/-]*(?P<y2>\d{{4}}|\d\d)|"
    rf"(?P<m3>{_MONTH}),?[\s/-]+(?P<y3>\d{{4}})){_CLOCK}",
    re.IGNORECASE,
)


def days_of(word: str, first: str = "") -> float | None:
    """Parse a date, with or without a time, as days since 1970, or None. Without a time zone it is UTC.

    first: `d` or `m` if a date such as 10/03/2020 begins with the day or the month; with "" it is not a date.

    >>> [days_of(word, "d") for word in ("1970-02-01", "1/2/1970", "Feb 1, 1970 12:00", "1970-02")]
    [31.0, 31.0, 31.5, 31.0]
    """
    try:
        if ISO.fullmatch(word):
            moment = datetime.fromisoformat(word)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - EPOCH).total_seconds() / 86400
        parts = _parts(word, first)
        if parts is None:
            return None
        (year, month, day), clock = parts
        return (datetime(year, month, day, tzinfo=UTC) + clock - EPOCH).total_seconds() / 86400
    except (ValueError, OverflowError):
        return None


def _parts(word: str, first: str) -> tuple[tuple[int, int, int], timedelta] | None:
    """Return (year, month, day) and the time of day."""
    if found := _MONTH_YEAR.fullmatch(word):
        return (int(found[2]), int(found[1]), 1), timedelta()
    if found := _FIGURES.fullmatch(word):
        a, b, c = found[1], found[3], found[4]
        if len(a) == 4:
            return (int(a), int(b), int(c or 1)), _clock(found)
        if not first or c is None or len(a) > 2 or len(c) not in (2, 4):
            return None
        day, month = (a, b) if first == "d" else (b, a)
        return (_year(c), int(month), int(day)), _clock(found)
    if found := _NAMED.fullmatch(word):
        year, month, day = (
            next((found[f"{key}{i}"] for i in (1, 2, 3) if found.groupdict().get(f"{key}{i}")), "1")
            for key in ("y", "m", "d")
        )
        return (_year(year), _MONTHS.index(month[:3].lower()) + 1, int(day)), _clock(found)
    return None


def _year(digits: str) -> int:
    """Expand a two-digit year as POSIX does: 69 to 99 are in the 20th century."""
    year = int(digits)
    return year if len(digits) == 4 else year + (1900 if year > 68 else 2000)


def _clock(found: re.Match[str]) -> timedelta:
    if found["hour"] is None:
        return timedelta()
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("no hour of twelve")
        hour = hour % 12 + (12 if found["half"].lower() == "p" else 0)
    minute, second = int(found["minute"]), float(found["second"] or 0)
    if hour > 24 or (hour == 24 and minute + second) or minute > 59 or second >= 60:
        raise ValueError("no time of day")
    return timedelta(hours=hour, minutes=minute, seconds=second)


def hours_of(word: str) -> float | None:
    """Parse a time of day as hours since midnight, or None.

    >>> [hours_of(word) for word in ("14:30", "2:30 pm", "00:00:36", "24:00", "24:01", "14.5")]
    [14.5, 14.5, 0.01, 24.0, None, None]
    """
    found = _TIME_OF_DAY.fullmatch(word)
    try:
        return None if found is None else _clock(found).total_seconds() / 3600
    except ValueError:
        return None


def is_date(word: str) -> bool:
    """Return True if a word is a date in some order of day and month."""
    return any(days_of(word, first) is not None for first in "dm")


def is_season(word: str) -> bool:
    """Return True if a word is more likely a season, such as 2009-10, than a month."""
    found = re.fullmatch(r"(\d{4})[-/](\d\d)", word)
    return found is not None and (int(found[1]) + 1) % 100 == int(found[2])


def date_format(name: str, text: Text, day_first: DayFirst = "auto") -> tuple[str, list[Note]]:
    """Return `d` or `m` if a column's dates begin with day or month, and notes about it.

    Raises DataError with rows if some dates begin with the day and others with the month, or if one
    contradicts day_first.
    """
    found = [(int(i), _FIGURES.fullmatch(text.values[i])) for i in _present(text)]
    dates = [(i, date) for i, date in found if date and date[4] is not None and len(date[1]) < 3]
    if not dates:
        return "", []
    order, notes = _order_of(name, text, dates, day_first)
    ways = {"" if len(date[1]) == 4 else date[2]: i for i, date in reversed(found) if date and date[4]}
    if len(ways) > 1:
        examples = phrase([brief(text.values[i]) for i in sorted(ways.values())])
        notes.append(("dates have several formats; write all as 2026-01-31", f"{name} ({examples})"))
    return order, notes


def _order_of(
    name: str, text: Text, dates: Sequence[tuple[int, re.Match[str]]], day_first: DayFirst
) -> tuple[str, list[Note]]:
    """Return the result of `date_format` for numeric dates with an ambiguous order."""
    beyond: dict[str, int] = {}  # the first date that must begin with a day, and with a month
    for i, date in dates:
        for key, part in (("d", date[1]), ("m", date[3])):
            if int(part) > 12:
                beyond.setdefault(key, i)
    if len(beyond) == 2:
        one, other = (f"{brief(text.values[i])} (row {_row(text, i)})" for i in beyond.values())
        raise DataError(
            f"column {name!r}: {one} and {other} have different orders of day and month; "
            "write all dates as 2026-01-31"
        )
    if day_first != "auto":
        asked, other = ("d", "m") if day_first else ("m", "d")
        if other in beyond:
            word, row = brief(text.values[beyond[other]]), _row(text, beyond[other])
            raise DataError(
                f"column {name!r}, row {row}: {word} begins with the {ORDERS[other]}, but "
                f"{order_setting(asked)}: remove this setting, or write the dates as 2026-01-31"
            )
        return asked, []
    # Ambiguous dates with slashes are read with the month first, the order of most software.
    first = next(iter(beyond), "m" if {date[2] for _, date in dates} == {"/"} else "d")
    telling = [i for i, date in dates if int(date[1]) != int(date[3])] or [dates[0][0]]
    example = text.values[beyond.get(first, telling[0])]
    days = days_of(example, first) or 0.0
    item = f"{name} ({brief(example)} is {(EPOCH + timedelta(days=days)).date()})"
    said = f"dates are read with the {ORDERS[first]} first"
    if beyond:
        return first, [(said, item)]
    other = "d" if first == "m" else "m"
    return first, [(f"{said}, but all are ambiguous; otherwise set {order_setting(other)}", item)]


def day_told(days: float) -> str:
    """Return days since 1970 as a date, with the time of day, to the minute, unless it is midnight.

    >>> day_told(19060.0), day_told(19060.5)
    ('2022-03-09', '2022-03-09 12:00')
    """
    moment = (EPOCH + timedelta(minutes=round(days * 1440))).replace(tzinfo=None)
    return moment.isoformat(" ", "minutes").removesuffix(" 00:00")


def order_setting(first: str) -> str:
    """Return the override that reads dates with the day (d) or the month (m) first."""
    return typed("data.day_first", first == "d")


def _present(text: Text) -> np.ndarray:
    """Return the codes of the values that occur, in order of their first rows."""
    codes, first = np.unique(text.codes, return_index=True)
    codes = codes[np.argsort(first)]
    return codes[codes >= 0]


def _row(text: Text, value: int) -> int:
    return int(np.argmax(text.codes == value)) + 1


def described(notes: Iterable[Note]) -> list[str]:
    """Return a sentence for each note, with all columns that share it."""
    items: dict[str, list[str]] = {}
    for head, item in notes:
        items.setdefault(head, []).append(item)
    return [f"{head}: {phrase(found)}" for head, found in items.items()]
