"""Tables for a notebook's page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["html_table"]

_LEFT = 'style="text-align:left"'


def html_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]
) -> str:
    """Write a table as HTML, aligned to the left, with everything escaped.

    Parameters
    ----------
    title : str
        What stands over it.
    head : sequence of str
        Titles of the columns; all empty for none.
    rows : iterable of sequence of str or (str, str)
        Cells; a pair has what is said when the mouse is over it.

    Returns
    -------
    str
    """
    lines: list[tuple[str, Sequence[str | tuple[str, str]]]] = [("th", head)] if any(head) else []
    lines += [("td", row) for row in rows]
    body = "".join(
        f"<tr>{''.join(_cell(tag, cell) for cell in cells)}</tr>" for tag, cells in lines
    )
    caption = f'<caption style="text-align:left;white-space:nowrap"><b>{html.escape(title)}</b>'
    return f"<table>{caption}</caption>{body}</table>"


def _cell(tag: str, cell: str | tuple[str, str]) -> str:
    text, said = (cell, "") if isinstance(cell, str) else cell
    title = f' title="{html.escape(said)}"' if said else ""
    return f"<{tag} {_LEFT}{title}>{html.escape(text)}</{tag}>"
