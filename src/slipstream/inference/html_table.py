"""Conversion of a terminal table to HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from rich.table import Table


def html_table(table: Table) -> str:
    """Return a terminal table as HTML."""
    heads = "".join(f'<th scope="col">{escape(str(column.header))}</th>' for column in table.columns)
    rows: Iterable[tuple[object, ...]] = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    caption = f"<caption>{escape(str(table.title))}</caption>" if table.title else ""
    return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
