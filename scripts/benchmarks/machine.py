"""What a measurement was made with, and how to get the peers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence

import torch

import slipstream

PACKAGES = ("torch", "lightning", "keras", "jax", "skorch", "scikit-learn", "pandas", "pyarrow")
HOW_TO = """\
Peers need an environment of their own:
    python -m venv /tmp/peers && /tmp/peers/bin/pip install -c constraints.txt '.[bench]'
and then --peers /tmp/peers/bin/python"""


def described(device: str) -> str:
    """Processor, cores, threads, load and our versions, in a line."""
    where = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{where}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"slipstream {slipstream.__version__}, load {os.getloadavg()[0]:.2f}"
    )


def versions(python: str, packages: Sequence[str] = PACKAGES) -> str:
    """Those of the peers' packages; ends the program where one is missing."""
    code = f"""from importlib.metadata import version
print(*(f"{{name}} {{version(name)}}" for name in {tuple(packages)}), sep=", ")"""
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{error}\n{HOW_TO}")
    if found.returncode:
        sys.exit(f"{found.stderr.splitlines()[-1]}\n{HOW_TO}")
    return found.stdout.strip()


def _processor() -> str:
    """Its name, where Linux tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
