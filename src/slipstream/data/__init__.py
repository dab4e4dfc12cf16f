"""Data: sources, splits and the preprocessing that is fitted on train. `load(settings)` is the entrance."""

from slipstream.data import adding as adding
from slipstream.data import arrays as arrays
from slipstream.data import bundled as bundled
from slipstream.data import cifar as cifar
from slipstream.data import hub as hub
from slipstream.data import idx as idx
from slipstream.data import images as images
from slipstream.data import sequences as sequences
from slipstream.data import shapes as shapes
from slipstream.data import synthetic as synthetic
from slipstream.data import table as table
from slipstream.data import text as text
from slipstream.data.base import Data, Split
from slipstream.data.loading import load, problems
from slipstream.data.preprocessing import Preprocessing

__all__ = ["Data", "Preprocessing", "Split", "load", "problems"]
