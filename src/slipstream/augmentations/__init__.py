"""Random changes of training batches: different for every example, and the same whenever repeated.

Kinds, in the order in which they act; inside a kind the order is that of registration:
  geometry  f(u, size) -> matrix [N, 3, 3]: where an output pixel is sampled. All matrices are multiplied.
  warp      f(x, y, u, key, size) -> x, y: bent coordinates. Matrices and warps end in one resampling.
  values    f(x, u, key, form) -> x: pixels, features or steps.
  mix       f(x, y, u) -> x, y: examples and their targets [N, classes] or [N, D] with those of others.

u [draws, N]: uniform numbers on [0, 1), as many rows as the trait `draws` says; all rows of a batch are
drawn in one call. key [4]: for those that need a whole field of numbers. size: (H, W).

Traits
  takes     the kinds of forms that it can take.
  draws     rows of u.
  flip      this axis is turned around with probability u < probability; exact where it is alone.
  warped    the matrix is no affine one: its coordinates are divided.
  values    of a geometry, what it does to the pixels besides: f(x, u, key, form), with the same u.
"""

from slipstream.augmentations import features as features
from slipstream.augmentations import geometry as geometry
from slipstream.augmentations import mixing as mixing
from slipstream.augmentations import pixels as pixels
from slipstream.augmentations import policies as policies
from slipstream.augmentations.pipeline import augment as augment
