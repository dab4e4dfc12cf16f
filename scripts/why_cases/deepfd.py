"""The faulty programs of the DeepFD benchmark (Cao et al., ICSE 2022), rebuilt as configurations.

Each is a question of Stack Overflow or a commit, with the patches that mend it. The faults are theirs; the data
are ours, of the same kind.
"""

# ruff: noqa: E501 - a line of a table is a command line
from __future__ import annotations

from why_cases.measuring import Measured, Unknown, changed, clear

DIGITS = "data=digits model.width=32"
IMAGES = "data=digits model=convnet model.channels=8"
SHAPES = "data=shapes data.rows=600 data.size=12 data.shift=0 data.classes=3 model=convnet model.channels=8"
CANCER = "data=breast_cancer model.width=16"
SINE = "data=sine data.rows=600 data.batch_size=32 model.width=48"
LINEAR = "data=linear data.rows=500 data.batch_size=32"
MOONS = "data=two_moons data.rows=600 data.batch_size=32 model.width=16"
BLOBS = "data=table data.path={data}/blobs.csv data.target=kind data.batch_size=32 model.width=32"
PEAKS = "data=table data.path={data}/peaks.csv data.target=value data.batch_size=32 model.width=48"
WAVES = "data=table data.path={data}/waves.csv data.target=value data.batch_size=32 model.width=48"
TONES = "data=sequences data.path={data}/tones.csv data.id=who data.time=when data.target=kind data.batch_size=32 model=rnn model.width=20"
NOTES = "data=text data.path={data}/notes.csv data.text=words data.target=kind data.batch_size=32 model=rnn model.width=20"

