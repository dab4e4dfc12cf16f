"""The writers of a run's curves, besides metrics.jsonl, which every run has.

A logger is a function of the run and its settings. It returns log(values, epoch), a Tracker, or None if
nothing is to be sent to it. It and what it returns are called in a thread of its own: it may wait, and what
it raises costs a warning and never the run. TensorBoard alone is written by the thread that trains, and no
other package imports it.
"""

from slipstream.loggers import options as options
from slipstream.loggers.tracker import LoggedRun as LoggedRun
from slipstream.loggers.tracker import Point as Point
from slipstream.loggers.tracker import Tracker as Tracker
