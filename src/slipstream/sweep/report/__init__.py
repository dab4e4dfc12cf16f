"""The end of a sweep: what its folders hold, leaderboard.csv, report.json, and what is shown of them."""

from slipstream.sweep.report.making import LEADERBOARD as LEADERBOARD
from slipstream.sweep.report.making import REPORT as REPORT
from slipstream.sweep.report.making import Report as Report
from slipstream.sweep.report.making import make as make
from slipstream.sweep.report.making import write as write
from slipstream.sweep.report.reading import outcomes as outcomes
from slipstream.sweep.report.showing import overrides as overrides
from slipstream.sweep.report.showing import show as show
