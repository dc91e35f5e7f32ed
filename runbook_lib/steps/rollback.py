"""The way back: traffic to primary, the canary stopped and set aside, the snapshot's nginx restored and proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from runbook_lib import matrix
from runbook_lib.gateway import openclaw
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.nginx.asking import Pulse, probe_nginx
from runbook_lib.nginx.change import propose_files
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.onmac import script
from runbook_lib.probes import probe_matrix
from runbook_lib.records.kinds import Act
from runbook_lib.steps import jobs, migration, sentinel, suspension
from runbook_lib.steps.snapshot import Snapshot
from runbook_lib.verdict import Check, Hop, passed_if


def propose_all(mac: Mac, taken: Snapshot, restore_primary: bool = False) -> list[Proposal]:
    """A rollback after the drain, in order: nginx as in the snapshot, canary and sentinel gone, primary restarted."""
    return [
        propose_nginx(mac, taken),
        suspension.propose_suspension(mac, "canary"),
        jobs.propose_stop(mac, "canary"),
        sentinel.propose_removal(mac),
        propose_aside(mac, taken),
        suspension.propose_suspension(mac, "primary"),
        *(propose_primary_state(mac, taken) if restore_primary else [jobs.propose_kickstart(mac, "primary")]),
    ]


def propose_nginx(mac: Mac, taken: Snapshot) -> Proposal:
    """The snapshot's nginx configuration, file by file, proven by what new connections answer."""
    nginx = probe_nginx(mac)
    now = nginx.configuration.files if nginx.configuration else {}
    then = snapshot_files(mac, taken)
    managed = [path for path in now if path.startswith(f"{mac.plan.nginx.managed_dir}/") and path not in then]
    changed = [path for path in {*now, mac.plan.nginx.server_file} if path in then and now.get(path) != then[path]]
    wanted = {**{path: then[path] for path in sorted(changed)}, **dict.fromkeys(managed, "")}
    http_conf = then.get(f"{mac.plan.nginx.managed_dir}/http.conf", "")
    expect = http_conf.partition("revision ")[2].partition(". ")[0] or "none"
    return propose_files(
        mac,
        "restore the snapshot's nginx configuration",
        now,
        wanted,
        expect=expect,
        undo="run step 4 again",
        facts={"files": sorted(wanted)},
        done_already="" if wanted else "nginx's files are the snapshot's",
    )


def snapshot_files(mac: Mac, taken: Snapshot) -> dict[str, str]:
    """The configuration files in the snapshot's tarball: path on the Mac to text."""
    folder = mac.plan.nginx.conf.rpartition("/")[0]
    done = mac.host.run(
        script("ask_tarball.sh"),
        taken.archive("nginx"),
        folder,
    )
    return Configuration.split(done.stdout)


def propose_aside(mac: Mac, taken: Snapshot) -> Proposal:
    """Move the canary's plist and state into the snapshot's folder: kept for the postmortem, out of launchd's sight."""
    section = mac.plan.canary
    return Proposal(
        Act.SET_ASIDE,
        "set the canary's plist and state aside",
        script("set_aside.sh"),
        args=(taken.directory, section.plist, section.state_dir, mac.plan.folder.drain),
        commands=(f"mv {section.plist} {section.state_dir} {taken.directory}/aside-N/", f"rm {mac.plan.folder.drain}"),
        undo=f"move both back from {taken.directory}/aside-N/",
    )


def propose_primary_state(mac: Mac, taken: Snapshot) -> list[Proposal]:
    """Primary's state as it was: only on request, since it forgets every delivery since the snapshot.

    Raises ActionFailed where primary's binary is older than the snapshot.
    """
    migration.refuse_archive(mac, "primary", taken.databases)
    section = mac.plan.primary
    restore = Proposal(
        Act.RESTORE_STATE,
        "restore primary's state",
        script("restore_state.sh"),
        args=(taken.archive("primary"), section.state_dir, *openclaw.command(mac.plan, section)),
        commands=(f"openclaw backup restore {taken.archive('primary')}", f"mv … {section.state_dir}"),
        undo=f"move {section.state_dir}.before-rollback-N back",
        timeout_s=600,
    )
    return [jobs.propose_stop(mac, "primary"), restore, jobs.propose_start(mac, "primary", after_stop=True)]


def probe_hashes(mac: Mac, taken: Snapshot) -> pd.DataFrame:
    """What is on the Mac now against the snapshot: asset, file, snapshot, now (hashes), same (bool)."""
    kept = taken.assets[(taken.assets["bytes"] == 0) & (taken.assets["asset"] != "canary")]
    paths = {str(row.path): (str(row.asset), str(row.path), str(row.sha256)) for row in kept.itertuples()}
    folder = mac.plan.nginx.conf.rpartition("/")[0]
    for row in taken.files[taken.files["asset"] == "nginx"].itertuples():
        path = f"{folder}/{str(row.file).removeprefix('./')}"
        paths[path] = ("nginx", path, str(row.restored))
    done = mac.host.run(script("ask_hashes.sh"), *paths)
    now = {path: digest for digest, _, path in (line.partition("  ") for line in done.stdout.splitlines())}
    rows = [(asset, path, digest, now.get(path, "absent")) for asset, path, digest in paths.values()]
    frame = pd.DataFrame(rows, columns=["asset", "file", "snapshot", "now"])
    return frame.assign(same=frame["snapshot"] == frame["now"])


def probe_primary(mac: Mac) -> pd.DataFrame:
    """Primary directly, and the public address from outside, without our configuration in between."""
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token)
    outside = matrix.ask_from_outside(mac.plan, token, matrix.REQUESTS)
    return pd.concat([probe_matrix(mac, ("primary",), through_nginx=False), outside], ignore_index=True)


def judge(hashes: pd.DataFrame, tested: Mapping[str, Any], pulse: Pulse) -> list[Check]:
    """Content as in the snapshot, no managed configuration left, the canary unknown to launchd."""
    differ = hashes[~hashes["same"]]
    return [
        passed_if(
            differ.empty and len(hashes) > 0,
            "content as in the snapshot",
            f"{len(hashes) - len(differ)} of {len(hashes)} files have the snapshot's hash"
            + (f"; not {differ.iloc[0]['file']}" if len(differ) else ""),
            Hop.HOST,
            "compare that file with the snapshot by hand",
        ),
        passed_if(
            tested["test_exit"] == 0,
            "nginx -t",
            f"nginx -t ended with {tested['test_exit']} {tested['test_text']}",
            Hop.NGINX,
        ),
        passed_if(
            pulse.weight_pct == 0, "canary's weight", f"the canary's weight is {pulse.weight_pct:g} %", Hop.NGINX
        ),
    ]
