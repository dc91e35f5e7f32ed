"""What a notebook shows: banner, tables, diff, commands, settings, pictures.

Each answer is HTML for a browser and plain text for a console, in one object. Everything is escaped.
"""

from __future__ import annotations

import base64
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook_lib.verdict import SEVERITY, Answer, Check, Verdict

ROWS_SHOWN = 60
REASONS_SHOWN = 4
UNITS = {
    "ms": "ms",
    "s": "s",
    "pct": "%",
    "mb": "MB",
    "bytes": "bytes",
    "count": "count",
    "ratio": "ratio",
    "at": "UTC",
    "jobs": "jobs",
}


@dataclass(frozen=True)
class Mark:
    """How an answer looks: symbol and word carry it, colour only helps. White on `colour` is over 4.5:1."""

    symbol: str
    colour: str
    tint: str


MARKS = {
    Answer.PASS.value: Mark("✔", "#1a7f37", "rgba(26,127,55,.14)"),
    Answer.INCONCLUSIVE.value: Mark("?", "#8a5a00", "rgba(210,153,34,.18)"),
    Answer.FAIL.value: Mark("✘", "#c62828", "rgba(218,54,51,.16)"),
}

ENVIRONMENT = Environment(
    loader=PackageLoader("runbook_lib"),
    autoescape=True,
    undefined=StrictUndefined,
)
ENVIRONMENT.globals["marks"] = MARKS


class Shown:
    """HTML where it is understood, `text` everywhere else."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def banner(verdict: Verdict, title: str) -> Shown:
    """The verdict, large: word and symbol, the hop at fault, the first reasons, the count of each answer."""
    answer, reasons = verdict.answer.value, verdict.reasons
    hops = [hop.value for hop in verdict.hops]
    shown, more = reasons[:REASONS_SHOWN], max(0, len(reasons) - REASONS_SHOWN)
    given = [check.answer for check in verdict.checks]
    counts = ", ".join(f"{given.count(a)} {a.value}" for a in reversed(SEVERITY) if a in given) or "none"
    counts = f"Checks: {counts}" + (f"; plain rule, no confidence: {', '.join(verdict.plain)}" if verdict.plain else "")
    title = f"{verdict.action}: {title}" if verdict.action else title
    lines = [f"{MARKS[answer].symbol} {answer.upper()}  {title}"]
    lines += [f"  look at: {', '.join(hops)}"] * bool(hops) + [f"  - {reason}" for reason in shown]
    lines += [f"  - and {more} more in the table of checks"] * bool(more) + [f"  {counts}"]
    return Shown(_render("banner", answer, title, hops, shown, more, counts), "\n".join(lines))


def checks_table(verdict: Verdict) -> Shown:
    """One row a check, failing first, each with its reason and what to do."""
    rows = sorted(verdict.checks, key=lambda check: -SEVERITY.index(check.answer))
    return Shown(_render("checks", rows), "\n".join(map(_check_line, rows)) or "no check was made")


def table(frame: pd.DataFrame, caption: str = "", rows_shown: int = ROWS_SHOWN) -> Shown:
    """A frame for reading: units in the headers, numbers right-aligned, times short and in UTC.

    The unit is the end of a column's name (`duration_ms` -> duration, ms). A named index becomes columns.
    """
    frame = frame.reset_index(drop=all(name is None for name in frame.index.names))
    head = frame.head(rows_shown)
    headers, columns = [], []
    for position, name in enumerate(head.columns):
        header, values = _column(str(name), head.iloc[:, position])
        headers.append(header)
        columns.append(values)
    rows = [list(zip(headers, row, strict=True)) for row in zip(*columns, strict=True)]
    note = f"the first {rows_shown} of {len(frame)} rows" if len(frame) > rows_shown else ""
    titles = [f"{header['name']} {header['unit']}".strip() for header in headers]
    plain = pd.DataFrame(dict(enumerate(columns))).set_axis(titles, axis=1) if rows else "no rows"
    text = plain if isinstance(plain, str) else plain.to_string(index=False)
    parts = [caption] * bool(caption) + [text] + [note] * bool(note)
    return Shown(_render("table", caption, headers, rows, note), "\n".join(parts))


def diff(before: str, after: str, filename: str) -> Shown:
    """What a change does to a file, as a unified diff; + and - are text, so that colour is not needed."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
    changed = list(lines)
    return Shown(
        _render("diff", filename, changed),
        "\n".join([filename + ": no change" * (not changed), *changed]),
    )


