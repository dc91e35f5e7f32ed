"""The sentinel: one launchd job on the Mac that samples both gateways, whether or not anybody is connected."""

from __future__ import annotations

import io
import plistlib

import pandas as pd

from runbook_lib.mac import Mac
from runbook_lib.onmac import script
from runbook_lib.plan import Plan
from runbook_lib.proposal import Proposal, sh

SAMPLE_FIELDS = ["at", "gateway", "pid", "rss_kb", "cpu_pct", "ready_status", "ready_ms"]
SAMPLE_FIELDS += ["backlog_jobs", "in_flight_count"]
AT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def label(plan: Plan) -> str:
    return f"{plan.canary.label}.sentinel"


def samples_file(plan: Plan) -> str:
    return f"{plan.host.runbook_dir}/samples.tsv"


def propose_sentinel(mac: Mac) -> Proposal:
    """Put the sentinel, its configuration and its plist on the Mac, and start it anew."""
    plan = mac.plan
    folder, domain = plan.host.runbook_dir, plan.runtime.launchd_domain
    plist = f"{plan.canary.plist.rpartition('/')[0]}/{label(plan)}.plist"
    return Proposal(
        "start the sentinel",
        "# start the sentinel\n"
        f"umask 077\ncat >\"$1/bin/sentinel.sh\" <<'END_OF_SENTINEL'\n{script('sentinel.sh')}END_OF_SENTINEL\n"
        f"cat >\"$1/sentinel.conf\" <<'END_OF_CONFIG'\n{config(plan)}END_OF_CONFIG\n"
        f"cat >\"$4\" <<'END_OF_PLIST'\n{_plist(plan)}END_OF_PLIST\n"
        'chmod 755 "$1/bin/sentinel.sh" && chmod 644 "$4" || return 1\n'
        'launchctl bootout "$2/$3" >/dev/null 2>&1\n'
        "tries=0\n"
        'until launchctl bootstrap "$2" "$4" >/dev/null 2>&1 || launchctl print "$2/$3" >/dev/null 2>&1; do\n'
        '    tries=$((tries + 1)); [ "$tries" -lt 40 ] || return 1; sleep 0.5\n'
        "done\n"
        "tries=0\n"
        'until [ -s "$1/samples.tsv" ]; do\n'
        '    tries=$((tries + 1)); [ "$tries" -lt 100 ] || return 1; sleep 0.1\n'
        "done\nprintf 'result\\tsampling\\n'\n",
        args=(folder, domain, label(plan), plist),
        files={plist: ("", _plist(plan))},
        commands=(f"launchctl bootstrap {domain} {plist}",),
        undo=f"launchctl bootout {domain}/{label(plan)}; rm {plist}",
    )


def propose_removal(mac: Mac) -> Proposal:
    """Stop the sentinel and remove its plist; its samples stay until they are fetched."""
    plan = mac.plan
    plist = f"{plan.canary.plist.rpartition('/')[0]}/{label(plan)}.plist"
    return Proposal(
        "remove the sentinel",
        script("stop_job.sh") + f"rm -f {sh(plist)}\n",
        args=(plan.runtime.launchd_domain, label(plan), "20"),
        commands=(f"launchctl bootout {plan.runtime.launchd_domain}/{label(plan)}", f"rm {plist}"),
        undo="run step 4 again",
    )


def config(plan: Plan) -> str:
    """What sentinel.sh reads before each sample."""
    lines = [
        f"every_s={plan.observation.sample_every_s:g}",
        f"samples={sh(samples_file(plan))}",
        f"domain={sh(plan.runtime.launchd_domain)}",
    ]
    lines += [sh("gateway", n, g.label, str(g.port), g.env_file) for n, g in plan.gateways.items()]
    return "\n".join([*lines, ""])


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


def _plist(plan: Plan) -> str:
    folder = plan.host.runbook_dir
    return plistlib.dumps(
        {
            "Label": label(plan),
            "ProgramArguments": ["/bin/sh", f"{folder}/bin/sentinel.sh", f"{folder}/sentinel.conf"],
            "RunAtLoad": True,
            "KeepAlive": True,
            "StandardErrorPath": f"{folder}/sentinel.log",
            "StandardOutPath": f"{folder}/sentinel.log",
        }
    ).decode()
