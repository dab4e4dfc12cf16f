# The commands of everyday work; `just` lists them.

set windows-shell := ["powershell.exe", "-NoLogo", "-Command"]

_list:
    @just --list

# Install slipstream, its tests, and the checks that each commit has to pass
setup:
    pip install -c constraints.txt -e '.[test,dev]'
    pre-commit install

# Run the fast tests
fast *options:
    pytest -m 'not slow' {{ options }}

# Run the fast and the slow tests: every property, on some of its cases
test *options:
    pytest -m 'not exhaustive' {{ options }}

# Run all tests, on all of their cases
everything *options:
    pytest {{ options }}

# Check style and types
lint:
    ruff check
    ruff format --check
    mypy

# Write the README's table of options again, and follow every link of the documents
docs:
    python scripts/options_table.py
    pytest tests/test_docs.py

# Measure speed, beside plain loops and other libraries: `just bench --help`
bench *options:
    python scripts/bench.py {{ options }}

# Run the fast tests and print which lines they leave out
coverage:
    pytest -m 'not slow' --cov

# Check that the version can be released: changelog, tag, built package
release:
    python scripts/check_release.py
