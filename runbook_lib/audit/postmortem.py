"""What happened, where, and what was done: a run, or all regions in a time range, told from the ledgers alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from runbook_lib.errors import EvidenceError
from runbook_lib.plan.reading import project_root
from runbook_lib.records import manifest
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run, runs, write_whole
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.show.page import drawn_weights, shown_time, step_rows, symbol
from runbook_lib.show.report import ENVIRONMENT
from runbook_lib.verdict import SEVERITY, Answer

FOLDER = "postmortems"
LEFT_OUT = (
    *(Kind.RUN_OPENED, Kind.STEP_OPENED, Kind.STEP_CLOSED, Kind.GATE_WAITING, Kind.JUDGED, Kind.FETCHED),
    *(Kind.PROPOSED, Kind.SKIPPED, Kind.KEPT, Kind.INTENT, Kind.EFFECT, Kind.CONFIRMED),
)
"""What only the timeline has; the rest is told: a verdict or the proof of a change says these again."""
TIMELINE = ["at", "region", "run", "step", "who", "event", "what", "notebook"]
DECISIONS = ["at", "region", "step", "answer", "who", "hops", "reason", "checks_count", "seal", "notebook"]
HOPS = ["region", "step", "hop", "answer", "checks_count", "reason"]


@dataclass(frozen=True)
class Story:
    """One run in a few sentences: what went wrong first, where, and what was done about it from then on."""

    region: str
    run: str
    answer: str
    happened: str
    where: str
    did: tuple[str, ...]
    stands: str


def choose(region: str, run: str = "", since: str = "", until: str = "") -> list[Run]:
    """One run of a region (its current one unless named), or with a time range every run that was busy in it.

    `region` may be `all`. Raises EvidenceError where nothing is found.
    """
    outputs = project_root() / "outputs"
    names = sorted(path.parent.name for path in outputs.glob("*/current")) if region == "all" else [region]
    first, last = _range(since, until)
    if since or until:
        found = [one for name in names for one in runs(name) if _events(one, first, last)]
    elif run:
        found = [one for name in names for one in runs(name) if one.name == run]
    else:
        found = [one for name in names if (one := Run.current(name))]
    if not found:
        asked = run or (f"between {first} and {last}" if since or until else "is open")
        raise EvidenceError(f"no run of {region} {asked}; `rollout status` names the runs")
    return found


def story(run: Run) -> Story:
    """What happened in a run. A run without a fault has nothing to tell but how far it came."""
    events = run.ledger().events()
    steps = step_rows(run.directory)
    passed = sum(row.state == Answer.PASS for row in steps)
    worst = next((row.state for row in steps if row.state not in (Answer.PASS, "not run")), str(Answer.PASS))
    bad = next((event for event in events if _is_bad(event)), None)
    weight = next((event for event in reversed(events) if event["event"] in (Kind.WEIGHT, Kind.DRAINED)), None)
    stands = f"{passed} steps have passed; {weight['what'] if weight else 'no weight was ever set'}"
    if bad is None:
        died = next((row for row in steps if row.state == "running"), None)
        said = f"{died.title} was begun and gave no verdict" if died else "nothing went wrong"
        return Story(run.region, run.name, worst, said, "", (), stands)
    later = [event for event in events if event["seq"] > bad["seq"]]
    did = [f"{_clock(e)} {e['who']}: {_told(e)}" for e in later if e["event"] not in LEFT_OUT and not _is_said_twice(e)]
    hops = ", ".join(bad["detail"].get("hops") or [])
    return Story(run.region, run.name, worst, f"{_clock(bad)} {bad['step']}: {_told(bad)}", hops, tuple(did), stands)


def timeline(found: Iterable[Run], since: str = "", until: str = "") -> pd.DataFrame:
    """Who did what: the events of these runs in order of time, but for renewals of the lease.

    One row an event: TIMELINE, at as aware UTC.
    """
    rows = [
        (e["at"], run.region, run.name, e["step"], e["who"], e["event"], _told(e), _link(run, e))
        for run in found
        for e in _events(run, *_range(since, until))
        if e["detail"].get("act") != Act.HOLD_LEASE
    ]
    frame = pd.DataFrame(rows, columns=TIMELINE)
    frame = frame.assign(at=pd.to_datetime(frame["at"], utc=True, format="ISO8601"))
    return frame.sort_values("at", kind="stable", ignore_index=True)


def decisions(found: Iterable[Run]) -> pd.DataFrame:
    """Every verdict, and every step of a promotion, with the seal that holds its evidence; columns DECISIONS."""
    rows = [
        (
            event["at"],
            run.region,
            event["step"],
            event["detail"]["answer"],
            event["who"],
            ", ".join(event["detail"].get("hops") or []),
            _told(event),
            len(event["detail"].get("checks") or []),
            _seal_of(run, event),
            _link(run, event),
        )
        for run in found
        for event in run.ledger().events(Kind.VERDICT, Kind.JUDGED)
    ]
    frame = pd.DataFrame(rows, columns=DECISIONS)
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True, format="ISO8601"))


def hops(found: Iterable[Run]) -> pd.DataFrame:
    """What each hop showed, step by step: the worst answer, how many checks, and its reason; columns HOPS."""
    rows = []
    for run in found:
        for event in run.ledger().events(Kind.VERDICT):
            checks = pd.DataFrame(event["detail"].get("checks") or [], columns=["hop", "answer", "reason"])
            for hop, part in checks.groupby("hop", sort=False):
                pairs = zip(part["answer"], part["reason"], strict=True)
                answer, reason = max(pairs, key=lambda pair: SEVERITY.index(Answer(pair[0])))
                rows.append((run.region, event["step"], hop, answer, len(part), reason if answer != "pass" else ""))
    return pd.DataFrame(rows, columns=HOPS)


def export(found: list[Run], since: str = "", until: str = "") -> tuple[Path, Path]:
    """Write the postmortem as one HTML file that needs nothing else, and as Markdown; returns both paths.

    They lie in outputs/postmortems, beside the sealed runs and not in one.
    """
    told = [story(run) for run in found]
    frames = {"decisions": decisions(found), "hops": hops(found), "timeline": timeline(found, since, until)}
    checks = {
        e["at"]: e["detail"].get("checks") or [] for r in found for e in r.ledger().events(Kind.VERDICT, Kind.JUDGED)
    }
    regions = list(dict.fromkeys(run.region for run in found))
    name = f"{'-'.join(regions)}-{min(run.name for run in found)}"
    folder = project_root() / "outputs" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    html = ENVIRONMENT.get_template("postmortem.html.j2").render(
        title=f"Postmortem: {', '.join(regions)}",
        stories=[(one, *drawn_weights(run.ledger().events())) for one, run in zip(told, found, strict=True)],
        **{name: frame.to_dict("records") for name, frame in frames.items()},
        checks={pd.Timestamp(at): rows for at, rows in checks.items()},
        when=lambda at: shown_time(at.isoformat()),
        symbol=symbol,
    )
    pages = folder / f"{name}.html", folder / f"{name}.md"
    write_whole(pages[0], html)
    write_whole(pages[1], _markdown(f"Postmortem: {', '.join(regions)}", told, frames))
    return pages


def stories(found: Iterable[Run]) -> pd.DataFrame:
    """What happened, one row a run: region, run, answer, happened, where, did, stands."""
    rows = [{**vars(one), "did": "; ".join(one.did) or "nothing"} for one in map(story, found)]
    return pd.DataFrame(rows, columns=list(Story.__dataclass_fields__))


def _markdown(title: str, told: list[Story], frames: dict[str, pd.DataFrame]) -> str:
    parts = [f"# {title}", "All times UTC."]
    for one in told:
        parts.append(f"## {one.region}, run {one.run}: {one.answer}")
        parts.append("\n".join(f"- **{name}** {_cell(text)}" for name, text in _sentences(one)))
        parts.append("\n".join(f"  {number}. {_cell(line)}" for number, line in enumerate(one.did, start=1)))
    headings = {
        "decisions": "Decisions and their evidence",
        "hops": "What each hop showed",
        "timeline": "Who did what",
    }
    for name, heading in headings.items():
        frame = frames[name]
        rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        lines = [list(frame.columns), ["---"] * len(frame.columns), *rows]
        parts += [f"## {heading}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _sentences(one: Story) -> list[tuple[str, str]]:
    did = f"{len(one.did)} things, below" if one.did else "nothing"
    return [
        ("What happened:", one.happened),
        ("Where:", one.where or "-"),
        ("What stands:", one.stands),
        ("What was done:", did),
    ]


def _cell(value: Any) -> str:
    """A value as Markdown text: what a log or a gateway said may not become markup."""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = str(value)
    if text.startswith("../") and text.endswith(".html"):
        return f"[notebook]({text})"
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return " ".join(text.split())


def _range(since: str, until: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """A time range as aware UTC; what is left out is open. Raises EvidenceError for what is no time."""
    try:
        first = pd.Timestamp(since or "1970-01-01")
        last = pd.Timestamp(until or "2200-01-01")
    except ValueError as wrong:
        raise EvidenceError(f"{wrong}; write times as 2026-05-06 or 2026-05-06T02:10") from None
    return tuple(at.tz_convert("UTC") if at.tzinfo else at.tz_localize("UTC") for at in (first, last))  # type: ignore[return-value]


def _events(run: Run, first: pd.Timestamp, last: pd.Timestamp) -> list[Event[Any]]:
    return [event for event in run.ledger().events() if first <= pd.Timestamp(event["at"]) <= last]


def _is_bad(event: Event[Any]) -> bool:
    return event["event"] == Kind.FAILED or event["detail"].get("answer") in (Answer.FAIL, Answer.INCONCLUSIVE)


def _is_said_twice(event: Event[Any]) -> bool:
    """The drain and its end are events of their own; a lease is renewed again and again."""
    return event["event"] == Kind.VERIFIED and event["detail"].get("act") in (Act.DRAIN, Act.UNDRAIN, Act.HOLD_LEASE)


def _told(event: Event[Any]) -> str:
    """An event in words: with its reasons, its why or its error where it has one."""
    detail = event["detail"]
    said = "; ".join(detail.get("reasons") or []) or detail.get("why") or detail.get("error") or ""
    answer = f"{detail['answer']}: " if "answer" in detail and said else ""
    return f"{answer}{said}" if answer else f"{event['what']}{f' ({said})' if said else ''}"


def _clock(event: Event[Any]) -> str:
    return str(event["at"])[:19].replace("T", " ")


def _link(run: Run, event: Event[Any]) -> str:
    """The executed notebook, from outputs/postmortems; empty where there is none."""
    page = run.directory / f"{event['step']}.html"
    return quote(f"../{run.region}/{run.name}/{page.name}") if event["step"] and page.exists() else ""


def _seal_of(run: Run, event: Event[Any]) -> str:
    """The first seal whose part of the ledger has this event; empty where none has."""
    content = (run.directory / manifest.LEDGER).read_bytes()
    for path in manifest.paths(run.directory):
        sealed = manifest.Manifest.from_bytes(path.read_bytes())
        if event["seq"] <= content[: sealed.ledger_bytes].count(b"\n"):
            return str(sealed.number)
    return ""
