"""Tables as kept evidence: JSON by pandas' own table schema, which names the type of each column."""

from __future__ import annotations

import io
import json

import pandas as pd

from runbook_lib.errors import EvidenceError

SUFFIX = ".table.json"


def to_text(frame: pd.DataFrame) -> str:
    """A table with its types, without its index. Spelt as json does, so that a secret in it is found and taken out."""
    text = frame.reset_index(drop=True).to_json(orient="table", index=False, double_precision=15, date_unit="us")
    return json.dumps(json.loads(text), ensure_ascii=False, indent=1)


def from_text(text: str, name: str) -> pd.DataFrame:
    """The table that was kept. Raises EvidenceError where `name` holds none."""
    try:
        return pd.read_json(io.StringIO(text), orient="table")
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise EvidenceError(f"{name} is no table; it was edited or damaged ({wrong})") from None
