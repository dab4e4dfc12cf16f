"""Run the Dockerfile's steps without Docker, in a new environment and a copy of what it would copy.

    python scripts/check_dockerfile.py                       # pip install and python train.py
    python scripts/check_dockerfile.py --target test         # the tests as well: minutes
    python scripts/check_dockerfile.py --set PIP_EXTRA_INDEX_URL=    # where torch's own index is out of reach

RUN and CMD see a clean virtual environment and none of this shell's variables; apt-get is left out, since it
changes the machine. Exit code 1 with the first step that fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Step(NamedTuple):
    """An instruction: its word in capitals and the rest of its line."""

    word: str
    rest: str


def stages(text: str) -> dict[str, list[Step]]:
    """Return the steps of each stage, those of the stage it begins from first; the last one is ''."""
    found: dict[str, list[Step]] = {}
    arguments: list[Step] = []
    name = None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            found[name] = list(found.get(image, arguments))
        elif name is None:
            arguments.append(Step(word, rest))
        else:
            found[name].append(Step(word, rest))
    return found


def ignored(name: str, patterns: list[str]) -> bool:
    """Return True if .dockerignore leaves a file out: by its path, a folder above it, or a name anywhere."""
    parts = name.split("/")
    paths = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for pattern in patterns:
        inner = pattern.removeprefix("**/")
        if any(fnmatch(path, pattern) for path in paths) or (
            inner != pattern and any(fnmatch(p, inner) for p in parts)
        ):
            return True
    return False


def copied(target: Path) -> None:
    """Copy what git has, but for what .dockerignore names, as COPY would."""
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if not ignored(name, patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run(steps: list[Step], folder: Path, fixed: dict[str, str]) -> None:
    """Run the steps in a folder; raises SystemExit at the first that fails."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    work = folder / "work"
    work.mkdir()
    variables = {"PATH": f"{folder / 'venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
    last = None
    for word, rest in steps:
        if word in ("ARG", "ENV"):
            for name, value in (pair.split("=", 1) for pair in shlex.split(rest)):
                variables[name] = fixed.get(name, re.sub(r"\$\{(\w+)\}", lambda at: variables[at[1]], value))
        elif word == "COPY":
            copied(work)
        elif word == "RUN" and "apt-get" in rest:
            print(f"left out: {rest}", flush=True)
        elif word == "RUN":
            call(["sh", "-c", rest], work, variables)
        elif word == "CMD":
            last = json.loads(rest)
    if last:
        call(last, work, variables)


def call(command: list[str], work: Path, variables: dict[str, str]) -> None:
    """Run one command; raises SystemExit if it fails."""
    print(f"$ {shlex.join(command)}", flush=True)
    if code := subprocess.run(
        ["env", "-i", *(f"{k}={v}" for k, v in variables.items()), *command], cwd=work
    ).returncode:
        sys.exit(f"Dockerfile: exit code {code} of {shlex.join(command)}")


def main() -> None:
    """Read the arguments and run a stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="", help="a stage; the last one by default")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="instead of an ENV or ARG"
    )
    given = parser.parse_args()
    found = stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    if given.target not in found:
        sys.exit(f"--target {given.target}: no such stage, expected one of {', '.join(filter(None, found))}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=os.name == "nt") as folder:
        run(found[given.target], Path(folder), dict(pair.split("=", 1) for pair in given.set))
    print("every step of the Dockerfile ended with 0")


if __name__ == "__main__":
    main()
