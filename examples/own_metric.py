"""A metric of one's own: python examples/own_metric.py data=iris trainer.metrics=[accuracy,doubtful]"""

from slipstream import register
from slipstream.cli import main


@register("metric", tasks=("binary", "multiclass"), mode="min", probabilistic=True)
def doubtful(scores, targets, weights):
    """The share of examples, by weight, whose likeliest class has a probability below 0.6."""
    below = (scores.max(-1).values < 0.6).to(weights.dtype)
    return (below * weights).sum() / weights.sum()


if __name__ == "__main__":
    main()
