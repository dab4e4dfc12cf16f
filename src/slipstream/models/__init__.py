"""Networks. A model is a function that assembles layers, which it gets from a `LayerFactory`.

The functions do not import torch, because the command line reads their signatures. `layers.py` has the
layers, `initialize.py` sets the initial weights.
"""

from slipstream.models import convnet as convnet
from slipstream.models import mlp as mlp
from slipstream.models import realmlp as realmlp
from slipstream.models import rnn as rnn
from slipstream.models import tabm as tabm
