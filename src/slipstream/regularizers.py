"""Regularizers: small functions that the engine calls by name at the place each one declares.

place        called with                          returns
penalty      weights [P]                          a number added to the loss
noise        x [N, ...], key [4]                  x, changed; in training only
norm         x [N, C, ...], scale, shift ...      x, normalized; see each function
targets      targets, number of classes           targets as distributions [N, classes]
gradient     gradient [P]                         gradient [P]
decay        weights [P], lr                      what is added to the parameters [P]
constraint   parameters [P], layout               parameters [P]; after the update
average      average [P], parameters [P], t       the new average [P], to evaluate with

In `weights` [P] biases and the scales and shifts of normalizations are zeros: penalties and decay
leave them alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from slipstream.errors import UserError
from slipstream.lazy import torch
from slipstream.random import normal, uniform
from slipstream.registry import register
from slipstream.types import Fraction, Layout, NonNegative, Positive

if TYPE_CHECKING:
    from torch import Tensor

# SELU's value far below zero, -scale * alpha (Klambauer et al. 2017): where alpha dropout puts units.
SELU_FLOOR = -1.7580993408473766


@register("regularizer", place="penalty")
def l1(weights: Tensor, *, strength: NonNegative) -> Tensor:
    """L1 penalty: pulls every weight towards zero by the same force, and many arrive.

    loss + strength sum |w|

    strength: at least 0. Biases and norm scales are left alone. The subgradient at 0 is 0; weights
    oscillate around zero rather than being exactly zero.
    Source: Tibshirani, "Regression shrinkage and selection via the lasso", 1996.
    """
    return strength * weights.abs().sum()


@register("regularizer", place="penalty")
def l2(weights: Tensor, *, strength: NonNegative) -> Tensor:
    """L2 penalty: pulls every weight towards zero in proportion to itself.

    loss + strength sum w^2, so the gradient is 2 strength w; others write strength / 2 sum w^2

    strength: at least 0. Biases and norm scales are left alone. It passes through the optimizer:
    only for plain SGD is it the same as `weight_decay` (of twice the strength).
    Source: Hoerl and Kennard, "Ridge regression", 1970.
    """
    return strength * (weights * weights).sum()


@register("regularizer", place="penalty")
def elastic_net(weights: Tensor, *, strength: NonNegative, ratio: NonNegative) -> Tensor:
    """Elastic net: L2 and L1 penalty together.

    loss + strength sum (ratio w^2 + |w|)

    strength: at least 0. ratio: of the squared to the absolute term, at least 0; 0 is `l1`. Biases
    and norm scales are left alone.
    Source: Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.
    """
    return strength * (ratio * (weights * weights) + weights.abs()).sum()


@register("regularizer", place="noise", on="hidden")
def dropout(x: Tensor, key: Tensor, *, rate: Fraction) -> Tensor:
    """Dropout: hidden units are set to zero at random, the others scaled up to keep the mean.

    x mask / (1 - rate), mask = 1 with probability 1 - rate; in training only

    rate: probability of being dropped, in [0, 1). x [N, ...], key [4].
    Source: Srivastava et al., JMLR 2014, in the inverted form.
    """
    return x * (uniform(key, x.shape) >= rate) * (1 / (1 - rate))


@register("regularizer", place="noise", on="hidden")
def alpha_dropout(x: Tensor, key: Tensor, *, rate: Fraction) -> Tensor:
    """Alpha dropout: dropout for SELU networks, which keeps mean and variance.

    a (x mask + f (1 - mask)) + b, f = SELU's floor -1.758, a = ((1 - rate) (1 + rate f^2))^(-1/2),
    b = -a rate f; in training only

    rate: probability of being dropped, in [0, 1). x [N, ...], key [4].
    Source: Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.
    """
    kept = uniform(key, x.shape) >= rate
    a = ((1 - rate) * (1 + rate * SELU_FLOOR**2)) ** -0.5
    return torch.where(kept, x, SELU_FLOOR) * a - a * rate * SELU_FLOOR


@register("regularizer", place="noise", on="inputs")
def gaussian_noise(x: Tensor, key: Tensor, *, std: NonNegative) -> Tensor:
    """Gaussian noise on the inputs.

    x + std N(0, 1); in training only

    std: in units of the preprocessed inputs, at least 0. x [N, ...], key [4].
    Source: Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.
    """
    return x + (normal(key, x.shape) * std).to(x.dtype)


def per_channel(vector: Tensor, like: Tensor) -> Tensor:
    """A vector [C] shaped to meet `like` [N, C, ...]."""
    return vector.reshape(-1, *(1,) * (like.dim() - 2))


@register("regularizer", place="norm", buffers=("running_mean", "running_var"))
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
    """Batch normalization, between a layer and its activation.

    y = scale (x - mean) / sqrt(var + eps) + shift, by channel, over batch, height and width;
    running <- (1 - momentum) running + momentum batch, which takes the batch's place when not training

    momentum: fraction by which the running values move. eps: added to the variance.
    x [N, C] or [N, C, H, W]; scale, shift and running values [C]. Returns y and the new running mean
    and variance. The batch is normalized with the biased variance, the running one is unbiased.
    Edge: a batch of one value a channel has no variance: UserError in training.
    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015; conventions of torch.nn.BatchNorm.
    """
    kind, x = x.dtype, x.to(running_mean.dtype)  # statistics are not for half precision
    if training:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() // x.shape[1]
        if count == 1:
            raise UserError(
                "regularizer=batch_norm: a training batch holds one example, which has no variance. "
                "Choose data.batch_size so that at least 2 examples remain for the last batch."
            )
        # Not F.batch_norm: under vmap it folds the members' channels into one axis, and a member's
        # bytes then depend on its place in the pack.
        mean = x.mean(axes)
        centred = x - per_channel(mean, x)
        var = (centred * centred).mean(axes)
        running_mean = running_mean.lerp(mean.detach(), momentum)
        running_var = running_var.lerp(var.detach() * (count / (count - 1)), momentum)
    else:
        centred, var = x - per_channel(running_mean, x), running_var
    y = centred * per_channel(scale * (var + eps).rsqrt(), x) + per_channel(shift, x)
    return y.to(kind), running_mean, running_var


@register("regularizer", place="norm", buffers=())
def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, *, eps: Positive) -> Tensor:
    """Layer normalization: each example by its own mean and variance over all its features.

    y = scale (x - mean) / sqrt(var + eps) + shift

    eps: added to the variance. x [N, C] or [N, C, H, W], with mean and variance over all but N;
    scale and shift [C]. The same in training and evaluation, and for a batch of one.
    Source: Ba, Kiros and Hinton, "Layer normalization", 2016; for images it is a GroupNorm of one group.
    """
    kind, x = x.dtype, x.to(scale.dtype)  # statistics are not for half precision
    axes = list(range(1, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    var = (centred * centred).mean(axes, keepdim=True)
    y = centred * (var + eps).rsqrt() * per_channel(scale, x) + per_channel(shift, x)
    return y.to(kind)


@register("regularizer", place="targets")
def label_smoothing(targets: Tensor, classes: int, *, amount: Fraction) -> Tensor:
    """Label smoothing: a share of every target is spread evenly over all classes.

    (1 - amount) target + amount / classes; in training only

    amount: fraction. targets: class indices [N], or distributions [N, classes]. Returns float
    distributions [N, classes].
    Source: Szegedy et al., "Rethinking the Inception architecture", 2016.
    """
    if targets.dim() == 1:
        targets = (targets[:, None] == torch.arange(classes, device=targets.device)).to(torch.float32)
    return targets * (1 - amount) + amount / classes


@register("regularizer", place="gradient")
def gradient_clipping(gradient: Tensor, *, max_norm: Positive, mode: Literal["norm", "value"]) -> Tensor:
    """Gradient clipping: bounds the length of the gradient, or each of its entries.

    norm: g min(1, max_norm / ||g||) over all parameters at once;  value: entries to [-max_norm, max_norm]

    max_norm: above 0. gradient [P]. Edge: NaN stays NaN. Where an entry is infinite the norm mode
    makes it NaN and the others zero.
    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    if mode == "value":
        return gradient.clamp(min=-max_norm).clamp(max=max_norm)
    return gradient * (max_norm / gradient.norm()).clamp(max=1.0)


