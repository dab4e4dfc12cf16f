"""Causes in the network: its size and kind, its initial weights, its units."""

from __future__ import annotations

import math
from collections.abc import Iterator

from slipstream.core.wording import counted
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion, suspect

EQUAL = 0.9999  # cosine of two units' weights
DEAD = SATURATED = 0.8  # share of a layer
FAST = 3.0  # times the usual rate
FAR_BIAS = 3.0  # of an output, for logits and scaled targets
BOUNDED = ("sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "softsign")
LINEAR = ("identity",)
STRUCTURES = {"image": ("convnet",), "sequence": ("convnet", "rnn"), "tokens": ("convnet", "rnn")}
NOUNS = {"image": "pixels", "sequence": "steps", "tokens": "words"}


def initial_weights(run: Evidence) -> Iterator[Suspicion]:
    """Equal units, and weights of the wrong size."""
    remedy = "initializer=auto"
    equal = {name: v for name, v in run.layers("unit_similarity", 0).items() if "output" not in name}
    same = [name for name, value in equal.items() if value > EQUAL]
    name = str(run.raw["initializer"]["name"])
    if name in ("zeros", "constant") and (same or not run.observations) and _hidden(run):
        yield suspect(
            "symmetric initialization",
            0.9,
            f"initializer={name} makes the units of a layer equal, and they stay equal "
            f"(cosine of two units' weights: {max(equal.values(), default=1):.4f})",
            remedy,
        )
    if not run.changed("initializer") and not run.setting("initializer.gain"):
        return
    stds = run.layers("input_std", 0)
    small = [std for std in stds.values() if std < 0.05]
    large = [std for std in stds.values() if std > 5]
    scale = run.number("initializer.std") or run.number("initializer.gain") or run.number("initializer.bound")
    if small or (scale is not None and scale < 0.02):
        yield suspect(
            "initialization too small",
            0.4 if name in ("zeros", "constant") else 0.8 if small else 0.6,
            f"the standard deviation of the activations' inputs falls to {min(stds.values(), default=0):.2g}",
            remedy,
        )
    if large or (scale is not None and scale > 1):
        yield suspect(
            "initialization too large",
            0.85 if large else 0.5,
            f"the standard deviation of the activations' inputs rises to {max(stds.values(), default=0):.3g}",
            remedy,
        )


def units(run: Evidence) -> Iterator[Suspicion]:
    """Units that are 0 for every row, or saturated."""
    bias = run.number("initializer.bias") or 0.0
    dead = run.layers("dead")
    activation = str(run.raw["activation"]["name"])
    worst = max(dead.values(), default=0.0)
    back = ["initializer.bias=0"] if bias else []
    fast = (run.number("optimizer.lr") or 0.0) > FAST * float(run.usual("optimizer.lr") or math.inf)
    if worst > 0.5 and activation in ("relu", "relu6"):
        yield suspect(
            "dead ReLU units",
            # Large updates also kill units; then the rate is the root cause.
            0.9 if bias < 0 else 0.4 if fast or worst < DEAD else 0.75,
            f"{worst:.0%} of a layer's units are 0 for every row of the probe",
            *back,
            "activation=leaky_relu",
        )
    saturated = run.layers("saturated")
    flat = max(saturated.values(), default=0.0)
    if flat > 0.4 or (bias and abs(bias) > 3 and activation in BOUNDED):
        remedy = back or ["initializer=auto"] if run.changed("initializer") or bias else []
        yield suspect(
            "saturated units",
            0.88 if flat > SATURATED else 0.5,
            f"{flat:.0%} of a layer's {activation} outputs are saturated",
            *remedy,
            *([] if bias else ["activation=relu"]),
        )


def signal(run: Evidence) -> Iterator[Suspicion]:
    """Gradients that vanish or explode on their way through the layers or the steps."""
    norms = [v for name, v in run.layers("gradient_norm", 0).items() if v > 0]
    model, activation = str(run.raw["model"]["name"]), str(run.raw["activation"]["name"])
    depth = run.setting("model.depth")
    if len(norms) > 2 and activation in BOUNDED and isinstance(depth, int) and depth >= 3:
        ratio = min(norms) / max(norms)
        if ratio < 0.1:
            yield suspect(
                "vanishing gradients",
                0.7 if ratio < 1e-4 else 0.4 if ratio < 1e-2 else 0.25,
                f"the smallest gradient norm of a layer is {ratio:.1e} of the largest",
                "activation=relu",
                "model.residual=true",
            )
    largest = run.observed("updates/largest_gradient_norm", 0)
    if (run.status == "diverged" or largest > 100) and "gradient_clipping" not in run.regularizers:
        yield suspect(
            "exploding gradients",
            0.7 if model == "rnn" else 0.4,
            f"the gradient norm reaches {largest:.3g}"
            if math.isfinite(largest)
            else "the loss diverged before the gradient norm was observed",
            run.adding("gradient_clipping"),
        )
    if model == "rnn" and run.setting("model.cell") == "simple":
        yield suspect(
            "forgetting recurrent cell",
            0.7,
            "a simple cell passes its state through the activation at every step",
            "model.cell=lstm",
            "model.cell=gru",
        )


def size(run: Evidence) -> Iterator[Suspicion]:
    """A network without a nonlinearity, or too small."""
    model = str(run.raw["model"]["name"])
    if model == "perceptron":
        yield suspect("linear network", 0.6, "a perceptron is linear", ("model=mlp", "activation=relu"))
        return
    if run.setting("model.depth") == 0:
        yield suspect("linear network", 0.6, "without hidden layers the network is linear", "model.depth=2")
        return
    if run.raw["activation"]["name"] in LINEAR:
        yield suspect(
            "linear network", 0.6, "activation=identity makes the network linear", "activation=relu"
        )
    for key, few, usual in (("model.width", 8, 128), ("model.channels", 3, 16)):
        value = run.setting(key)
        sizes = value if isinstance(value, list) else [value]
        if all(isinstance(one, int) for one in sizes):
            least = min(sizes)
            score = 0.75 if least <= few else 0.2 if least < usual else 0.0
            cause = "bottleneck" if len(sizes) > 1 and least <= few < max(sizes) else "network too small"
            if score:
                yield suspect(
                    cause,
                    score,
                    f"{key}={value} gives {_parameters(run)}",
                    f"{key}={usual}" if key == "model.width" else f"{key}={max(usual, 4 * least)}",
                )


def structure(run: Evidence) -> Iterator[Suspicion]:
    """A dense network for images, sequences or text."""
    model, kind = str(run.raw["model"]["name"]), run.data.form.kind
    if model in ("mlp", "perceptron") and kind in STRUCTURES:
        yield suspect(
            "wrong structure for the data",
            0.35,
            f"model={model} ignores the order of {NOUNS[kind]}",
            *(f"model={name}" for name in STRUCTURES[kind]),
        )


def prior(run: Evidence) -> Iterator[Suspicion]:
    """Biases that make the first predictions confident and wrong."""
    bias = run.number("initializer.bias") or 0.0
    if abs(bias) > 1:
        yield suspect(
            "bad prior of the output bias",
            0.6 if abs(bias) > FAR_BIAS else 0.3,
            f"initializer.bias={bias:g} is also the bias of the output",
            "initializer.bias=0",
        )


def _hidden(run: Evidence) -> bool:
    return bool(run.raw["model"]["name"] != "perceptron" and run.setting("model.depth", 1) != 0)


def _parameters(run: Evidence) -> str:
    return counted(int(run.summary.get("parameters", 0)), "parameter")


CAUSES = (initial_weights, units, signal, size, structure, prior)
