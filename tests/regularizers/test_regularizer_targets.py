"""Changed targets against torch."""

from __future__ import annotations

import torch
from regularizing import regularizer, sample
from torch.nn import functional as F


def test_label_smoothing_equals_torch() -> None:
    """Cross-entropy with the smoothed targets is torch's cross_entropy(label_smoothing=...)."""
    logits, targets = sample(6, 4).float(), torch.tensor([0, 3, 1, 2, 2, 0])
    smooth = regularizer("label_smoothing")(targets, 4, amount=0.2)
    assert smooth.dtype == torch.float32
    expected = F.cross_entropy(logits, targets, label_smoothing=0.2)
    torch.testing.assert_close(F.cross_entropy(logits, smooth), expected)
    twice = regularizer("label_smoothing")(F.one_hot(targets, 4).float(), 4, amount=0.2)
    torch.testing.assert_close(twice, smooth)
