"""Templates of planted faults: sound runs (a data set and a model each), and what is done to them."""

# ruff: noqa: E501 - a line of a table is a command line
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Ladder = list[
    tuple[str, str]
]  # overrides that plant a fault, those that mend it: the first that hurts is kept


@dataclass(frozen=True)
class Base:
    """A sound run. part: `dev` to build on, `held` to be looked at once.

    words: its command line. lr: of its optimizer, adam. shape: of an example, vector, image, series or text.
    """

    part: str
    data: str
    model: str
    words: str
    lr: float = 0.003
    shape: str = "vector"
    task: str = "class"
    curved: bool = True  # a linear model is not enough

    @property
    def metric(self) -> str:
        return "test/accuracy" if self.task == "class" else "test/r2"

    @property
    def table(self) -> bool:
        return "data=table" in self.words

    @property
    def dense(self) -> bool:
        return self.model == "mlp"

    @property
    def epochs(self) -> int:
        return int(self.words.split("trainer.max_epochs=")[1].split()[0])


SIZES = {
    "mlp": "model.width=48",
    "perceptron": "model=perceptron",
    "realmlp": "model=realmlp model.width=48 model.depth=2",
    "tabm": "model=tabm model.ensemble=8 model.width=32 model.depth=2",
    "convnet": "model=convnet model.channels=8",
    "resnet": "model=resnet regularizer=[batch_norm] model.blocks=1 model.stages=2 model.channels=8",
    "rnn": "model=rnn model.width=20",
}


def base(
    part: str, data: str, model: str, words: str, epochs: int, lr: float = 0.005, **more: object
) -> Base:
    """Return a sound run; words: of its data."""
    line = f"{words} data.test=0.25 {SIZES[model]} trainer.max_epochs={epochs} optimizer.lr={lr:g}"
    return Base(part, data, model, line, lr, **more)  # type: ignore[arg-type]


def table(part: str, name: str, model: str, epochs: int, **more: object) -> Base:
    """Return a sound run of one of the tables of why_data.py."""
    target = "value" if more.get("task") == "number" else "kind"
    words = f"data=table data.path={{data}}/{name}.csv data.target={target} data.batch_size=32"
    return base(part, name, model, words, epochs, **more)  # type: ignore[arg-type]