LOW, HIGH, FEW = "learning rate too low", "learning rate too high", "too few epochs"
BOUNDED, LOSS, INPUTS, TARGET = "bounded output", "wrong loss", "inputs not scaled", "target not scaled"
HEAD = (
    "# Programs of the DeepFD benchmark as configurations, made by scripts/why_planting.py --deepfd. data: the post or the repository;\n"
    "# verdict, also: the faults that its authors name; remedy: their patch. The other columns are as in faults.tsv. Left out:"
)
Program = tuple[str, str, str, str, str]  # post, what of it is built, the patch, verdict, the other faults
PROGRAMS: tuple[Program, ...] = (
    ("48385830", f"{DIGITS} model.depth=1 activation=identity loss=mse optimizer=sgd optimizer.lr=3 initializer=normal initializer.std=1", "activation=sigmoid loss=cross_entropy optimizer.lr=0.3", HIGH, f"{LOSS};linear network;initialization too large"),
    ("44164749", f"{IMAGES} optimizer=sgd optimizer.lr=0.01 trainer.max_epochs=5", "optimizer.lr=0.1 trainer.max_epochs=20", LOW, FEW),
    ("31556268", "data=xor data.rows=200 data.batch_size=4 model.depth=1 model.width=8 activation=tanh loss=mse optimizer=momentum optimizer.momentum=0.11 optimizer.lr=0.005 trainer.max_epochs=5", "optimizer.lr=0.1 trainer.max_epochs=50", LOW, f"{FEW};{LOSS}"),
    ("50306988", f"{MOONS} optimizer.lr=0.001 trainer.max_epochs=5", "optimizer.lr=0.01 trainer.max_epochs=40", LOW, FEW),
    ("48251943", f"{SINE} data.target_scaling=none model.output_activation=relu optimizer.lr=0.005 trainer.max_epochs=60", "model.output_activation=tanh", BOUNDED, ""),
    ("38648195", f"{DIGITS} loss=mse optimizer=sgd optimizer.lr=0.01 trainer.max_epochs=8", "loss=cross_entropy optimizer.lr=0.1 trainer.max_epochs=20", LOSS, f"{FEW};{LOW}"),
    ("33969059", f"{LINEAR} model.output_activation=softmax data.target_scaling=none trainer.max_epochs=30 optimizer.lr=0.005", "model.output_activation=identity", BOUNDED, ""),
    ("55328966", f"{DIGITS} data.scaling=none optimizer=sgd optimizer.lr=0.1 trainer.max_epochs=10", "data.scaling=global optimizer=adam optimizer.lr=0.003", INPUTS, HIGH),
    ("34311586", "data=xor data.rows=400 model.depth=1 model.width=8 activation=tanh initializer=uniform optimizer=nesterov optimizer.lr=0.001 trainer.max_epochs=10", "optimizer=adam optimizer.lr=0.03 trainer.max_epochs=40 initializer=auto ~initializer.bound", LOW, f"{FEW};initialization too small"),
    ("31880720", f"{CANCER} optimizer=sgd optimizer.lr=0.001 trainer.max_epochs=10", "optimizer.lr=0.05 trainer.max_epochs=40", FEW, LOW),
    ("39525358", f"{CANCER} data.scaling=none optimizer.lr=0.001 trainer.max_epochs=10", "data.scaling=standard optimizer.lr=0.01", INPUTS, f"{LOW};{FEW}"),
    ("39217567", f"{LINEAR} model.width=20 model.depth=3 activation=sigmoid initializer=normal optimizer.lr=0.001 trainer.max_epochs=30", "activation=relu initializer=auto optimizer.lr=0.005", "saturated units", f"initialization too small;{LOW};{FEW}"),
    ("48934338", f"{PEAKS} data.target_scaling=none optimizer=sgd optimizer.lr=0.1 trainer.max_epochs=40", "data.target_scaling=auto", HIGH, TARGET),
    ("47724077", "data=wine data.batch_size=16 data.scaling=none model.width=16 trainer.max_epochs=30 optimizer.lr=0.001", "data.scaling=standard optimizer.lr=0.01", INPUTS, f"{LOW};{FEW}"),
    ("59278771", "data=wine data.batch_size=5 data.scaling=none model.width=4 initializer=normal trainer.max_epochs=20", "data.scaling=standard activation=selu initializer=auto optimizer.lr=0.005", INPUTS, f"initialization too small;{LOW};{FEW}"),
    ("52800582", f"{WAVES} data.scaling=none data.target_scaling=none trainer.max_epochs=40 optimizer.lr=0.003", "data.scaling=standard data.target_scaling=auto", TARGET, f"{INPUTS};{LOW};{FEW}"),
    ("48221692", f"{WAVES} model.output_activation=sigmoid data.target_scaling=none trainer.max_epochs=40 optimizer.lr=0.005", "model.output_activation=identity data.target_scaling=auto", BOUNDED, TARGET),
    ("50079585", f"{SHAPES} optimizer=rmsprop optimizer.lr=0.001 trainer.max_epochs=3", "optimizer.lr=0.005 trainer.max_epochs=20", FEW, LOW),
    ("44066044", f"{CANCER} data.scaling=none optimizer=sgd optimizer.lr=0.05 trainer.max_epochs=20", "data.scaling=standard", INPUTS, HIGH),
    ("47352366", f"{DIGITS} model.output_activation=relu loss=mse optimizer=sgd optimizer.lr=0.01 trainer.max_epochs=2", "model.output_activation=identity loss=cross_entropy optimizer.lr=0.1 trainer.max_epochs=10", BOUNDED, f"{FEW};{LOSS};{LOW}"),
    ("48594888", f"{IMAGES} optimizer.lr=0.0005 trainer.max_epochs=2", "trainer.max_epochs=20", FEW, LOW),
    ("31627380", f"{MOONS} model.output_activation=softmax loss=mse trainer.max_epochs=30 optimizer.lr=0.005", "model.output_activation=identity loss=auto", BOUNDED, LOSS),
    ("56380303", f"{SHAPES} optimizer=sgd optimizer.lr=0.01 trainer.max_epochs=10", "optimizer=adam optimizer.lr=0.005", LOW, FEW),
    ("59282996", f"{TONES} optimizer.lr=0.002 trainer.max_epochs=4", "trainer.max_epochs=40", FEW, LOW),
    ("37624102", f"{IMAGES} model.depth=3 optimizer=nesterov optimizer.lr=1 trainer.max_epochs=10", "optimizer.lr=0.01", HIGH, "dead ReLU units"),
    ("41600519", f"{SINE} optimizer=rmsprop optimizer.lr=0.001 data.batch_size=1 trainer.max_epochs=1", "optimizer=adam optimizer.lr=0.005 data.batch_size=32 trainer.max_epochs=60", FEW, "batch too small"),
    ("41977498", f"{TONES} optimizer=rmsprop optimizer.lr=0.001 trainer.max_epochs=6", "optimizer=adam optimizer.lr=0.01 trainer.max_epochs=30", FEW, LOW),
    ("42800203", f"{CANCER} model.output_activation=softmax loss=mse trainer.max_epochs=20 optimizer.lr=0.005", "model.output_activation=identity loss=auto", BOUNDED, LOSS),
    ("44998910", f"{SINE} optimizer=sgd optimizer.lr=0.003 trainer.max_epochs=10", "optimizer.lr=0.1 trainer.max_epochs=80", LOW, FEW),
    ("46642627", f"{PEAKS} data.scaling=none data.target_scaling=none optimizer=sgd optimizer.lr=0.01 trainer.max_epochs=30", "data.scaling=standard data.target_scaling=auto optimizer=adam", HIGH, f"{INPUTS};{TARGET};exploding gradients"),
    ("46995209", f"{PEAKS} data.scaling=none activation=tanh model.depth=6 model.width=10 trainer.max_epochs=30", "data.scaling=standard activation=relu model.depth=2 optimizer.lr=0.005", INPUTS, f"network too small;saturated units;{LOW};{FEW}"),
    ("51181393", f"{LINEAR} model.depth=0 optimizer=rmsprop optimizer.lr=0.001 trainer.max_epochs=10", "optimizer.lr=0.1", LOW, FEW),
    ("47932589", f"{PEAKS} data.scaling=none data.target_scaling=none trainer.max_epochs=40 optimizer.lr=0.003", "data.scaling=standard data.target_scaling=auto", TARGET, f"{INPUTS};{LOW};{FEW}"),
    ("37213388", f"{IMAGES} optimizer.lr=0.001 trainer.max_epochs=1", "trainer.max_epochs=10", FEW, LOW),
    ("gol_nn", f"{BLOBS} optimizer.lr=0.001 trainer.max_epochs=5", "optimizer.lr=0.01 trainer.max_epochs=20", LOW, f"{FEW};{LOSS}"),
    ("FacialKeypointsDetection", f"{SINE} optimizer.lr=0.5 trainer.max_epochs=40", "optimizer=sgd optimizer.lr=0.1 trainer.max_epochs=80", HIGH, FEW),
    ("MovieReviews_Keras", f"{NOTES} optimizer.lr=0.003 trainer.max_epochs=4", "trainer.max_epochs=20 regularizer=[dropout] regularizer.dropout.rate=0.1", FEW, LOW),
)  # fmt: skip
LEFT_OUT = {
    "41372874, 34673164, 51930566, 50481178, 41327601, 39810655": "the authors found no fault, or patches that hurt",
    "59325381, 58237726, 41947039": "preprocessing code that differs between parts: here it is fitted once, for all parts",
    "45337371": "several labels with a softmax, which is refused before training",
    "58609115": "a categorical loss of a single output, which is refused before training",
    "45442843": "loss and optimizer changed on private series, without saying what they must predict",
    "42514960": "an autoencoder",
    "Traffic-Sign-Classifier, kaggle-melbourne_properties": "a search of layers, and no patch of one fault",
}


