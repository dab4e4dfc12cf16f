"""Update rules. Importing the package registers them all."""

from slipstream.optimizers import adaptive as adaptive
from slipstream.optimizers import averaging as averaging
from slipstream.optimizers import basic as basic
from slipstream.optimizers import layerwise as layerwise
from slipstream.optimizers.base import State as State
from slipstream.optimizers.base import Update as Update
from slipstream.optimizers.base import evaluated as evaluated
from slipstream.optimizers.base import initial_state as initial_state
from slipstream.optimizers.base import weights_only as weights_only
