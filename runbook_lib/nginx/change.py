"""The canary's weight in nginx: proposed as text, proven by the revision that new connections answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib.errors import ActionFailed
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, sh, staged
from runbook_lib.nginx.asking import probe_nginx, probe_pulse
from runbook_lib.nginx.rendering import render
from runbook_lib.onmac import script
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.ssh.host import Completed

RELOAD_LIMIT_S = 5  # a reload that is not visible to new connections after this long has failed
RAMP_POINTS_PCT = 5.0  # a controller's stand-in for slow_start: at most this many points at a time


def propose_weight(mac: Mac, weight_pct: float) -> Proposal:
    """One weight; see propose_weights."""
    return propose_weights(mac, [weight_pct])[0]


def propose_weights(mac: Mac, weights: Sequence[float]) -> list[Proposal]:
    """Render nginx for each of these weights and reload it, one after the other, each proven by new connections.

    Each begins from what the one before leaves and writes only what differs. Raises ActionFailed where the
    configuration on disk is broken already or the server block cannot be edited.
    """
    nginx, pulse = probe_nginx(mac), probe_pulse(mac)
    if nginx.configuration is None:
        raise ActionFailed(f"{mac.host.name}: nginx -t fails before any change: {nginx.test_text}. Mend that first")
    attempt = len(mac.ledger.events(Kind.DRAINED))
    running, files = pulse.revision, nginx.configuration.files
    proposals = []
    for weight_pct in weights:
        wanted = render(mac.plan, nginx.configuration, weight_pct, nginx.has_slow_start, attempt, nginx.default_log)
        differing = {path: text for path, text in wanted.files.items() if files.get(path, "") != text}
        is_kept = running == wanted.revision and pulse.unconfirmed != running
        proposals.append(
            propose_files(
                mac,
                f"set the canary's weight to {weight_pct:g} %",
                files,
                differing or wanted.files,
                expect=wanted.revision,
                undo=f"the weight before ({running or 'no managed configuration'}), or a drain at once",
                facts={"weight_pct": weight_pct, "revision": wanted.revision, "revision_before": running},
                done_already=f"{wanted.revision} runs already" if is_kept else "",
            )
        )
        running, files = wanted.revision, {**files, **wanted.files}
    return proposals


def propose_files(
    mac: Mac,
    what: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    expect: str,
    undo: str,
    facts: Mapping[str, Any],
    done_already: str = "",
) -> Proposal:
    """Change nginx's files to `after` (an empty text removes the file) and prove that revision `expect` runs.

    Unless it is confirmed in time, the sentinel takes it back; where none runs, the facts say that it is `unwatched`.
    """
    section = mac.plan.nginx
    pending = mac.plan.folder.pending
    watcher = f"{mac.plan.runtime.launchd_domain}/{mac.plan.sentinel_label}"
    body = (
        staged(after)
        + "change() {\n"
        + script("reload_nginx.sh")
        + script("change_nginx.sh")
        + '}\nchange "$@"\nstatus=$?\nrm -rf "$stage"\nreturn $status\n'
    )
    words = [section.binary, section.conf, section.pid_file, section.error_log]
    sudo = f"{section.sudo_words} ".lstrip()
    return Proposal(
        Act.CONFIGURE_NGINX,
        what,
        f"# {what}\n{body}",
        args=(
            *(*words, str(section.probe_port), expect, str(RELOAD_LIMIT_S), section.sudo_words),
            *(pending, watcher, f"{mac.plan.lease.confirm_s:.0f}"),
        ),
        files={path: (before.get(path, ""), text) for path, text in after.items()},
        commands=(
            f"{sudo}{section.binary} -t -c {section.conf}",
            f"{sudo}kill -HUP $(cat {section.pid_file})",
            f"curl http://127.0.0.1:{section.probe_port}/__rollout   # until 5 in a row answer {expect}",
        ),
        proof=_prove_reload,
        undo=undo,
        facts=facts,
        done_already=done_already,
        confirmation=f"set -- {sh(pending, expect, str(section.probe_port))}\n{script('confirm_nginx.sh')}",
    )


def _prove_reload(mac: Mac, done: Completed) -> Mapping[str, Any]:
    """The script's own proof: it fails closed, restores the files and says what it saw."""
    fields = done.fields()
    if fields.get("result") != "proven":
        raise ActionFailed(
            f"{mac.host.name}, nginx: the change was not made ({fields.get('result', 'no answer')}): "
            f"{mac.vault.redact(fields.get('detail', done.stderr))}"
        )
    return {
        "workers": fields["workers"].split(),
        "draining_workers_count": int(fields["draining"]),
        "took_s": round(done.duration_s, 3),
        **({"unwatched": fields["unwatched"]} if "unwatched" in fields else {}),
    }


def ramp(from_pct: float, to_pct: float, has_slow_start: bool) -> list[float]:
    """The weights on the way up: one where nginx has slow_start, else at most RAMP_POINTS_PCT at a time.

    >>> ramp(0, 12, False)
    [4.0, 8.0, 12.0]
    """
    if has_slow_start or to_pct <= from_pct:
        return [to_pct]
    count = math.ceil((to_pct - from_pct) / RAMP_POINTS_PCT)
    return [round(from_pct + (to_pct - from_pct) * n / count, 2) for n in range(1, count + 1)]
