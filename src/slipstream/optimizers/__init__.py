"""Update rules. Importing the package registers them all."""

from slipstream.optimizers import adaptive, averaging, basic, layerwise
from slipstream.optimizers.base import State, Update, evaluated, initial_state, weights_only

__all__ = [
    "State",
    "Update",
    "adaptive",
    "averaging",
    "basic",
    "evaluated",
    "initial_state",
    "layerwise",
    "weights_only",
]