def commands(lines: Sequence[str]) -> Shown:
    """The exact commands, in order, ready to be copied."""
    text = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
    return Shown(_render("commands", list(lines)), text or "no command: nothing to do")


def settings(mapping: Mapping[str, Any]) -> Shown:
    """Every effective setting, one a row, keys joined with dots, folded away in HTML. Secrets are references here."""
    rows = [(key, _setting(value)) for key, value in _flat(mapping)]
    return Shown(_render("settings", rows), "\n".join(f"{key}: {value}" for key, value in rows))


def picture(drawn: Axes | Figure, alt: str, width_px: int = 560) -> Shown:
    """A plot as a PNG with a text for who cannot see it; sharp on a phone."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert figure is not None, "the axes belong to no figure"
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    return Shown(_render("picture", base64.b64encode(file.getvalue()).decode(), alt, width_px), alt)


def together(*parts: Shown) -> Shown:
    """Several of these as one, for the last line of a cell."""
    html = "".join(f'<div style="margin:0 0 1em">{part.html}</div>' for part in parts)
    return Shown(html, "\n\n".join(part.text for part in parts))


def _render(macro: str, *args: Any) -> str:
    html: Markup = getattr(ENVIRONMENT.get_template("report.html.j2").module, macro)(*args)
    return str(html)


def _word(check: Check) -> str:
    return check.answer.upper() + (f" ({check.action})" if check.action and check.answer is Answer.FAIL else "")


def _check_line(check: Check) -> str:
    do = f"  do: {check.remedy}" if check.remedy and check.answer is not Answer.PASS else ""
    mark = MARKS[check.answer.value].symbol
    return f"{mark} {_word(check):<12} {check.name}: {check.reason} [{check.hop.value}]{do}"


def _column(name: str, values: pd.Series[Any]) -> tuple[dict[str, str], list[str]]:
    """A column's header (name, unit, align) and its values as text."""
    stem, _, end = name.rpartition("_")
    unit = UNITS.get(end, "") if stem else UNITS.get(name, "") if name == "at" else ""
    title = (stem if unit and stem else name).replace("_", " ")
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        times = values.dt.tz_convert("UTC")
        days = times.dt.strftime("%Y-%m-%d").dropna().unique()
        form, unit = ("%H:%M:%S", f"UTC, {days[0]}") if len(days) == 1 else ("%m-%d %H:%M:%S", "UTC")
        return _header(title, unit, "left"), times.dt.strftime(form).fillna("–").to_list()
    if pd.api.types.is_bool_dtype(values):
        values = values.astype(object).map({True: "yes", False: "no"})
    if pd.api.types.is_numeric_dtype(values):
        places = _places(values) if pd.api.types.is_float_dtype(values) else 0
        text = ["–" if pd.isna(value) else f"{value:.{places}f}" for value in values]
        return _header(title, unit, "right"), text
    return _header(title, unit, "left"), [_text(value, str(value)) for value in values]


def _text(value: Any, text: str) -> str:
    return "–" if pd.api.types.is_scalar(value) and pd.isna(value) else text


def _header(name: str, unit: str, align: str) -> dict[str, str]:
    return {"name": name, "unit": unit, "align": align}


def _places(values: pd.Series[float]) -> int:
    """Decimals for a column: none for whole numbers, else about three digits of its largest value."""
    known = values.dropna().abs()
    if known.empty or (known % 1 == 0).all():
        return 0
    largest = known.max()
    return 1 if largest >= 100 else 2 if largest >= 1 else 4


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _setting(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
