"""What is told to inductor."""

from __future__ import annotations

import subprocess
import sys

import pytest

NORMS = """
import torch
from slipstream.training.compilation import prepare
from slipstream.training.step import two_norm

prepare()
prepare()
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
row = torch.randn(100_001, generator=generator)
for function in (torch.linalg.vector_norm, two_norm):
    torch.compiler.reset()
    norm = torch.compile(torch.vmap(function), fullgraph=True, dynamic=False)
    norms = {norm(row.expand(size, -1).contiguous())[size // 2].item() for size in (2, 3, 20, 21, 64)}
    print(len(norms), abs(norms.pop() / row.double().norm().item() - 1) < 1e-6)
"""


@pytest.mark.slow
def test_a_compiled_sum_does_not_depend_on_the_size_of_the_pack():
    """A member's norm has the same bytes in packs of 2 to 64, with two threads."""
    done = subprocess.run([sys.executable, "-c", NORMS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"] * 2  # six digits: float32, and a sum of 100,000 squares
