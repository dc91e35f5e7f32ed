"""The sentinel: one launchd job on the Mac that samples both gateways, and guards the canary with nobody connected.

It drains by itself when the operator's lease lapses or the canary's 5xx are certainly too many, and takes back a
change of nginx that nobody confirmed. What it did it writes down; collect.collect_events brings that into the ledger.
"""

from __future__ import annotations

import io
import math
import plistlib
from collections.abc import Iterable

import pandas as pd

from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.judging.pair import (
    BLOCK_CANARY_COUNT,
    BLOCK_COUNT,
    LARGE_COUNT,
    LARGE_SHARE,
    ODDS,
    PRIOR_LOOKS_RATIO,
    RESET_ODDS,
)
from runbook_lib.judging.ratios import bets_of
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, laid, sh
from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan
from runbook_lib.records.kinds import Act

SAMPLE_FIELDS = ["at", "gateway", "pid", "rss_kb", "cpu_pct", "ready_status", "ready_ms"]
SAMPLE_FIELDS += ["backlog_jobs", "in_flight_count"]
AT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


EVENT_FIELDS = ["at", "run", "event", "cause", "what"]


def propose_sentinel(mac: Mac) -> Proposal:
    """Put the sentinel, its configuration and its plist on the Mac, and start it anew unless this very one runs."""
    plan, folder = mac.plan, mac.plan.folder
    domain, plist = plan.runtime.launchd_domain, _plist_file(plan)
    files = {
        folder.sentinel: script("sentinel.sh"),
        f"{folder.bin}/guard.sh": script("guard.sh"),
        f"{folder.bin}/revert_nginx.sh": script("reload_nginx.sh") + script("revert_nginx.sh"),
        folder.sentinel_config: config(plan, mac.ledger.run),
        plist: _plist(plan),
    }
    return Proposal(
        Act.START_SENTINEL,
        "start the sentinel",
        laid(files, "start_sentinel.sh"),
        args=(domain, plan.sentinel_label, plist, folder.samples, folder.spare_drain),
        files={plist: ("", _plist(plan))},
        commands=(f"launchctl bootstrap {domain} {plist}",),
        undo=f"launchctl bootout {domain}/{plan.sentinel_label}; rm {plist}",
    )


def propose_removal(mac: Mac) -> Proposal:
    """Stop the sentinel and remove its plist; its samples stay until they are fetched."""
    plan = mac.plan
    plist = _plist_file(plan)
    return Proposal(
        Act.REMOVE_SENTINEL,
        "remove the sentinel",
        script("stop_job.sh") + script("remove_files.sh"),
        args=(plan.runtime.launchd_domain, plan.sentinel_label, "20", "", plist, plan.folder.lease),
        commands=(f"launchctl bootout {plan.runtime.launchd_domain}/{plan.sentinel_label}", f"rm {plist}"),
        undo="run step 4 again",
    )


def config(plan: Plan, run: str) -> str:
    """What sentinel.sh reads before each sample."""
    lines = [
        f"run={sh(run)}",
        f"every_s={plan.observation.sample_every_s:g}",
        f"samples={sh(plan.folder.samples)}",
        f"domain={sh(plan.runtime.launchd_domain)}",
        *(f"{name}={sh(path)}" for name, path in _files(plan).items()),
        f"canary={sh(plan.canary.address)}",
        f"primary={sh(plan.primary.address)}",
        f"columns='{' '.join(str(1 + LOG_FIELDS.index(f)) for f in ('upstream_addr', 'upstream_status'))}'",
        *_test(plan),
    ]
    lines += [sh("gateway", n, g.label, str(g.port), g.env_file) for n, g in plan.gateways.items()]
    return "\n".join([*lines, ""])


def _files(plan: Plan) -> dict[str, str]:
    return {
        "drain_file": plan.folder.drain,
        "lease": plan.folder.lease,
        "pending": plan.folder.pending,
        "events": plan.folder.events,
        "guarded": plan.folder.guarded,
        "slim_log": plan.nginx.slim_log,
    }


def _test(plan: Plan) -> list[str]:
    """The judge's test (judging/pair.py) in numbers, for as many looks as an observation has: one before each sample.

    The sentinel never goes by the plain rule: nobody is there to look whether a point estimate means anything.
    """
    thresholds, looks_count = plan.thresholds, looks_in(plan)
    bets = bets_of(thresholds)
    columns = (bets.share, bets.gain, bets.loss, bets.gain_healthy, bets.loss_healthy)
    limits = [bets.needed, bets.needed_of_stretch, looks_count, thresholds.healthy_error_ratio_pct / 100]
    limits += [PRIOR_LOOKS_RATIO, RESET_ODDS, BLOCK_COUNT, BLOCK_CANARY_COUNT, LARGE_SHARE, LARGE_COUNT]
    return [
        f"bets={_rows(zip(*columns, strict=True))}",
        f"odds={_rows((odds, math.log(share)) for odds, share in ODDS)}",
        f"limits={_rows([limits])}",
        f"error_pct={thresholds.error_ratio_pct:g}",
    ]


def looks_in(plan: Plan) -> float:
    """How often the sentinel looks at the log in a whole observation, but for the time that its samples take."""
    return plan.thresholds.observation_s / plan.observation.sample_every_s * len(plan.gateways)


def _rows(rows: Iterable[Iterable[float]]) -> str:
    return sh(";".join(" ".join(f"{number:.12g}" for number in row) for row in rows))


def parse_events(content: bytes) -> pd.DataFrame:
    """What the sentinel did by itself, as text: at, run, event (drained, not_drained, reverted), cause, what."""
    lines = content.decode(errors="replace").splitlines()
    rows = [parts for line in lines if len(parts := line.split("\t", 4)) == 5]
    return pd.DataFrame(rows, columns=EVENT_FIELDS)


def parse_samples(content: bytes) -> pd.DataFrame:
    """Samples as a table: at (aware UTC), gateway, pid, rss_mb, cpu_pct, ready (bool), ready_ms, backlog_jobs,
    in_flight_count; what could not be measured is NaN. A torn last line is left out.
    """
    whole = content[: content.rfind(b"\n") + 1]
    frame = pd.read_csv(
        io.BytesIO(whole),
        sep="\t",
        names=SAMPLE_FIELDS,
        dtype={"gateway": str},
        on_bad_lines="skip",
        encoding_errors="replace",
    )
    numbers = frame[SAMPLE_FIELDS[2:]].apply(pd.to_numeric, errors="coerce")
    frame = frame.assign(
        at=pd.to_datetime(frame["at"], utc=True, format=AT_FORMAT, errors="coerce"), **{c: numbers[c] for c in numbers}
    )
    frame = frame[frame["at"].notna() & frame["gateway"].isin(["primary", "canary"])]
    return frame.assign(rss_mb=frame["rss_kb"] / 1024, ready=frame["ready_status"] == 200).drop(
        columns=["rss_kb", "ready_status"]
    )


def _plist_file(plan: Plan) -> str:
    return f"{plan.canary.plist.rpartition('/')[0]}/{plan.sentinel_label}.plist"


def _plist(plan: Plan) -> str:
    return plistlib.dumps(
        {
            "Label": plan.sentinel_label,
            "ProgramArguments": ["/bin/sh", plan.folder.sentinel, plan.folder.sentinel_config],
            "RunAtLoad": True,
            "KeepAlive": True,
            "StandardErrorPath": plan.folder.sentinel_log,
            "StandardOutPath": plan.folder.sentinel_log,
        }
    ).decode()
