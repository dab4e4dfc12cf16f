"""Normalization of hidden layers (`norm`), with a learned scale and shift per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slipstream.core.errors import UserError
from slipstream.core.registry import register
from slipstream.core.types import Count, Fraction, Positive
from slipstream.core.wording import counted

if TYPE_CHECKING:
    from torch import Tensor


def _position(*, position: Literal["before", "after"]) -> None:
    """Declare the setting that places a normalization before or after the layer's activation."""


def per_channel(vector: Tensor, like: Tensor) -> Tensor:
    """Reshape a vector [C] to broadcast against `like` [N, C, ...]."""
    return vector.reshape(-1, *(1,) * (like.dim() - 2))


def _batch_norm_alone(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    *,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply `batch_norm` with torch's kernel, which takes a fifth of the time and works in place."""
    from torch.nn.functional import batch_norm as kernel

    kind, x = x.dtype, x.to(running_mean.dtype)
    if training:
        _require_examples(x)
        running_mean, running_var = running_mean.clone(), running_var.clone()
    y = kernel(x, running_mean, running_var, scale, shift, training, momentum, eps)
    return y.to(kind), running_mean, running_var


def _require_examples(x: Tensor) -> int:
    """Return the number of values per channel in a batch. Raises UserError if it is one."""
    count = x.numel() // x.shape[1]
    if count == 1:
        raise UserError(
            "regularizer=batch_norm: a training batch has only one example, which has no variance. "
            "Choose data.batch_size so that at least 2 examples remain for the last batch."
        )
    return count


@register(
    "regularizer",
    place="norm",
    buffers=("running_mean", "running_var"),
    options=_position,
    kernel=_batch_norm_alone,
)
def batch_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    *,
    momentum: Fraction,
    eps: Positive,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalization, before or after a layer's activation.

    y = scale (x - mean) / sqrt(var + eps) + shift, per channel, over batch, height and width;
    running <- (1 - momentum) running + momentum batch, used instead of the batch in evaluation

    momentum: fraction by which the running values move. eps: added to the variance. position: before the
    activation, as in the paper, or after it.
    x [N, C, ...]; scale, shift and running values [C]. Returns y and the new running mean and variance.
    The batch is normalized with the biased variance; the running one is unbiased.
    Edge: a batch with one value per channel has no variance and raises UserError in training.
    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015; conventions of torch.nn.BatchNorm.
    """
    kind, x = x.dtype, x.to(running_mean.dtype)  # half precision is too coarse for statistics
    if training:
        axes, count = [axis for axis in range(x.dim()) if axis != 1], _require_examples(x)
        # Not F.batch_norm: under vmap it folds the members' channels into one axis, so a member's
        # bytes would depend on its position in the pack.
        mean = x.mean(axes)
        centred = x - per_channel(mean, x)
        var = (centred * centred).mean(axes)
        running_mean = running_mean.lerp(mean.detach(), momentum)
        running_var = running_var.lerp(var.detach() * (count / (count - 1)), momentum)
    else:
        centred, var = x - per_channel(running_mean, x), running_var
    y = centred * per_channel(scale * (var + eps).rsqrt(), x) + per_channel(shift, x)
    return y.to(kind), running_mean, running_var


@register("regularizer", place="norm", buffers=(), options=_position)
def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, *, eps: Positive) -> Tensor:
    """Layer normalization: normalizes each example by its mean and variance over all features.

    y = scale (x - mean) / sqrt(var + eps) + shift

    eps: added to the variance. position: before or after the activation. x [N, C, ...], with mean and
    variance over all but N; scale and shift [C]. The same in training and evaluation, and for a batch of one.
    Source: Ba, Kiros and Hinton, "Layer normalization", 2016; for images it is a GroupNorm of one group.
    """
    kind, x = x.dtype, x.to(scale.dtype)  # half precision is too coarse for statistics
    axes = list(range(1, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    var = (centred * centred).mean(axes, keepdim=True)
    y = centred * (var + eps).rsqrt() * per_channel(scale, x) + per_channel(shift, x)
    return y.to(kind)


def _divides(features: int, *, groups: int, **_: object) -> None:
    """Raise UserError if the features cannot be divided into the groups."""
    if features % groups:
        fitting = [n for n in range(1, features + 1) if features % n == 0]
        raise UserError(
            f"regularizer.group_norm.groups: {groups} groups of equal size do not divide a layer's "
            f"{counted(features, 'channel')}; one of: {', '.join(map(str, fitting))}"
        )


@register("regularizer", place="norm", buffers=(), options=_position, check=_divides)
def group_norm(x: Tensor, scale: Tensor, shift: Tensor, *, groups: Count, eps: Positive) -> Tensor:
    """Group normalization: normalizes each example by mean and variance of groups of channels.

    y = scale (x - mean) / sqrt(var + eps) + shift, over the C / groups channels of a group and all positions

    groups: of equal size; 1 is `layer_norm`. eps: added to the variance. position: before or after the
    activation. x [N, C, ...]; scale and shift [C]. The same in training and evaluation.
    Raises UserError if groups does not divide a layer's channels. Edge: in a dense layer with as many
    groups as units every group is a single value, so the output is the shift.
    Source: Wu and He, "Group normalization", ECCV 2018.
    """
    kind, shape = x.dtype, x.shape
    x = x.to(scale.dtype).reshape(len(x), groups, -1)  # half precision is too coarse for statistics
    centred = x - x.mean(-1, keepdim=True)
    var = (centred * centred).mean(-1, keepdim=True)
    y = (centred * (var + eps).rsqrt()).reshape(shape)
    return (y * per_channel(scale, y) + per_channel(shift, y)).to(kind)
