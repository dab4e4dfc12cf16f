"""The kernels that MKL and torch use. They must be chosen before the first computation.

By default, MKL also selects kernels by the addresses of matrices. Since kernels round differently, a member's
bytes would depend on its index in a pack (docs/decisions/0038). The variable MKL_CBWR requests kernels that
do not depend on addresses. MKL reads it at its first call, so it can be set until torch computes something.
The same holds for ATEN_CPU_CAPABILITY, which makes torch choose between AVX2 and AVX-512.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from slipstream.core import compat

VARIABLE, INSTRUCTIONS = "MKL_CBWR", "ATEN_CPU_CAPABILITY"
# The processor's widest instructions; the same summation order for any address and thread count.
USUAL = "AUTO,STRICT"
STRICT = 1 << 16
NONE = ""  # no mode, as in runs from before modes were recorded
CODES = {1: NONE, 2: "AUTO", 3: "COMPATIBLE", 4: "SSE2", 7: "SSE4_1", 8: "SSE4_2", 10: "AVX2"}
CODES |= {12: "AVX512", 14: "AVX512_E1"}
MODES = (*CODES.values(), *(f"{name},STRICT" for name in CODES.values() if name))


# Kernels that every processor with AVX2 has, Intel's and AMD's.
PORTABLE = {VARIABLE: "COMPATIBLE", INSTRUCTIONS: "avx2"}


def choose() -> None:
    """Request the default mode unless the environment sets one (an empty value means no mode)."""
    os.environ.setdefault(VARIABLE, USUAL)


def asked() -> str:
    """Return the mode that the environment requests."""
    return os.environ.get(VARIABLE, NONE)


def use(mode: object) -> None:
    """Request a recorded mode, overriding the environment. Ignore a value that is not a mode of MKL."""
    if mode in MODES:
        os.environ[VARIABLE] = str(mode)


def mode() -> str | None:
    """Return the mode in effect, `NONE` for no mode, or None if torch has no MKL.

    This loads torch and, like any call of MKL, fixes the mode.
    """
    import torch

    if not torch.backends.mkl.is_available():
        return None
    with suppress(OSError, AttributeError):  # MKL may be in a separate library
        code = ctypes.CDLL(_library(torch.__file__)).mkl_serv_cbwr_get(-1)
        return CODES.get(code & (STRICT - 1), "AUTO") + ",STRICT" * bool(code & STRICT)
    return asked()


def capability() -> str:
    """Return the instruction set of torch's kernels (DEFAULT, AVX2 or AVX512). Loads torch and fixes it."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def use_capability(recorded: object) -> None:
    """Request a recorded instruction set, overriding the environment.

    torch obeys even if the processor lacks the instructions, so only torch itself selects AVX-512.
    """
    if recorded == "DEFAULT" or (recorded == "AVX2" and compat.is_avx2_supported()):
        os.environ[INSTRUCTIONS] = str(recorded).lower()
    elif recorded == "AVX512":
        os.environ.pop(INSTRUCTIONS, None)


def are_portable() -> bool:
    """Return True if this process uses the kernels of `PORTABLE`. Loads torch and fixes the choice."""
    return (mode(), capability()) == ("COMPATIBLE", "AVX2")


def make_portable() -> str | None:
    """Switch to the kernels of `PORTABLE`. Return None, or the reason for a failure as a sentence's end."""
    import torch

    if not torch.backends.mkl.is_available() or not compat.is_avx2_supported():
        return "needs a processor with AVX2 and a build of torch with MKL"
    before = {name: os.environ.get(name) for name in PORTABLE}
    os.environ.update(PORTABLE)
    if are_portable():
        return None
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    wanted = " ".join(f"{name}={value}" for name, value in PORTABLE.items())
    return f"this process has already computed with other kernels; set {wanted} before starting Python"


def _library(package: str) -> str:
    name = "torch_cpu.dll" if sys.platform == "win32" else "libtorch_cpu.so"
    return str(Path(package).parent / "lib" / name)
