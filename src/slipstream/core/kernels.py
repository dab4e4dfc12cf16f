"""With which of their kernels MKL and torch compute. They have to be told before they compute anything.

By itself MKL chooses a kernel by the addresses of matrices, too, and kernels round differently: a member's
bytes would depend on its place in a pack (docs/decisions/0038). The variable MKL_CBWR asks for one that does
not. MKL reads it at its first call, so it may be set as long as torch has not computed anything; so does
torch with ATEN_CPU_CAPABILITY, which decides between AVX2 and AVX-512.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from slipstream.core import compat

VARIABLE, INSTRUCTIONS = "MKL_CBWR", "ATEN_CPU_CAPABILITY"
# The widest instructions of the processor; sums in one order whatever the address and the thread count.
USUAL = "AUTO,STRICT"
STRICT = 1 << 16
NONE = ""  # no mode: what runs had before there was a choice
CODES = {1: NONE, 2: "AUTO", 3: "COMPATIBLE", 4: "SSE2", 7: "SSE4_1", 8: "SSE4_2", 10: "AVX2"}
CODES |= {12: "AVX512", 14: "AVX512_E1"}
MODES = (*CODES.values(), *(f"{name},STRICT" for name in CODES.values() if name))


# The kernels that all processors with AVX2 have, Intel's and AMD's.
PORTABLE = {VARIABLE: "COMPATIBLE", INSTRUCTIONS: "avx2"}


def choose() -> None:
    """Ask for the usual mode unless the environment has another one (an empty one is none)."""
    os.environ.setdefault(VARIABLE, USUAL)


def asked() -> str:
    """The mode that the environment asks for."""
    return os.environ.get(VARIABLE, NONE)


def use(mode: object) -> None:
    """Ask for a recorded mode, whatever the environment has; what is none of MKL's is passed over."""
    if mode in MODES:
        os.environ[VARIABLE] = str(mode)


def mode() -> str | None:
    """The mode in effect, by its name: `NONE` where none is, None where torch has no MKL. Loads torch.

    Asking settles it, as MKL's first call does.
    """
    import torch

    if not torch.backends.mkl.is_available():
        return None
    with suppress(OSError, AttributeError):  # MKL may lie in a library of its own
        code = ctypes.CDLL(_library(torch.__file__)).mkl_serv_cbwr_get(-1)
        return CODES.get(code & (STRICT - 1), "AUTO") + ",STRICT" * bool(code & STRICT)
    return asked()


def capability() -> str:
    """The instructions that torch's own kernels use: DEFAULT, AVX2 or AVX512. Loads torch, and settles it."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def use_capability(recorded: object) -> None:
    """Ask for recorded instructions, whatever the environment has; torch takes those it is asked for even
    where the processor lacks them, so that AVX-512 is left to torch's own choice."""

    if recorded == "DEFAULT" or (recorded == "AVX2" and compat.is_avx2_supported()):
        os.environ[INSTRUCTIONS] = str(recorded).lower()
    elif recorded == "AVX512":
        os.environ.pop(INSTRUCTIONS, None)


def are_portable() -> bool:
    """Whether this process computes with the kernels of `PORTABLE`. Loads torch, and settles it."""
    return (mode(), capability()) == ("COMPATIBLE", "AVX2")


def make_portable() -> str | None:
    """Compute with the kernels of `PORTABLE` from now on; or why that cannot be, as the end of a sentence."""
    import torch

    if not torch.backends.mkl.is_available() or not compat.is_avx2_supported():
        return "needs a processor with AVX2, and a torch that has MKL"
    before = {name: os.environ.get(name) for name in PORTABLE}
    os.environ.update(PORTABLE)
    if are_portable():
        return None
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    wanted = " ".join(f"{name}={value}" for name, value in PORTABLE.items())
    return f"this process has computed with other kernels already; set {wanted} before Python starts"


def _library(package: str) -> str:
    name = "torch_cpu.dll" if sys.platform == "win32" else "libtorch_cpu.so"
    return str(Path(package).parent / "lib" / name)
