"""Loggers of a run's curves, in addition to metrics.jsonl, which every run has.

A logger is a function of the run and its settings. It returns log(values, epoch), a Tracker, or None if
there is nothing to log. Both run in a thread of their own: they may wait, and an exception causes a warning
but never ends the run. Only TensorBoard is written by the training thread, and no other package imports it.
"""

from slipstream.loggers import options as options
from slipstream.loggers.tracker import LoggedRun as LoggedRun
from slipstream.loggers.tracker import Point as Point
from slipstream.loggers.tracker import Tracker as Tracker
