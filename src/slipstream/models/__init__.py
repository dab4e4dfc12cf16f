"""Networks. A model is a function that puts layers together; `Parts` hands it the layers.

The functions import no torch: their signatures are read by the command line. Layers are in
`layers.py`, weights get their first values in `initialize.py`.
"""

from slipstream.models import convnet as convnet
from slipstream.models import mlp as mlp
from slipstream.models import realmlp as realmlp
from slipstream.models import rnn as rnn
from slipstream.models import tabm as tabm
