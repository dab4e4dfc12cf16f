"""The OpenAPI description of a run's requests and responses, with JSON schemas made from its columns."""

from __future__ import annotations

import json

from slipstream.core.types import Plain
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving.answers import AnswerWriter
from slipstream.inference.serving.fields import Field, RunInputs

TYPES = {
    "number": ["number"],
    "boolean": ["boolean"],
    "category": ["string", "number", "boolean"],
    "id": ["string", "number"],
    "step time": ["number", "string"],
}
REFUSED = {
    "400": "the body cannot be read: not JSON, not UTF-8, or a damaged file",
    "405": "the path does not accept this method",
    "408": "the body did not arrive in time",
    "413": "too many bytes, rows or pixels",
    "415": "a content type that this run does not accept",
    "422": "rows that do not fit the run's columns; `problems` lists rows and columns",
    "503": "too many requests are waiting",
}


def field_schema(field: Field) -> dict[str, Plain]:
    """Return the JSON schema of one value."""
    types = [*TYPES.get(field.kind, ["string"]), *(["null"] if field.optional else [])]
    made: dict[str, Plain] = {"type": types if len(types) > 1 else types[0]}
    if field.kind == "date":
        made["format"] = "date"
    told = f"{field.kind}; {field.told}" if field.told else field.kind
    if field.categories:
        shown = ", ".join(field.categories[:12])
        told = f"category, one of {shown}{' ...' if len(field.categories) > 12 else ''}"
        made["examples"] = list(field.categories[:12])
    else:
        made["examples"] = [field.example]
    return made | {"description": told}


def row_schema(inputs: RunInputs) -> dict[str, Plain]:
    """Return the JSON schema of one row, step, text or example of numbers."""
    if inputs.layout in ("numbers", "images"):
        number: dict[str, Plain] = {"type": "number"}
        if inputs.ids:
            number = {"type": "integer", "minimum": 0, "maximum": inputs.ids - 1}
        for size in reversed(inputs.shape):
            number = {"type": "array", "items": number, "minItems": size, "maxItems": size}
        return number
    made: dict[str, Plain] = {
        "type": "object",
        "properties": {field.name: field_schema(field) for field in inputs.fields},
        "required": [field.name for field in inputs.fields],
        "additionalProperties": False,
    }
    return {"anyOf": [{"type": "string"}, made]} if inputs.layout == "texts" else made


def request_body(inputs: RunInputs) -> dict[str, Plain]:
    """Return the request body of `/predict`: each content type with its schema and an example."""
    row, example = row_schema(inputs), inputs.example
    several = {"type": "array", "items": row, "minItems": 1}
    listed = example if isinstance(example, list) else [example]
    content: dict[str, Plain] = {}
    file = {"type": "string", "format": "binary"}
    form = {
        "schema": {"type": "object", "properties": {"file": {"type": "array", "items": file}}},
    }
    if inputs.layout == "steps":
        content["application/json"] = {"schema": several, "example": listed}
    else:
        content["application/json"] = {"schema": {"anyOf": [row, several]}}
        if len(json.dumps(example)) < 4000:
            content["application/json"]["example"] = example
    if inputs.layout == "images":
        content |= {kind: {"schema": file} for kind in ("image/png", "image/jpeg", "image/webp")}
    elif inputs.layout != "numbers":
        content["text/csv"] = {"schema": {"type": "string"}, "example": csv_example(inputs)}
    if inputs.layout == "texts":
        content["text/plain"] = {"schema": {"type": "string"}, "example": "a text\nanother text\n"}
    if inputs.layout != "numbers":
        content["multipart/form-data"] = form
    return {"required": True, "content": content}


def csv_example(inputs: RunInputs) -> str:
    """Return the example as a CSV file."""
    rows = inputs.example if isinstance(inputs.example, list) else [inputs.example]
    names = [field.name for field in inputs.fields]
    lines = [names, *([_cell(row[name]) for name in names] for row in rows)]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def _cell(value: Plain) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"' if set(word) & set(',"\r\n;\t|') else word


def answer_schema(ensemble: Ensemble) -> dict[str, Plain]:
    """Return the JSON schema of a response of `/predict`."""
    writer = AnswerWriter(ensemble)
    named = {
        "type": "object",
        "properties": {name: {"type": "number"} for name in writer.names},
        "required": list(writer.names),
    }
    one: dict[str, Plain] = {"type": "object", "required": ["prediction"]}
    if writer.task == "regression":
        one["properties"] = {"prediction": {"type": "number"} if len(writer.names) == 1 else named}
    else:
        label: dict[str, Plain] = {"enum": writer.labels}
        found = {"type": "array", "items": label} if writer.task == "multilabel" else label
        one["properties"] = {"prediction": found, writer.key: named}
        one["required"] = ["prediction", writer.key]
    change = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "replaced_by": {"type": "string"}, "change": named},
    }
    one["properties"] |= {
        "id": {"type": "string", "description": "the sequence's id"},
        "moved": {"type": "array", "items": change, "description": "with explain=true"},
    }
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "required": ["predictions"],
        "properties": {
            "predictions": {"type": "array", "items": one},
            "warnings": texts,
            "moved_by": {"type": "string"},
        },
    }


def refusal_schema() -> dict[str, Plain]:
    """Return the JSON schema of a refusal."""
    place = {
        "row": {"type": ["integer", "null"]},
        "column": {"type": ["string", "null"]},
        "message": {"type": "string"},
    }
    return {
        "type": "object",
        "required": ["detail"],
        "properties": {
            "detail": {"type": "string"},
            "problems": {"type": "array", "items": {"type": "object", "properties": place}},
        },
    }


def responses(ensemble: Ensemble) -> dict[int | str, dict[str, Plain]]:
    """Return the responses of `/predict` by status."""
    refused = {"application/json": {"schema": refusal_schema()}}
    good = {
        "description": "A prediction for each row",
        "content": {"application/json": {"schema": answer_schema(ensemble)}},
    }
    made: dict[int | str, dict[str, Plain]] = {200: good}
    for code, told in REFUSED.items():
        made[int(code)] = {"description": told, "content": refused}
    return made
