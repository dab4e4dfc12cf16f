"""Days that are said of a column of dates: of the example, of the median, of the partial dependence."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from slipstream.data.scaling import Statistics
from slipstream.data.tabular.encoding import Column
from slipstream.data.tabular.spelling import day_told, days_of
from slipstream.inference.dependence import levels_of
from slipstream.inference.serving.fields import typical


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
