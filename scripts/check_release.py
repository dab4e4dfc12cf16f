"""Check that the version in src/slipstream/core/version.py can be released.

    python scripts/check_release.py

The changelog begins with this version and a date, nothing is left uncommitted, the version has no tag
yet, and a wheel and a source distribution of it can be built. Exit code 1 with every problem, a line each.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slipstream.core.version import __version__

ROOT = Path(__file__).resolve().parents[1]


def changelog_problems(text: str, version: str) -> Iterator[str]:
    """What is wrong with the newest version of a changelog."""
    newest = re.search(r"^## (\S+) \((.+?)\)$", text, re.M)
    if newest is None:
        yield f"CHANGELOG.md: found no version, expected a heading like '## {version} (2026-01-31)'"
    elif newest[1] != version:
        yield f"CHANGELOG.md: begins with {newest[1]}, expected {version}, the version of core/version.py"
    elif not re.fullmatch(r"\d{4}-\d\d-\d\d", newest[2]):
        yield f"CHANGELOG.md: {version} is '{newest[2]}', expected the date of the release, as in 2026-01-31"


def git_problems(version: str) -> Iterator[str]:
    """What git says against a release."""
    if _output("git", "status", "--porcelain"):
        yield "git: there are uncommitted changes; commit them (`git status` lists them)"
    if _output("git", "tag", "--list", f"v{version}"):
        yield f"git: v{version} is tagged already; raise the version in src/slipstream/core/version.py"


def build_problems(version: str) -> Iterator[str]:
    """What the built package lacks."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        names = sorted(file.name for file in Path(folder).iterdir())
    expected = [f"slipstream-{version}-py3-none-any.whl", f"slipstream-{version}.tar.gz"]
    if built.returncode:
        yield f"build: failed; `python -m build` shows why: {built.stdout.strip().splitlines()[-1]}"
    elif names != expected:
        yield f"build: made {', '.join(names)}, expected {', '.join(expected)}"


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Print every problem, or how to go on."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    problems = [
        *changelog_problems(text, __version__),
        *git_problems(__version__),
        *build_problems(__version__),
    ]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{__version__} can be released: git tag v{__version__} && git push origin v{__version__}")


if __name__ == "__main__":
    main()
