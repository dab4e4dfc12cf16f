"""What is shipped: the wheel works from anywhere, and the pinned versions are those of the project."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_code_configs_and_license(wheel):
    """Every module, every YAML and py.typed are in the wheel, and no test, cache or output."""
    names = set(zipfile.ZipFile(wheel).namelist())
    source, yamls = ROOT / "src", ROOT / "configs"
    modules = {str(file.relative_to(source)) for file in source.glob("*/**/*.py")}  # without conftest.py
    configs = {f"slipstream/configs/{file.relative_to(yamls)}" for file in yamls.rglob("*.yaml")}
    typed = {"slipstream/py.typed"}  # tells type checkers that the package is annotated (PEP 561)
    pages = {str(file.relative_to(source)) for file in source.glob("slipstream/**/*.html")}
    assert modules | configs | typed | pages <= names
    rest = names - modules - configs - typed - pages
    assert all(".dist-info/" in name for name in rest), rest
    assert any(name.endswith("LICENSE") for name in rest)


@pytest.mark.slow
def test_the_installed_command_finds_its_configs_from_an_empty_folder(wheel, tmp_path):
    """Installed elsewhere, `slipstream` composes, lists and refuses without the checkout."""
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True)

    def command(*arguments):
        return subprocess.run(
            [sys.executable, target / "bin" / "slipstream", *arguments],
            cwd=empty,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
        )

    assert f"path: {target}/slipstream/configs" in command("--cfg", "all", "seed=3").stdout
    assert "name: sgd" in command("--cfg", "job", "optimizer=sgd").stdout
    assert "0.999" in command("list", "optimizer", "adam").stdout
    refused = command("optimizer=adm")
    assert (refused.returncode, list(empty.iterdir())) == (2, [])
    assert "did you mean adam?" in refused.stderr


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_dependency_is_pinned_exactly():
    """constraints.txt has one plain version for each dependency of the project and its tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, pinned = project["optional-dependencies"], pins()
    needed = project["dependencies"] + extras["test"] + extras["dev"]
    for requirement in needed:
        name = re.match(r"[\w-]+", requirement)[0]
        assert re.fullmatch(r"[\d.]+", pinned[name]), name
        if "==" in requirement:
            assert requirement == f"{name}=={pinned[name]}"


@pytest.mark.slow
def test_everything_imported_is_declared():
    """Each library that the package imports stands in pyproject.toml: none comes by another's grace."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = chain(project["dependencies"], *project["optional-dependencies"].values())
    declared = {re.match(r"[\w-]+", requirement)[0].replace("-", "_").lower() for requirement in told}
    other_names = {
        "huggingface_hub": "datasets",
        "IPython": "ipykernel",
        "PIL": "pillow",
        "h11": "uvicorn",
        "hydra": "hydra_core",
        "mlflow": "mlflow_skinny",
        "sklearn": "scikit_learn",
        "starlette": "fastapi",
        "yaml": "pyyaml",
    }
    missing = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for top in {name.partition(".")[0] for name in names} - {"slipstream", *sys.stdlib_module_names}:
                if other_names.get(top, top).lower() not in declared:
                    missing.add(f"{file.relative_to(ROOT)}: {top}")
    assert not missing


def test_the_pythons_of_the_classifiers_are_those_that_are_required():
    """Classifiers name each minor version from the oldest to the newest, which the tests run on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, beyond = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())
    named = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", " ".join(project["classifiers"]))]
    assert named == list(range(first, beyond))


def test_readme_says_every_extra():
    """Whoever reads the README knows what can be installed besides."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = (ROOT / "README.md").read_text("utf-8").partition("| extra | brings |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", table, re.M)))
    assert set(named) == set(project["optional-dependencies"])


def test_the_pinned_torch_is_a_released_one():
    """Pins name no local build such as +cpu, which only one index has."""
    assert not any("+" in number for number in pins().values())


def test_the_license_is_whole():
    """LICENSE is the Apache License 2.0, from its title to its appendix."""
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_check_of_a_clone_runs_what_the_readers_are_told():
    """.ci/run is executable, stops at the first failure and leaves nothing behind."""
    script = ROOT / ".ci" / "run"
    text = script.read_text()
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text
    line = "pip install -c constraints.txt -e '.[test]' && pytest -m 'not exhaustive'"
    assert line in (ROOT / "README.md").read_text("utf-8")
    assert f"{line} || exit\npytest -m exhaustive\n" in text
    assert "trap 'rm -rf" in text
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_the_version_is_written_once():
    """The installed version is the package's."""
    import slipstream

    assert version("slipstream") == slipstream.__version__, "installed before: pip install -e . again"
