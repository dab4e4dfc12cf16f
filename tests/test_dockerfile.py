"""The Dockerfile, read as scripts/check_dockerfile.py reads it to run its steps without Docker."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECK = runpy.run_path(str(ROOT / "scripts" / "check_dockerfile.py"))
STAGES = CHECK["stages"]((ROOT / "Dockerfile").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["", "test"])
def test_an_image_runs_a_line_of_the_readme(stage):
    """Each image installs and runs what the README's line of set-up does, word by word."""
    runs = [rest for word, rest in STAGES[stage] if word == "RUN" and rest.startswith("pip")]
    (command,) = [rest for word, rest in STAGES[stage] if word == "CMD"]
    words = command.strip("[]").replace('"', "").split(", ")
    spoken = " ".join(f"'{word}'" if " " in word else word for word in words)
    assert f"{runs[-1]} && {spoken}" in README


def test_every_image_takes_torch_for_cpus_unless_told_otherwise():
    """The argument TORCH names torch's index, that of CPUs by default."""
    for steps in STAGES.values():
        assert ("ARG", "TORCH=cpu") in steps
        assert any(word == "ENV" and "whl/${TORCH}" in rest for word, rest in steps)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("src/slipstream/__init__.py", False),
        ("configs/train.yaml", False),
        ("src/slipstream/__pycache__/a.pyc", True),
        (".git/config", True),
        ("outputs/digits/summary.json", True),
        ("src/outputs/a.py", False),
        (".ruff_cache/x", True),
    ],
)
def test_what_stays_outside_of_the_image(name, left_out):
    """.dockerignore leaves caches, outputs and git's own files out, and no source."""
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert CHECK["ignored"](name, patterns) is left_out


def test_a_step_that_fails_ends_the_check(tmp_path):
    """The command and its exit code are told."""
    with pytest.raises(SystemExit, match="exit code 3 of sh -c 'exit 3'"):
        CHECK["call"](["sh", "-c", "exit 3"], tmp_path, {"PATH": "/usr/bin:/bin"})
