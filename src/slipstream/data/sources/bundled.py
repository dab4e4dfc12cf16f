"""Small real data sets bundled with scikit-learn.

The files are read directly, because `import sklearn.datasets` takes 1 s and 93 MB (measured), while reading
digits takes 0.01 s and 2 MB. tests/data/test_bundled.py compares the results with scikit-learn's own loaders.
"""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.core.types import Target
from slipstream.data.dataset import RawData

# scikit-learn's column names, which its loaders contain but not its files.
IRIS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
WINE = (
    *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
    *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue"),
    *("od280/od315_of_diluted_wines", "proline"),
)
CELL = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity"),
    *("concave points", "symmetry", "fractal dimension"),
)
BREAST_CANCER = tuple(
    [f"mean {part}" for part in CELL]
    + [f"{part} error" for part in CELL]
    + [f"worst {part}" for part in CELL]
)
DIABETES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


@register("data", task="multiclass", form="image")
def digits() -> RawData:
    """1,797 handwritten digits: 8x8 pixels from 0 to 16, ten classes.

    Inputs [N, 1, 8, 8]. Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits" (UCI,
    1998), its test set.
    """
    table, path = _read("digits.csv.gz")
    raw = _classes(table, ("brightness",), tuple("0123456789"), path)
    return replace(raw, inputs=table[:, :-1].reshape(-1, 1, 8, 8))


@register("data", task="multiclass")
def iris() -> RawData:
    """150 iris flowers: four lengths in cm, three species.

    Inputs [N, 4]. Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems" (1936).
    """
    table, path = _read("iris.csv", skip=1)
    return _classes(table, IRIS, ("setosa", "versicolor", "virginica"), path)


@register("data", task="multiclass")
def wine() -> RawData:
    """178 wines: thirteen chemical measurements, three growers.

    Inputs [N, 13]. Source: S. Aeberhard, M. Forina, "Wine" (UCI, 1991).
    """
    table, path = _read("wine_data.csv", skip=1)
    return _classes(table, WINE, ("class_0", "class_1", "class_2"), path)


@register("data", task="binary")
def breast_cancer() -> RawData:
    """569 tumors: thirty measurements of cell nuclei, malignant or benign.

    Inputs [N, 30]. Source: W. Wolberg et al., "Breast Cancer Wisconsin (Diagnostic)" (UCI, 1993).
    """
    table, path = _read("breast_cancer.csv", skip=1)
    return _classes(table, BREAST_CANCER, ("malignant", "benign"), path)


@register("data", task="regression")
def diabetes() -> RawData:
    """442 patients: ten measurements, the progression of diabetes after a year.

    Inputs [N, 10] in their raw units. Source: B. Efron et al., "Least angle regression" (2004).
    """
    inputs, path = _read("diabetes_data_raw.csv.gz", delimiter=None)
    targets, target_path = _read("diabetes_target.csv.gz")
    return RawData(
        inputs,
        DIABETES,
        targets[:, None],
        Target("regression", ("progression",)),
        sources=(path, target_path),
    )


def _classes(table: np.ndarray, names: tuple[str, ...], classes: tuple[str, ...], path: str) -> RawData:
    """Return rows whose last value is the class index."""
    target = Target("binary" if len(classes) == 2 else "multiclass", ("class",), classes)
    return RawData(table[:, :-1], names, table[:, -1].astype(np.int64), target, sources=(path,))


def _read(name: str, skip: int = 0, delimiter: str | None = ",") -> tuple[np.ndarray, str]:
    """Read a file of numbers from the installed scikit-learn, which is located but not imported."""
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"{name} comes with scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / name
    if not path.is_file():
        raise DataError(f"{path}: not found; scikit-learn should contain it but may have moved it")
    content = path.read_bytes()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).decode().splitlines()
    return np.loadtxt(lines, delimiter=delimiter, skiprows=skip), str(path)
