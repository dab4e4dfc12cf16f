"""Bundled data: what scikit-learn's own loaders give, without importing scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from slipstream.core.registry import component


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer", "diabetes"])
def test_equals_scikit_learn(name):
    """Inputs, targets, class names and column names are those of scikit-learn's loader."""
    options = {"scaled": False} if name == "diabetes" else {}
    theirs = getattr(datasets, f"load_{name}")(**options)
    ours = component("data", name)()
    assert np.array_equal(ours.inputs.reshape(len(theirs.data), -1), theirs.data)
    assert np.array_equal(ours.targets.reshape(-1), theirs.target)
    assert list(ours.input_names) == (["brightness"] if name == "digits" else list(theirs.feature_names))
    if ours.target.classes:
        assert ours.target.classes == tuple(map(str, theirs.target_names))
    assert ours.target.task == component("data", name).traits.task


@pytest.mark.slow
def test_validation_imports_neither_torch_nor_polars_nor_scikit_learn():
    """Importing the data package and finding problems is fast: none of the heavy modules is loaded."""
    program = (
        "import sys, slipstream.data, slipstream.core.registry as r\n"
        "[c.settings for c in r.components('data').values()]\n"
        "assert not {'torch', 'polars', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_loading_digits_imports_neither_polars_nor_scikit_learn():
    """The default data cost no more memory than torch and the pixels."""
    program = (
        "import sys\nfrom slipstream.core.registry import component\ncomponent('data', 'digits')()\n"
        "assert not {'polars', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
