"""torch as it is imported at its first use."""

import os
import subprocess
import sys

import pytest

from sampling import exhaustive_after

# The first logarithm of many processes, by two threads, beside the second one.
FIRST = """
import os, sys
from slipstream.core.lazy import torch

x = torch.linspace(0.01, 3, 8192)
wrong = 0
for _ in range(int(sys.argv[1])):
    if not (child := os.fork()):
        os._exit(not torch.equal(torch.log(x), torch.log(x)))
    wrong += os.waitpid(child, 0)[1] != 0
print(wrong)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs many fresh processes")
@pytest.mark.parametrize("processes", exhaustive_after(1, [100, 250]))
def test_the_first_logarithm_of_a_process_is_as_exact_as_any(processes):
    """MKL gave one of two threads a coarse one in 4 of 100 processes, and a run other first weights."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", FIRST, str(processes)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
