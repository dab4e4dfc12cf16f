"""Everyday work: commands, checks before a commit, checks on other machines, and the changelog."""

import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from slipstream.core.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
WORKFLOW = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
PRE_COMMIT = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
# What a checkout has without installing anything.
ALWAYS_THERE = {"python", "pip"}


def recipes(text):
    """The commands of every recipe of a justfile, by its name."""
    found, name = {}, None
    for line in text.splitlines():
        if head := re.fullmatch(r"([a-z_]+)( \*\w+)?:", line):
            name = head[1]
            found[name] = []
        elif line.startswith("    ") and name:
            found[name].append(line.strip().removeprefix("@"))
    return found


RECIPES = recipes((ROOT / "justfile").read_text(encoding="utf-8"))
COMMANDS = [command for name, commands in RECIPES.items() if name != "_list" for command in commands]
HOOKS = {hook["id"]: hook for repository in PRE_COMMIT["repos"] for hook in repository["hooks"]}


def installed(program):
    """Whether `just setup` installs a program, or a checkout has it."""
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in EXTRAS["test"] + EXTRAS["dev"]}
    return program in ALWAYS_THERE | names


def steps(job):
    """The commands that a job of the workflow runs."""
    return [step["run"] for step in yaml.safe_load(WORKFLOW)["jobs"][job]["steps"] if "run" in step]


def matrix(job):
    """The matrix of a job of the workflow."""
    return yaml.safe_load(WORKFLOW)["jobs"][job]["strategy"]["matrix"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_justfile_exists(command):
    """Its program is installed by `just setup`, and the files that it names are there."""
    words = command.split()
    assert installed(words[0]), words[0]
    for word in words[1:]:
        if re.fullmatch(r"[\w/]+\.\w+", word):
            assert (ROOT / word).exists(), word
    if "--cov" in words:
        assert installed("pytest-cov")


def test_the_justfile_is_read_as_just_reads_it():
    """Recipes and commands here are those that just sees."""
    if (just := shutil.which("just")) is None:
        pytest.skip("just is not installed: pip install -c constraints.txt -e '.[test]'")
    for name, commands in RECIPES.items():
        command = [just, "--justfile", ROOT / "justfile", "--dry-run", name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        assert [line.strip() for line in shown.splitlines()] == [
            re.sub(r" \{\{ \w+ \}\}", "", line) for line in commands
        ]


def test_contributing_says_every_command():
    """Each recipe stands in CONTRIBUTING as it is typed, and no other does."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bjust ([a-z]+)\b(?=[ `]|$)", text, re.M)) == {*RECIPES} - {"_list"}


def test_checks_before_a_commit_have_the_pinned_versions():
    """Hooks install what constraints.txt pins, or run what `just setup` installed."""
    assert set(HOOKS) == {"ruff-check", "ruff-format", "mypy", "trailing-whitespace"}
    for hook in HOOKS.values():
        for requirement in hook.get("additional_dependencies", ()):
            name, _, version = requirement.partition("==")
            assert version == PINS[name], hook["id"]
        if hook["language"] != "pygrep":
            assert installed(hook["entry"].split()[0]), hook["id"]


@pytest.mark.slow
def test_no_line_ends_in_blanks():
    """The hook for trailing whitespace finds nothing in the files that git has."""
    pattern = HOOKS["trailing-whitespace"]["entry"]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".txt"} and file.exists():
            assert not re.search(pattern, file.read_text(encoding="utf-8"), re.M), name


def test_the_workflow_tests_every_supported_version():
    """Pythons are those of pyproject.toml; torch is its lower bound, and the pinned one."""
    first, beyond = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups())
    oldest = next(re.findall(r"^torch>=(.+)$", line) for line in PROJECT["dependencies"] if "torch" in line)[
        0
    ]
    assert matrix("linux")["python"] == [f"3.{minor}" for minor in range(first, beyond)]
    assert matrix("linux")["torch"] == [f"{oldest}.0", PINS["torch"]]
    assert steps("linux")[-1] == "just everything"


def test_the_workflow_tests_other_systems_and_the_lowest_versions():
    """macOS and Windows run the fast tests, and so does Linux with the lowest versions."""
    assert matrix("fast")["system"] == ["macos-latest", "windows-latest"]
    assert steps("fast")[-1] == steps("lowest")[-1] == "just fast"
    assert any("--resolution lowest-direct" in step for step in steps("lowest"))


def test_the_workflow_runs_commands_of_the_justfile():
    """Whatever the workflow runs with just is a recipe."""
    named = re.findall(r"run: just (\w+)", WORKFLOW)
    assert named
    assert set(named) <= set(RECIPES)


def test_the_changelog_is_by_version_newest_first():
    """It begins with the package's version; versions fall; entries are grouped, in one order."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\d+)\.(\d+)\.(\d+) \(.+\)$", text, re.M)
    numbers = [tuple(map(int, version)) for version in versions]
    assert ".".join(versions[0]) == __version__
    assert numbers == sorted(numbers, reverse=True)
    for version in re.split(r"^## ", text, flags=re.M)[1:]:
        groups = re.findall(r"^### (.+)$", version, re.M)
        assert groups == [group for group in ("Added", "Changed", "Fixed") if group in groups]
        before = version.partition("### ")[0]
        assert not re.search(r"^- ", before, re.M), "an entry stands above Added, Changed and Fixed"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("## 0.2.0 (2026-12-01)\n", None),
        ("## 0.2.0 (unreleased)\n", "expected the date of the release"),
        ("## 0.1.0 (2026-12-01)\n", "begins with 0.1.0, expected 0.2.0"),
        ("# Changelog\n", "found no version"),
    ],
)
def test_a_release_needs_a_dated_changelog(text, problem):
    """The check of a release says what the changelog lacks."""
    check = runpy.run_path(str(ROOT / "scripts" / "check_release.py"))["changelog_problems"]
    found = list(check(text, "0.2.0"))
    assert found == [] if problem is None else problem in found[0]


def test_the_readme_has_the_table_of_options():
    """The table is what `just docs` would write."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rewritten = runpy.run_path(str(ROOT / "scripts" / "options_table.py"))["rewritten"]
    assert rewritten(text) == text, "the table of options is stale; run `just docs`"
    assert rewritten(text.replace(" adagrad adam ", " adagrad ")) == text
