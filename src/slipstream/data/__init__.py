"""Data: sources, splits, and preprocessing fitted on the training split."""

from slipstream.data import sources as sources
from slipstream.data.dataset import Data as Data
from slipstream.data.dataset import Split as Split
from slipstream.data.kinds import from_json as from_json
from slipstream.data.loading import load as load
from slipstream.data.loading import problems as problems
from slipstream.data.preprocessing import Preprocessing as Preprocessing
