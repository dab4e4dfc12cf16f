"""Days that are said of a column of dates: of the example, of the median, of the partial dependence."""

from datetime import datetime, timedelta

import numpy as np
import pandas
import pytest

from slipstream.data.scaling import Statistics
from slipstream.data.tabular.encoding import Column
from slipstream.data.tabular.spelling import CLOCK, day_told, days_of
from slipstream.data.tabular.table_preprocessing import fit_number
from slipstream.inference.dependence import levels_of
from slipstream.inference.serving.fields import _example, typical


@pytest.mark.parametrize("hour", [0, 9, 14, 23])
def test_a_date_with_a_time_is_said_as_in_the_file(hour):
    """Scaled to float32 and back: no day is rounded up to the next one."""
    moments = [datetime(2020, 1, 1, hour) + timedelta(days=91 * i) for i in range(12)]
    texts = [str(moment)[: 10 if hour == 0 else 16] for moment in moments]
    days = np.array([days_of(text, "") for text in texts], float)
    column = Column.scaled("when", "date", "standard", Statistics.of(days))
    column = Column(**{**vars(column), "cycles": ("year", "week", "day")})
    encoded = np.empty((len(column.outputs()), len(days)), np.float32)
    column.encode(days, encoded, [])
    assert [told for _, told in levels_of(column, encoded.T)] == texts


@pytest.mark.slow
def test_the_minute_of_a_date_is_told_over_a_century():
    """A float32 of 90 years is minutes off; the time of day is read from its own cycle."""
    moments = pandas.date_range("1930-01-01 00:01", "2025-12-31 23:59", periods=2000).floor("min")
    column = fit_number("when", "date", days_of_all(moments), np.arange(2000), "standard", "median")
    encoded = np.empty((len(column.outputs()), 2000), np.float32)
    column.encode(days_of_all(moments), encoded, [])
    for row, moment in enumerate(moments):
        assert levels_of(column, encoded.T[row : row + 1])[0][1] == str(moment)[:16].removesuffix(" 00:00")


def days_of_all(moments):
    """Days since 1970, as they are read from a file."""
    return np.array([days_of(text, "") for text in moments.strftime("%Y-%m-%d %H:%M")], float)


def test_an_example_of_a_time_of_day_is_to_the_minute():
    """14:06 is 14.1 hours, of which a little less than 6 minutes are left."""
    column = Column("at", "number", format=CLOCK, cycles=("24 hours",))
    assert _example(column, "number", 14.1) == "14:06"
    assert _example(column, "number", 23.999) == "00:00"


def test_the_median_of_two_days_is_said_with_its_hour():
    """Between an even number of days lies noon, whose cycles are not those of the day before."""
    days = np.array([days_of("2022-03-09", ""), days_of("2022-03-10", "")], float)
    column = Column.scaled("when", "date", "standard", Statistics.of(days))
    column = Column(**{**vars(column), "fill": float(np.median(days)), "cycles": ("year", "week")})
    values, told = typical(column, "standard", "median", arrays=False)
    assert told == "the median, 2022-03-09 12:00"
    again = np.empty_like(values)
    column.encode(np.array([days_of("2022-03-09 12:00", "")], float), again, [])
    assert np.array_equal(values, again)
    assert day_told(days[0]) == "2022-03-09"
