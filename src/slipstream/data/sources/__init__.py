"""Data sources. Importing the package registers all of them."""

from slipstream.data.sources import adding_problem as adding_problem
from slipstream.data.sources import arrays as arrays
from slipstream.data.sources import bundled as bundled
from slipstream.data.sources import cifar as cifar
from slipstream.data.sources import given_rows as given_rows
from slipstream.data.sources import hub as hub
from slipstream.data.sources import idx as idx
from slipstream.data.sources import images as images
from slipstream.data.sources import sequences as sequences
from slipstream.data.sources import shapes as shapes
from slipstream.data.sources import synthetic as synthetic
from slipstream.data.sources import table as table
from slipstream.data.sources import texts as texts
