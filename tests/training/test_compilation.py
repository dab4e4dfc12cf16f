"""What is told to inductor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slipstream.core import kernels
from slipstream.training.backend.compilation import cache_problem, settings

NORMS = """
import torch
from slipstream.training.backend.compilation import Compiled, prepare
from slipstream.training.step import two_norm

prepare()
prepare()
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
row = torch.randn(100_001, generator=generator)
for function in (torch.linalg.vector_norm, two_norm):
    packs = [row.expand(size, -1).contiguous() for size in (2, 21, 64)]
    norms = {Compiled(torch.vmap(function))(pack)[len(pack) // 2].item() for pack in packs}
    print(len(norms), abs(norms.pop() / row.double().norm().item() - 1) < 1e-6)
"""


@pytest.mark.slow
def test_a_compiled_sum_does_not_depend_on_the_size_of_the_pack():
    """A member's norm has the same bytes in packs of 2 to 64, with two threads."""
    done = subprocess.run([sys.executable, "-c", NORMS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"] * 2  # six digits: float32, and a sum of 100,000 squares


COMMANDS = """
import os, threading
from slipstream.core import kernels
assert kernels.make_portable() is None
import torch
from slipstream.core.compat import cpp_builder
from slipstream.training.backend.compilation import Compiled

run = cpp_builder.run_compile_cmd
def told(cmd_line, cwd):
    print(*(word for word in cmd_line.split() if word.startswith("-march")))
    return run(cmd_line, cwd)
cpp_builder.run_compile_cmd = told
def compiled(n):
    Compiled(lambda a, b: (a.softmax(0) @ b).cumsum(1).tanh().sum())(torch.ones(n, n), torch.ones(n, n))
thread = threading.Thread(target=compiled, args=(64,))
thread.start()
thread.join()
compiled(32)
"""


@pytest.mark.slow
def test_portable_code_is_compiled_for_all_processors_in_every_thread(tmp_path):
    """torch's options belong to a thread: inductor's workers and a second one would not see them."""
    pytest.importorskip("torch", minversion="2.13")
    path = os.pathsep.join(sys.path)
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    environment |= {"TORCHINDUCTOR_FX_GRAPH_CACHE": "0"}
    for name in ("MKL_CBWR", "ATEN_CPU_CAPABILITY"):
        environment.pop(name, None)
    command = [sys.executable, "-c", COMMANDS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert set(done.stdout.split()) == {"-march=x86-64-v3"}


UNUSABLE = """
import sys
from pathlib import Path
import slipstream
from harness import small

result = slipstream.train(small("trainer.compile=true"), Path(sys.argv[1]))
print(result.status)
"""


@pytest.mark.exhaustive  # what is found wrong and done instead is tested below
def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    """A file where inductor wants a folder: the run goes on in one of its own, which goes with it."""
    wrong = tmp_path / "file"
    wrong.write_text("")
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(wrong), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", UNUSABLE, str(tmp_path / "run")]
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == "finished"
    assert not list(tmp_path.glob("slipstream-*"))


def test_what_is_wrong_with_the_cache_is_said(tmp_path, monkeypatch):
    """The folder, the system's reason, and what to do."""
    wrong = tmp_path / "file"
    wrong.write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(wrong))
    cache_problem.cache_clear()
    problem = cache_problem()
    assert problem.startswith(f"{wrong}: File exists")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] != str(wrong)
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_dir()
    cache_problem.cache_clear()
    assert cache_problem() is None
    cache_problem.cache_clear()


def test_code_for_other_instructions_has_another_key(monkeypatch):
    """Inductor's own key does not tell for which vector registers code is."""
    keys = []
    for capability in ("AVX2", "AVX512"):
        monkeypatch.setattr(kernels, "capability", lambda capability=capability: capability)
        with settings():
            keys.append(torch.compiler.config.cache_key_tag)
    assert keys[0] != keys[1]


POOLING = """
import torch
from slipstream.training.backend.compilation import Compiled

pool = lambda x: torch.nn.functional.max_pool2d(x, 2).sum()
print(Compiled(pool)(torch.ones(1, 1, 4, 4)).item())
"""


@pytest.mark.slow
def test_pooling_can_be_the_first_that_is_compiled():
    """Its decomposition uses a module of inductor that it does not load."""
    done = subprocess.run([sys.executable, "-c", POOLING], capture_output=True, text=True, check=False)
    assert done.stdout == "4.0\n", done.stderr
