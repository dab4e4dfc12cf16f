"""Random changes of training batches: different for every example, and reproducible.

Kinds, in the order in which they act; inside a kind the order is that of registration:
  geometry  f(u, size) -> matrix [N, 3, 3]: maps output pixels to sampling positions; matrices are multiplied.
  warp      f(x, y, u, key, size) -> x, y: bent coordinates. One resampling follows matrices and warps.
  values    f(x, u, key, form) -> x: pixels, features or steps.
  mix       f(x, y, u) -> x, y: examples and targets [N, classes] or [N, D], mixed with others.

u [draws, N]: uniform numbers on [0, 1), one row per draw (trait `draws`); all rows of a batch are drawn in
one call. key [4]: for augmentations that need a whole field of numbers. size: (H, W).
"""

from slipstream.augmentations import features as features
from slipstream.augmentations import geometry as geometry
from slipstream.augmentations import mixing as mixing
from slipstream.augmentations import pixels as pixels
from slipstream.augmentations import policies as policies
from slipstream.augmentations.pipeline import augment as augment
