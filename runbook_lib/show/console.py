"""Tables for a terminal or a CI log."""

from __future__ import annotations

import io
import shutil

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

WIDEST = 160


def text_table(frame: pd.DataFrame) -> str:
    """A frame as text that fits the terminal: long cells are wrapped, missing values are empty."""
    out = io.StringIO()
    Console(file=out, width=min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)).print(table_of(frame))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def table_of(frame: pd.DataFrame) -> Table:
    """The same as what rich draws."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in frame.columns:
        number = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        table.add_column(str(name), justify="right" if number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
