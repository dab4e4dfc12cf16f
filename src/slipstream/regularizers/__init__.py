"""Regularizers: functions that the engine calls at the place (hook) that each one declares.

place        called with                            returns
penalty      weights [P]                            a number added to the loss
proximal     parameters [P], mask [P], lr           parameters [P], after the update; a penalty's option
activity     x [N, ...] of each hidden layer        a number added to the loss
noise        x [N, ...], key [4]                    x, changed; in training only
norm         x [N, C, ...], scale, shift ...        x, normalized; see each function
weight       weight [out, in, ...], u [out], bool   weight and u, in the forward pass of a hidden layer
targets      targets, number of classes             targets as distributions [N, classes]
gradient     gradient [P], keyed: key [4], t        gradient [P]
decay        weights [P], lr                        the change of the parameters [P]
constraint   parameters [P], layout                 parameters [P]; after the update
follow       parameters [P], kept [P], t            parameters [P], kept [P] to evaluate with
average      average [P], parameters [P], t         the new average [P], to evaluate with
epoch        kept [E P], parameters [P], epoch ...  kept, to evaluate with: one network or E of them
mask         mask [P], parameters [P], epoch ...    the mask [P] of the next epoch's updates

In `weights` [P] biases and the scales and shifts of normalization are zeros: penalties and decay skip
them. For `average` and `epoch` the network's running statistics follow the parameters and are averaged in
the same way. Regularizers at one place act in the order of their registration here.
"""

from slipstream.regularizers import gradients as gradients
from slipstream.regularizers import label_smoothing as label_smoothing
from slipstream.regularizers import noise as noise
from slipstream.regularizers import norms as norms
from slipstream.regularizers import penalties as penalties
from slipstream.regularizers import phases as phases
from slipstream.regularizers import weight_averaging as weight_averaging
from slipstream.regularizers import weights as weights
