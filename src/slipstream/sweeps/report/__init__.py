"""The end of a sweep: outcomes read from its folders, leaderboard.csv, report.json, and their display."""

from slipstream.sweeps.report.making import LEADERBOARD as LEADERBOARD
from slipstream.sweeps.report.making import REPORT as REPORT
from slipstream.sweeps.report.making import Report as Report
from slipstream.sweeps.report.making import make as make
from slipstream.sweeps.report.making import write as write
from slipstream.sweeps.report.reading import outcomes as outcomes
from slipstream.sweeps.report.showing import overrides as overrides
from slipstream.sweeps.report.showing import show as show