@register("regularizer", place="decay")
def weight_decay(weights: Tensor, lr: Any, *, strength: NonNegative) -> Tensor:
    """Decoupled weight decay: weights shrink beside the optimizer's update, not through it.

    w <- w - lr strength w

    strength: share of each weight taken away per lr and update, at least 0; scaled by the schedule
    as lr is. Biases and norm scales are left alone. It adds to the weight_decay that adamw, lamb,
    lion, muon and schedule_free have of their own.
    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """
    return weights * (-lr * strength)


@register("regularizer", place="constraint")
def max_norm(params: Tensor, layout: Layout, *, limit: Positive) -> Tensor:
    """Max-norm constraint: no unit's incoming weights are longer than a limit.

    w <- w min(1, limit / ||w||) for every row w of every weight matrix, after each update

    limit: above 0. params [P]. Kernels [out, in, h, w] are treated as rows [out, in h w]. Biases and
    norm scales are left alone.
    Source: Srebro and Shraibman 2005; with dropout Srivastava et al., JMLR 2014, who use 3 to 4.
    """
    parts = []
    flat = params.split(layout.sizes)
    for part, shape, penalized in zip(flat, layout.shapes, layout.penalized, strict=True):
        if penalized and len(shape) > 1:
            rows = part.view(shape[0], -1)
            # A row of zeros divides to infinity, which the clamp makes 1.
            part = (rows * (limit / rows.norm(dim=1, keepdim=True)).clamp(max=1.0)).flatten()
        parts.append(part)
    return torch.cat(parts)


@register("regularizer", place="average")
def ema(average: Tensor, params: Tensor, t: Any, *, decay: Fraction, warmup: bool) -> Tensor:
    """Exponential moving average of the parameters, to evaluate and keep in their place.

    average <- d average + (1 - d) w;  d = decay, or with warmup min(decay, (1 + t) / (10 + t))

    decay: fraction; the average looks back about 1 / (1 - decay) updates. warmup: a shorter memory
    at first. t: number of the update from 1. average, params [P].
    Edge: the average starts as the initial parameters; without warmup they fade only as decay^t.
    Source: Polyak and Juditsky 1992; the warm-up is TensorFlow's.
    """
    if warmup:
        other = (1 + t) / (10 + t)
        decay = (decay + other - abs(decay - other)) / 2  # the smaller, for numbers and tensors alike
    return average + (params - average) * (1 - decay)