def programs(measured: Measured) -> tuple[str, list[list[str]]]:
    """Return the head of the table, which says what was left out, and the columns after the id."""
    rows, mild, unknown = measured_rows(measured)
    left = [f"#   {posts}: {why}" for posts, why in LEFT_OUT.items()]
    if mild:
        left.append(f"#   {', '.join(mild)}: do not hurt by the margin on data of ours, or are not mended")
    if unknown:
        left.append(f"#   {', '.join(unknown)}: not measured")
    return "\n".join([HEAD, *left]), rows


def measured_rows(measured: Measured) -> tuple[list[list[str]], list[str], list[str]]:
    """Return the lines of the programs that hurt, the posts of those that do not, and of those not measured."""
    rows, mild, unknown = [], [], []
    for post, words, patch, verdict, also in PROGRAMS:
        number = any(
            f"data={name}" in words or f"{name}.csv" in words for name in ("sine", "linear", "peaks", "waves")
        )
        metric = "test/r2" if number else "test/accuracy"
        mended = changed(words, patch)
        try:
            refused = measured.refuses(words) or measured.refuses(mended)
            found = [] if refused else [measured.metrics(line, metric) for line in (words, mended)]
        except Unknown:
            unknown.append(post)
            continue
        if refused:
            print(f"{post}: refused", flush=True)
            mild.append(post)
            continue
        print(post, *found, flush=True)
        if not clear(*found, metric):
            mild.append(post)
            continue
        values = [",".join("diverged" if v is None else f"{v:.4g}" for v in x) for x in found]
        part = "held" if "data=xor" in words else "dev"  # as in faults.tsv
        head = [part, post, "deepfd", verdict, also, "-", words, patch, metric]
        rows.append([*head, *values, "rerun", f"{measured.seconds(words):.1f}"])
    return rows, mild, unknown