NUMBER = {"task": "number"}
LINEAR = {"task": "number", "curved": False}
IMAGE, SERIES, TEXT = {"shape": "image"}, {"shape": "series"}, {"shape": "text"}
BASES = (
    base("dev", "two_moons", "mlp", "data=two_moons data.rows=600 data.batch_size=32", 40),
    base("dev", "two_moons", "tabm", "data=two_moons data.rows=600 data.batch_size=32", 30),
    base("dev", "digits", "mlp", "data=digits", 20),
    base("dev", "digits", "convnet", "data=digits", 10),
    base("dev", "wine", "mlp", "data=wine data.batch_size=16", 40, curved=False),
    base("dev", "wine", "perceptron", "data=wine data.batch_size=16", 40, lr=0.02, curved=False),
    base("dev", "breast_cancer", "mlp", "data=breast_cancer", 30, curved=False),
    base("dev", "sine", "mlp", "data=sine data.rows=600 data.batch_size=32", 60, **NUMBER),
    base("dev", "linear", "mlp", "data=linear data.rows=500 data.batch_size=32", 40, **LINEAR),
    base("dev", "linear", "perceptron", "data=linear data.rows=500 data.batch_size=32", 40, lr=0.03, **LINEAR),
    base("dev", "shapes", "resnet", "data=shapes data.rows=600 data.size=10 data.shift=0 data.classes=3", 15, **IMAGE),
    base("dev", "shapes", "convnet", "data=shapes data.rows=600 data.size=12 data.shift=0 data.classes=3", 25, **IMAGE),
    table("dev", "blobs", "mlp", 40),
    table("dev", "blobs", "realmlp", 25),
    table("dev", "shop", "mlp", 40),
    table("dev", "shop", "tabm", 30),
    table("dev", "peaks", "mlp", 60, **NUMBER),
    table("dev", "peaks", "realmlp", 30, **NUMBER),
    table("dev", "waves", "mlp", 60, **NUMBER),
    table("dev", "waves", "tabm", 40, **NUMBER),
    base("dev", "tones", "rnn", "data=sequences data.path={data}/tones.csv data.id=who data.time=when data.target=kind data.batch_size=32", 25, lr=0.01, **SERIES),
    base("dev", "notes", "rnn", "data=text data.path={data}/notes.csv data.text=words data.target=kind data.batch_size=32", 20, lr=0.01, **TEXT),
    base("dev", "marks", "rnn", "data=sequences data.path={data}/marks.csv data.id=who data.time=when data.target=kind data.batch_size=32", 25, lr=0.01, **SERIES),
    base("held", "circles", "mlp", "data=circles data.rows=600 data.noise=0.1 data.batch_size=32", 40),
    base("held", "circles", "realmlp", "data=circles data.rows=600 data.noise=0.1 data.batch_size=32", 25),
    base("held", "spirals", "mlp", "data=spirals data.rows=600 data.turns=0.8 data.batch_size=32", 60, lr=0.01),
    base("held", "iris", "mlp", "data=iris data.batch_size=16", 50, curved=False),
    base("held", "iris", "perceptron", "data=iris data.batch_size=16", 60, lr=0.03, curved=False),
    base("held", "xor", "mlp", "data=xor data.rows=500 data.noise=0.15 data.batch_size=32", 40),
    base("held", "adding_problem", "rnn", "data=adding_problem data.rows=800 data.length=8 data.batch_size=32", 25, lr=0.01, task="number", shape="series"),
    base("held", "stripes", "convnet", "data=arrays data.path={data}/stripes.npz data.batch_size=32", 25, **IMAGE),
    base("held", "stripes", "resnet", "data=arrays data.path={data}/stripes.npz data.batch_size=32", 10, **IMAGE),
    table("held", "rings", "mlp", 60),
    table("held", "rings", "realmlp", 30),
    table("held", "stones", "mlp", 40),
    table("held", "stones", "tabm", 30),
    table("held", "circuit", "mlp", 60, **NUMBER),
    table("held", "circuit", "tabm", 40, **NUMBER),
    table("held", "rent", "mlp", 60, **NUMBER),
    table("held", "rent", "realmlp", 30, **NUMBER),
    base("held", "flags", "rnn", "data=sequences data.path={data}/flags.csv data.id=who data.time=when data.target=kind data.batch_size=32", 25, lr=0.01, **SERIES),
    base("held", "orders", "rnn", "data=text data.path={data}/orders.csv data.text=words data.target=kind data.batch_size=32", 20, lr=0.01, **TEXT),
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of fault. ladder: of a base, the ways to plant it, empty where it makes no sense.

    metric: of the base if empty. also: verdicts that mean the same. proof: as in the table's header.
    """

    name: str
    verdict: str
    ladder: Callable[[Base], Ladder]
    metric: str = ""
    also: str = ""
    proof: str = "rerun"


def setting(key: str, bad: tuple[object, ...], good: object, before: str = "") -> Callable[[Base], Ladder]:
    """Return a ladder of values of a setting. before: overrides that stay."""
    return lambda b: [(f"{before} {key}={value}", f"{key}={good}") for value in bad]


def regularizer(name: str, key: str, bad: tuple[object, ...], good: object, before: str = "") -> Callable[[Base], Ladder]:  # fmt: skip
    """Return a ladder of strengths of a regularizer, which is mended by a mild strength."""
    return setting(f"regularizer.{name}.{key}", bad, good, f"{before} regularizer=[{name}]")


def only(where: Callable[[Base], bool], ladder: Callable[[Base], Ladder]) -> Callable[[Base], Ladder]:
    """Return the ladder for some bases alone."""
    return lambda b: ladder(b) if where(b) else []


def spoiled(suffix: str, change: str, remedy: Callable[[Base], str]) -> Callable[[Base], Ladder]:
    """Return a ladder of one: another file of the base's table."""
    path = "data.path={{data}}/{}{}.csv"
    return lambda b: [(f"{path.format(b.data, suffix)} {change}", remedy(b))] if b.table else []


def clean(suffix: str = "") -> Callable[[Base], str]:
    """Return the remedy of another file."""
    return lambda b: f"data.path={{data}}/{b.data}{suffix}.csv"


def rates(*factors: float) -> Callable[[Base], Ladder]:
    """Return a ladder of learning rates, as factors of the base's."""
    return lambda b: [(f"optimizer.lr={b.lr * f:g}", f"optimizer.lr={b.lr:g}") for f in factors]


def descent(rate: float, ladder: Callable[[Base], Ladder]) -> Callable[[Base], Ladder]:
    """Return a ladder for plain gradient descent."""
    return lambda b: [(f"optimizer=sgd optimizer.lr={rate:g} {bad}", good) for bad, good in ladder(b)]


def hidden(b: Base) -> bool:
    """Return True if there are hidden units."""
    return b.model != "perceptron"


def stable(b: Base) -> bool:
    """Return True for networks without normalization, whose scale is what initialization makes it."""
    return b.model in ("mlp", "convnet")


def small(b: Base) -> Ladder:
    """Return networks of hardly a unit."""
    key = {"convnet": "model.channels", "resnet": "model.channels"}.get(b.model, "model.width")
    good = {"tabm": 32, "rnn": 20, "convnet": 8, "resnet": 8}.get(b.model, 48)
    return [(f"{key}=1", f"{key}={good}")] if hidden(b) else []


def epochs(b: Base) -> Ladder:
    """Return runs of too few epochs, at a rate that asks for patience."""
    return [(f"trainer.max_epochs={n}", f"trainer.max_epochs={b.epochs}") for n in (2, 1)]


def losses(b: Base) -> Ladder:
    """Return losses of another task."""
    if b.task == "number":
        return [("loss=poisson_nll", "loss=auto"), ("loss=cosine_similarity", "loss=auto")]
    return [
        ("loss=mse optimizer=sgd optimizer.lr=0.02", "loss=auto"),
        ("loss=mse optimizer=sgd optimizer.lr=0.005", "loss=auto"),
    ]


def bounded(b: Base) -> Ladder:
    """Return outputs that a bounded function squeezes: targets of unit size, or scores that must be negative."""
    if b.model in ("realmlp", "perceptron") or (b.table and b.task == "number"):
        return []
    if b.task == "number":
        names = ("sigmoid", "softsign", "relu")
        whole = "data.target_scaling=none"
    else:
        names = ("relu", "softplus")
        whole = "loss=hinge"
    return [(f"{whole} model.output_activation={name}", "model.output_activation=identity") for name in names]


NOISY = {
    "two_moons": "data.noise=0.4",
    "circles": "data.noise=0.3",
    "xor": "data.noise=0.4",
    "spirals": "data.noise=0.15",
    "linear": "data.noise=2 data.inputs=50",
    "sine": "data.noise=0.7",
}


def overfit(b: Base) -> Ladder:
    """Return long runs of wide networks on few noisy rows, mended by early stopping."""
    if b.data not in NOISY or b.model not in ("mlp", "realmlp"):
        return []
    wide = f"{NOISY[b.data]} data.test=0.6 model.width=256 model.depth=3 {STAY}"
    stop = "early_stopping=patience early_stopping.restore_best=true"
    return [(f"{wide} trainer.max_epochs={n}", stop) for n in (100, 200)]


STAY = "early_stopping=none early_stopping.restore_best=false"


def augmented(b: Base) -> Ladder:
    """Return augmentations that change what an example is."""
    if b.shape == "image" or b.data == "digits":
        return [
            ("augmentation=[rotation] augmentation.rotation.degrees=180", "augmentation.rotation.degrees=5")
        ]
    if b.shape == "series":
        return [("augmentation=[time_masking] augmentation.time_masking.fraction=0.9", "augmentation.time_masking.fraction=0.05")]  # fmt: skip
    if b.shape == "text":
        return []
    return [("augmentation=[feature_dropout] augmentation.feature_dropout.probability=0.9", "augmentation.feature_dropout.probability=0.02")]  # fmt: skip


def forgetting(b: Base) -> Ladder:
    """Return cells that forget."""
    if b.model != "rnn":
        return []
    return [(f"model.forget_bias={bias}", "model.forget_bias=1") for bias in (-4, -8)]


def cut(b: Base) -> Ladder:
    """Return inputs of which the part that matters is cut off."""
    if b.shape == "text":
        return [("data.max_length=5", "data.max_length=200")]
    if b.data in ("flags", "marks"):
        return [("data.max_length=6 data.keep=last", "data.max_length=30")]
    return [("data.max_length=2 data.keep=last", "data.max_length=14")] if b.data == "tones" else []


def ignoring(column: str) -> Callable[[Base], str]:
    """Return the remedy that ignores a column."""
    return lambda b: f"+data.kinds.{column}=ignore"


def useful(b: Base) -> str:
    """Return the remedy that names the columns that mean something: those of the table itself."""
    return f"data.path={{data}}/{b.data}.csv"


def fresh(b: Base) -> str:
    """Return the metric on rows that no run has seen."""
    return b.metric.replace("test/", "fresh/")


def optimism(b: Base) -> str:
    """Return by how much the test part flatters."""
    return b.metric.replace("test/", "optimism/")


number = lambda b: b.task == "number"  # noqa: E731
classes = lambda b: b.task == "class"  # noqa: E731
KINDS = (
    Kind("lr_high", "learning rate too high", rates(100, 1000)),
    Kind("lr_high_diverges", "learning rate too high", lambda b: [(f"optimizer=sgd optimizer.lr={r}", "optimizer.lr=0.05") for r in (3, 30)]),
    Kind("lr_low", "learning rate too low", rates(0.001)),
    Kind("lr_low_sgd", "learning rate too low", lambda b: [("optimizer=momentum optimizer.lr=1e-6", "optimizer.lr=0.02")]),
    Kind("schedule_early", "schedule ends too early", lambda b: [("scheduler=step scheduler.every_epochs=1 scheduler.factor=0.1 early_stopping=none", "scheduler=constant ~scheduler.every ~scheduler.factor"), ("scheduler=exponential scheduler.factor_per_epoch=0.05 early_stopping=none", "scheduler=constant ~scheduler.factor")]),
    Kind("warmup_long", "warm-up too long", setting("scheduler.warmup_steps", (20000, 200000), 20, "scheduler=cosine")),
    Kind("few_epochs", "too few epochs", epochs),
    Kind("stopping_impatient", "early stopping too impatient", lambda b: [(f"{more} early_stopping.patience=1", "early_stopping.patience=30") for more in ("", "trainer.monitor=val/accuracy" if b.task == "class" else f"optimizer.lr={b.lr * 4:g}")]),
    Kind("min_delta_high", "min_delta too high", lambda b: [(f"early_stopping.min_delta={d} early_stopping.patience=5 early_stopping.restore_best={r}", "early_stopping.min_delta=0") for d, r in ((0.3, "true"), (1, "false"), (3, "true"))]),
    Kind("init_symmetric", "symmetric initialization", only(lambda b: b.model in ("mlp", "convnet"), lambda b: [("initializer=constant", "initializer=auto ~initializer.value"), ("initializer=zeros", "initializer=auto")])),
    Kind("init_small", "initialization too small", only(stable, lambda b: [(f"optimizer=sgd model.depth={d} activation=tanh initializer=normal initializer.std={s}", "initializer=auto ~initializer.std") for d, s in ((2, 0.001), (4, 0.01))])),
    Kind("init_large", "initialization too large", only(stable, lambda b: [(f"activation=tanh model.depth={d} initializer=normal initializer.std={s}", "initializer=auto ~initializer.std") for d, s in ((4, 3), (3, 10))]), also="saturated units"),
    Kind("saturated", "saturated units", only(stable, lambda b: [(f"activation={a} initializer.bias={v}", "initializer.bias=0") for a, v in (("sigmoid", 12), ("tanh", 20))])),
    Kind("dying_relu", "dead ReLU units", only(stable, setting("initializer.bias", (-5, -20), 0))),
    Kind("linear_network", "linear network", only(lambda b: b.curved and b.model in ("mlp", "convnet", "tabm"), setting("activation", ("identity",), "relu"))),
    Kind("linear_model", "linear network", only(lambda b: b.curved and b.dense, lambda b: [("model.depth=0", "model.depth=2")])),
    Kind("network_small", "network too small", small),
    Kind("bottleneck", "network too small", only(lambda b: b.dense, setting("model.width", ("[48,1,48]",), "[48,48,48]", "model.depth=3")), also="bottleneck"),
    Kind("overfit", "overfitting", overfit, metric="test/log_loss"),
    Kind("penalty_strong_l1", "penalty too strong", regularizer("l1", "strength", (0.1, 1), 1e-6)),
    Kind("penalty_strong_l2", "penalty too strong", regularizer("l2", "strength", (0.3, 3), 1e-6)),
    Kind("decay_strong", "penalty too strong", regularizer("weight_decay", "strength", (10, 100), 1e-4)),
    Kind("dropout_strong", "dropout too strong", only(lambda b: hidden(b) and b.model != "resnet", regularizer("dropout", "rate", (0.9, 0.98), 0.02))),
    Kind("noise_strong", "noise too strong", only(lambda b: b.shape == "vector" and b.model != "tabm", regularizer("gaussian_noise", "std", (3, 20), 0.01))),
    Kind("smoothing_strong", "label smoothing too strong", only(classes, regularizer("label_smoothing", "amount", (0.9,), 0.01)), metric="test/log_loss"),
    Kind("sparsity_high", "sparsity too high", only(hidden, regularizer("dense_sparse_dense", "sparsity", (0.99, 0.999), 0.1, STAY))),
    Kind("clipping_tight", "gradient clipping too tight", descent(0.1, regularizer("gradient_clipping", "max_norm", (0.001, 0.0001), 5))),
    Kind("momentum_high", "momentum too high", lambda b: [(f"optimizer=momentum optimizer.lr={r} optimizer.momentum=0.999", "optimizer.momentum=0.9") for r in (0.02, 0.1)]),
    Kind("batch_large", "batch too large", setting("data.batch_size", ("full",), 32)),
    Kind("batch_small", "batch too small", lambda b: [(f"optimizer=sgd optimizer.lr={r} data.batch_size=1 trainer.max_epochs=6", "data.batch_size=32 trainer.max_epochs=40") for r in (0.05, 0.3)] if b.model in ("mlp", "perceptron") and b.data != "digits" else [], also="learning rate too high"),
    Kind("batch_norm_tiny", "batch norm with tiny batches", only(lambda b: b.dense and b.data != "digits", lambda b: [(f"regularizer=[batch_norm] data.batch_size=2 trainer.max_epochs={n}", "data.batch_size=32") for n in (8, 15)]), also="batch too small"),
    Kind("exploding", "exploding gradients", only(stable, lambda b: [(f"optimizer=sgd optimizer.lr=0.05 model.depth={d} initializer=normal initializer.std={s}", "regularizer=[gradient_clipping] regularizer.gradient_clipping.max_norm=1") for d, s in ((4, 0.5), (6, 0.4))]), also="initialization too large;learning rate too high"),
    Kind("forgetting", "forgetting recurrent cell", forgetting),
    Kind("cell_simple", "forgetting recurrent cell", only(lambda b: b.model == "rnn", lambda b: [(f"{long} model.cell=simple", "model.cell=gru") for long in ("", "data.length=25") if not long or b.data == "adding_problem"])),
    Kind("wrong_loss", "wrong loss", losses),
    Kind("bounded_output", "bounded output", bounded),
    Kind("monitor_wrong", "wrong monitor", setting("trainer.mode", ("max",), "auto")),
    Kind("augmentation_harmful", "augmentation destroys labels", augmented),
    Kind("inputs_unscaled", "inputs not scaled", only(lambda b: b.model in ("mlp", "tabm", "perceptron") and b.shape == "vector", lambda b: [("data.scaling=none", "data.scaling=standard"), ("data.scaling=none optimizer=sgd optimizer.lr=0.05", "data.scaling=standard")])),
    Kind("target_unscaled", "target not scaled", only(lambda b: number(b) and b.table, setting("data.target_scaling", ("none",), "auto"))),
    Kind("outliers", "outliers", spoiled("_sentinel", "", lambda b: "'data.missing=[\"999999\",\"999999.0\"]'")),
    Kind("no_signal", "no signal", spoiled("_random", "", clean()), proof="data"),
    Kind("noise_features", "features without signal", spoiled("_noise", "", useful), proof="data"),
    Kind("constant_features", "constant features", spoiled("_flat", "", clean()), proof="data"),
    Kind("label_noise", "label noise", spoiled("_mislabeled", "~data.test data.split_column=part", clean("_parts")), proof="data"),
    Kind("shift", "distribution shift", spoiled("_shifted", "~data.test data.split_column=part", clean("_parts")), proof="data"),
    Kind("wrong_order", "split in wrong order", spoiled("_sorted", "data.split=time", lambda b: "data.split=auto")),
    Kind("imbalance", "class imbalance", only(classes, spoiled("_rare", "trainer.max_epochs=8", lambda b: "data.class_weights=balanced")), metric="test/balanced_accuracy"),
    Kind("leak", "leaking feature", spoiled("_leak", "", ignoring("visits")), metric="fresh", proof="fresh"),
    Kind("identifier", "identifier column", spoiled("_entry", "+data.kinds.entry=number", ignoring("entry")), metric="fresh", proof="fresh"),
    Kind("duplicates", "duplicates across parts", spoiled("_twice", "+data.kinds.lot=ignore trainer.max_epochs=150 early_stopping=none", lambda b: "~+data.kinds data.group_column=lot"), metric="optimism", proof="fresh"),
    Kind("average_lags", "average lags", regularizer("ema", "decay", (0.99999,), 0.9, "regularizer.ema.warmup=false early_stopping=none")),
    Kind("input_cut", "input cut off", cut),
    Kind("bfloat16", "bfloat16 too coarse", only(lambda b: number(b) and b.model in ("mlp", "perceptron"), lambda b: [(f"{more} trainer.dtype=bfloat16", "trainer.dtype=float32") for more in ("data.noise=0" if b.data in ("linear", "sine") else "",)]), metric="test/rmse"),
    Kind("frozen", "frozen parameters", only(hidden, lambda b: [(f"trainer.freeze=[{names}]", "trainer.freeze=[]") for names in ("*.weight", "*.weight*")])),
    Kind("wrong_structure", "wrong structure for the data", only(lambda b: b.model == "convnet" and b.data != "digits", lambda b: [("~model.channels model=mlp model.width=48" + (" data.shift=1" if b.data == "shapes" else ""), "model=convnet ~model.width model.channels=8")])),
    Kind("vanishing", "vanishing gradients", only(lambda b: b.dense, lambda b: [(f"model.depth={d} activation=sigmoid optimizer=sgd optimizer.lr=0.05", "activation=relu") for d in (5, 7)])),
    Kind("bias_large", "bad prior of the output bias", only(lambda b: b.model in ("mlp", "perceptron") and number(b), lambda b: [(f"model=mlp ~model.width model.width=48 model.depth=0 initializer.bias={v} optimizer=sgd optimizer.lr=0.002", "initializer.bias=0") for v in (8, 30)]), also="learning rate too low"),
    Kind("warmup_missing", "no warm-up", only(lambda b: b.dense, lambda b: [(f"model.depth=4 {how} optimizer.lr={r}", "scheduler.warmup_steps=100") for how, r in (("optimizer=sgd", 0.2), ("optimizer=momentum", 0.1), ("optimizer=sgd", 0.5), ("optimizer=adam", 0.03))]), also="learning rate too high"),
    Kind("l2_adam", "L2 inside Adam", lambda b: [(f"optimizer=adam regularizer=[l2] regularizer.l2.strength={s}", f"regularizer=[weight_decay] ~regularizer.l2 regularizer.weight_decay.strength={s}") for s in (0.03, 0.1)] if b.model != "resnet" else [], also="penalty too strong"),
    Kind("dropout_norm", "dropout before batch norm", only(lambda b: b.dense, lambda b: [(f"model.width={w} regularizer=[dropout,batch_norm] regularizer.dropout.rate=0.5", "regularizer=[batch_norm] ~regularizer.dropout") for w in (16, 8)]), also="dropout too strong;network too small"),
)  # fmt: skip


def metric_of(kind: Kind, one: Base) -> str:
    """Return the metric that shows a fault on a base."""
    if kind.name == "overfit" and one.task == "number":
        return one.metric
    if kind.metric in ("fresh", "optimism"):
        return one.metric.replace("test/", f"{kind.metric}/")
    return kind.metric or one.metric


def eligible(kind: Kind, part: str) -> Iterator[tuple[Base, Ladder]]:
    """Yield the bases of a part on which a fault makes sense, rotated so that kinds differ in theirs."""
    found = [(one, kind.ladder(one)) for one in BASES if one.part == part]
    found = [(one, ladder) for one, ladder in found if ladder]
    turn = 5 * KINDS.index(kind) % max(len(found), 1)
    yield from [*found[turn:], *found[:turn]]
