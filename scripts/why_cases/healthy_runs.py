"""Templates of healthy runs, some of which look suspicious and are fine, and the panel that cannot better them."""

# ruff: noqa: E501 - a line of a table is a command line
from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import slipstream
from slipstream.core.errors import UserError
from why_cases.measuring import MARGIN, SEEDS, Measured, Unknown, changed, gain, typed
from why_cases.panel import panel
from why_cases.templates import BASES, Base, classes, hidden, number, stable

ENOUGH, EACH = 100, 9  # healthy runs of a part; variants of a base that are tried


def vector(b: Base) -> bool:
    """Return True for tables and points."""
    return b.shape == "vector"


def anything(b: Base) -> bool:
    """Return True."""
    return True


Variant = tuple[
    Callable[[Base], bool], str, str
]  # where it makes sense, overrides, why it may seem suspicious
VARIANTS: tuple[Variant, ...] = (
    (anything, "", "-"),
    (anything, "optimizer=nadam optimizer.lr=0.004", "-"),
    (stable, "activation=tanh", "-"),
    (hidden, "regularizer=[dropout] regularizer.dropout.rate=0.05", "training loss above the validation loss"),
    (anything, "early_stopping=none early_stopping.restore_best=true trainer.max_epochs=90", "trains on long after the best epoch"),
    (anything, "optimizer=momentum optimizer.lr=0.03", "-"),
    (anything, "scheduler=cosine optimizer.lr=0.01", "the rate ends at 0, the loss is flat"),
    (classes, "regularizer=[label_smoothing] regularizer.label_smoothing.amount=0.05", "training loss far from 0"),
    (stable, "activation=gelu initializer=orthogonal", "-"),
    (anything, "regularizer=[gradient_clipping] regularizer.gradient_clipping.max_norm=0.5", "clips often, under Adam"),
    (lambda b: b.model == "mlp", "model.width=256 model.depth=3", "hundreds of parameters for each row"),
    (anything, "regularizer=[ema] regularizer.ema.decay=0.9", "-"),
    (lambda b: not b.curved and b.model == "mlp", "activation=identity", "linear, and enough"),
    (lambda b: b.model == "perceptron", "initializer=zeros", "zeros are fine without hidden units"),
    (classes, "trainer.monitor=val/accuracy", "accuracy moves in steps"),
    (anything, "optimizer=radam optimizer.lr=0.01", "-"),
    (lambda b: b.model == "mlp", "regularizer=[batch_norm]", "-"),
    (number, "loss=huber", "-"),
    (vector, "data.scaling=robust", "columns are not of unit deviation"),
    (anything, "scheduler=exponential scheduler.factor_per_epoch=0.93 optimizer.lr=0.01", "the rate falls all the time"),
    (stable, "activation=leaky_relu", "-"),
    (lambda b: b.model == "mlp", "activation=sigmoid optimizer.lr=0.03", "sigmoid units"),
    (anything, "regularizer=[l2] regularizer.l2.strength=1e-5", "-"),
    (anything, "optimizer=rmsprop optimizer.lr=0.003", "-"),
    (lambda b: b.model in ("mlp", "convnet"), "activation=selu initializer=lecun_normal", "-"),
    (lambda b: b.model == "mlp", "model.depth=4 model.residual=true", "-"),
    (anything, "data.batch_size=16", "the loss jumps from step to step"),
    (vector, "augmentation=[feature_noise] augmentation.feature_noise.std=0.03", "training loss above the validation loss"),
    (lambda b: b.table, "data.path={data}/NAME_sorted.csv", "the file is sorted by its target, the split is not"),
    (lambda b: b.table and b.task == "class", "data.path={data}/NAME_rare.csv", "one class is rare, and is found"),
    (anything, "early_stopping.patience=6", "ends early"),
    (anything, "data.validation=0.3", "few rows to train on"),
    (lambda b: b.data in ("two_moons", "circles", "sine", "linear", "xor"), "data.noise=0.3", "at the noise floor"),
    (lambda b: b.data in ("sine", "linear"), "data.noise=1", "mostly noise"),
    (anything, "regularizer=[swa] early_stopping=none", "weights are averaged at the end"),
    (lambda b: b.model == "mlp", "regularizer=[layer_norm]", "-"),
    (lambda b: b.data in ("digits", "shapes", "stripes"), "augmentation=[translation] augmentation.translation.fraction=0.05", "training loss above the validation loss"),
)  # fmt: skip


def candidates(part: str) -> Iterator[tuple[Base, str, str]]:
    """Yield bases with variants, each base with others of them: variant by variant."""
    bases = [one for one in BASES if one.part == part]
    asked: list[list[Variant]] = []
    for place, one in enumerate(bases):
        fitting = [variant for variant in VARIANTS if variant[0](one)]
        turn = 3 * place % len(fitting)
        asked.append([*fitting[turn:], *fitting[:turn]][:EACH])
    for step in range(EACH):
        for one, variants in zip(bases, asked, strict=True):
            if step < len(variants):
                _, overrides, looks = variants[step]
                yield one, changed(one.words, overrides.replace("NAME", one.data)), looks


def bettered(words: str, metric: str, measured: Measured) -> str:
    """Return the change of the panel that betters a run by a margin over three seeds, or nothing.

    The best that a metric can be is 1, and what is nearer to it than the margin needs no panel. The first seed
    is tried first: a change that loses there is left.
    """
    before, margin = measured.metrics(words, metric), MARGIN[metric.partition("/")[2]]
    known = [value for value in before if value is not None]
    if len(known) < len(SEEDS):
        return "broken"
    if 1 - statistics.fmean(known) < margin:
        return ""
    raw = slipstream.compose(*typed(words, measured.folder, 0))
    for name, overrides in panel(raw):
        line = changed(words, " ".join(overrides))
        try:
            slipstream.compose(*typed(line, measured.folder, 0))
        except UserError:
            continue
        if gain(before[0], measured.metric(line, metric, 0), metric) <= 0:
            continue
        gains = [gain(a, b, metric) for a, b in zip(before, measured.metrics(line, metric), strict=True)]
        if statistics.fmean(gains) >= margin:
            return name
    return ""


def healthy(part: str, measured: Measured) -> Iterator[tuple[str, ...]]:
    """Yield the columns after the id of the healthy runs of a part."""
    count = 0
    for one, words, looks in candidates(part):
        if count == ENOUGH:
            return
        try:
            better = "refused" if measured.refuses(words) else bettered(words, one.metric, measured)
        except Unknown:
            continue
        if better:
            print(f"{part} {one.data} {one.model}: not healthy, {better}: {words}", flush=True)
            continue
        count += 1
        values = ",".join(
            f"{value:.4g}" for value in measured.metrics(words, one.metric) if value is not None
        )
        yield part, one.data, "-", words, one.metric, values, looks, f"{measured.seconds(words):.1f}"
