"""The two pages of a server, which load no other files: one to try the run, and one for its API."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path

from slipstream.core.types import Plain
from slipstream.core.wording import counted
from slipstream.data.messages import phrase
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving.fields import RunInputs
from slipstream.inference.serving.openapi import REFUSED, csv_example

STYLE = """
:root { color-scheme: light dark; --line: #d1d9e0; --card: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --card: #151b23 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.35rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } .scroll { overflow-x: auto }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; vertical-align: top;
 border-bottom: 1px solid var(--line) }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .7rem;
 white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
code { overflow-wrap: anywhere }
"""
PATHS = {
    "GET /": "a page to type values or drop a file",
    "POST /predict": "predictions; ?explain=true adds what moved each of them",
    "GET /health": "status of the server and the run that it serves",
    "GET /metrics": "counters and timings for Prometheus",
    "GET /docs": "this page",
    "GET /openapi.json": "the same for programs (OpenAPI)",
}


def about(ensemble: Ensemble) -> str:
    """Return a line that says what a run predicts, and from which inputs."""
    target = ensemble.target
    names = phrase(target.names, 3) if target.task != "multilabel" else "labels"
    told = phrase(target.classes, 4) if target.classes else "numbers"
    network = counted(len(ensemble.models), "network")
    return f"{target.task}: {names} ({told}), from {ensemble.first.preprocessing}; {network}"


def try_page(ensemble: Ensemble, inputs: RunInputs, most: int) -> tuple[str, str]:
    """Return the page to try the run, and its content security policy. most: bytes of a body."""
    shown = {
        "title": f"slipstream: {ensemble.path}",
        "about": about(ensemble),
        "layout": inputs.layout,
        "shape": inputs.shape,
        "fields": [vars(field) | {"told": field.told} for field in inputs.fields],
        "typed": _typed(inputs),
        "fit": ensemble.first.data.get("fit", "crop"),
        "most": most,
    }
    page, policy = _template()
    # Inside a script element, only `<` could end it.
    data = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")
    made = page.replace("{{TITLE}}", escape(shown["title"]), 1).replace("{{DATA}}", data, 1)
    return made, policy


def _typed(inputs: RunInputs) -> str:
    """Return the initial text of the page's one large field."""
    if inputs.layout == "texts":
        return str(inputs.fields[0].example)
    if inputs.layout == "steps":
        return csv_example(inputs)
    made = json.dumps(inputs.example)
    return made if len(made) < 20_000 else ""


@cache
def _template() -> tuple[str, str]:
    page = (Path(__file__).parent / "page.html").read_text("utf-8")
    scripts = _hashes(re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    # The script sets the bars' widths element by element, which style-src permits.
    styles = _hashes(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _hashes(texts: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def docs_page(
    ensemble: Ensemble, inputs: RunInputs, body: Mapping[str, Plain], answer: Plain, origin: str
) -> tuple[str, str]:
    """Return the page of the API, and its content security policy.

    body: the request body as OpenAPI describes it. answer: a real response. origin: the server's URL.
    """
    title = f"slipstream: the API of {ensemble.path}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<style>{STYLE}</style><title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>",
        f"<p>{escape(about(ensemble))}</p>",
        _table(("path", "gives"), PATHS.items()),
        "<h2>POST /predict</h2>",
        *(f"<pre>{escape(one)}</pre>" for one in commands(inputs, body["content"], origin)),
        "<p>Answer:</p>",
        f"<pre>{escape(json.dumps(answer, indent=1, ensure_ascii=False))}</pre>",
    ]
    if inputs.fields:
        rows = [
            (
                field.name,
                field.kind,
                _told(field.told, field.categories),
                json.dumps(field.example, ensure_ascii=False),
            )
            for field in inputs.fields
        ]
        parts += ["<h2>Columns</h2>", _table(("column", "kind", "training", "example"), rows)]
    parts += ["<h2>What is refused</h2>", _table(("status", "when"), REFUSED.items()), "</body></html>"]
    policy = f"default-src 'none'; style-src {_hashes([STYLE])}; img-src data:; frame-ancestors 'none'"
    return "\n".join(parts), policy


def commands(inputs: RunInputs, content: Mapping[str, Plain], origin: str) -> list[str]:
    """Return example command lines, one for each content type."""
    at, made = f"curl {origin}/predict", []
    if "example" in content.get("application/json", {}):
        example = json.dumps(content["application/json"]["example"], ensure_ascii=False)
        quoted = example.replace("'", "'\\''")
        made.append(f"{at} -H 'Content-Type: application/json' -d '{quoted}'")
    if "text/csv" in content:
        made.append(f"{at} -H 'Content-Type: text/csv' --data-binary @new.csv")
    if "text/plain" in content:
        made.append(f"{at} -H 'Content-Type: text/plain' --data-binary @lines.txt")
    if "image/png" in content:
        made.append(f"{at} -H 'Content-Type: image/png' --data-binary @one.png")
        made.append(f"{at} -F file=@one.png -F file=@another.jpg")
    return made


def _told(told: str, categories: tuple[str, ...]) -> str:
    return phrase(categories, 8) if categories else told


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
