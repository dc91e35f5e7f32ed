"""The canary's own things on the Mac: packages by primary's pins, a cloned state, an env file, a plist."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runbook_lib.errors import ActionFailed, PlanError
from runbook_lib.gateway import launchd, openclaw
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.mac.vault import Secret
from runbook_lib.onmac import function, script
from runbook_lib.plan.models import Plan
from runbook_lib.probes import probe_packages
from runbook_lib.ssh.host import Completed
from runbook_lib.verdict import Answer, Check, Hop, passed_if

INSTALL_LIMIT_S = 600


def propose_all(mac: Mac, archive: str) -> list[Proposal]:
    """Everything the canary needs on disk, in order; `archive` is primary's state in the snapshot."""
    return [propose_packages(mac), propose_state(mac, archive), propose_env_file(mac), propose_plist(mac)]


def propose_packages(mac: Mac) -> Proposal:
    """npm-install the canary into its own prefix, from primary's lock file or exact version."""
    plan = mac.plan
    packages = probe_packages(mac)
    wanted = plan.runtime.canary_version
    installed = packages.set_index("package")["canary"].get(plan.runtime.package, "")
    same = bool(packages["same"].all()) if wanted is None else installed == wanted
    words = [
        plan.primary.prefix,
        plan.canary.prefix,
        plan.runtime.node,
        plan.runtime.npm,
        plan.runtime.package,
        wanted or "",
    ]
    return Proposal(
        "install the canary's packages",
        script("install_prefix.sh"),
        args=tuple(words),
        commands=(
            f"cp {plan.primary.prefix}/package*.json {plan.canary.prefix}/",
            f"cd {plan.canary.prefix} && npm ci",
            *([f"npm install --save-exact {plan.runtime.package}@{wanted}"] if wanted else []),
        ),
        proof=lambda mac, done: {"packages": probe_packages(mac).to_dict("records")},
        undo=f"rm -r {plan.canary.prefix}",
        done_already="both trees are as planned" if len(packages) and same else "",
        timeout_s=INSTALL_LIMIT_S,
    )


def propose_env_file(mac: Mac) -> Proposal:
    """Write the canary's 0600 env file from its references; a value on the Mac is copied there and never leaves it."""
    section = mac.plan.canary
    on_mac, here = [], []
    for name, reference in section.secrets.items():
        if reference.startswith("file:"):
            path, _, key = reference.removeprefix("file:").partition("#")
            on_mac.append(f"{name}\t{path}\t{key}")
        else:
            here.append(f"{name}={_one_line(mac.vault.resolve(reference))}")
    functions = "\n".join(
        f"{title}() {{ cat <<'END'\n{chr(10).join([*lines, 'END'])}\n}}"
        for title, lines in (("from_mac", on_mac), ("from_here", here))
    )
    return Proposal(
        "write the canary's env file",
        f"# write the canary's env file\n{functions}\n{function('put_file')}{script('put_env.sh')}",
        args=(section.env_file, mac.plan.folder.wrapper),
        commands=(f"write {section.env_file} (0600) with {', '.join(section.secrets)}",),
        proof=lambda mac, done: _prove_env(mac, done),
        undo=f"rm {section.env_file}",
    )


def _one_line(secret: Secret) -> str:
    """A value in the quotes of an env file. Raises PlanError where it does not fit into one line."""
    if any(character in secret.value for character in "\n\r\0"):
        raise PlanError(
            "secrets", [f"{secret} holds a line break, which an env file cannot carry; store it in one line"]
        )
    return "'" + secret.value.replace("'", "'\\''") + "'"


def _prove_env(mac: Mac, done: Completed) -> Mapping[str, Any]:
    missing = [f"{key} in {file}" for kind, file, key in done.rows(3) if kind == "missing"]
    if missing or done.fields().get("result") not in ("written", "there already"):
        raise ActionFailed(
            f"{mac.host.name}: the canary's env file was not written: missing {', '.join(missing) or done.stderr}"
        )
    return {"names": list(mac.plan.canary.secrets)}


def propose_state(mac: Mac, archive: str) -> Proposal:
    """Clone primary's state from its backup, with the canary's own port, token, workspace and log."""
    plan, section = mac.plan, mac.plan.canary
    patch = openclaw.config_patch(section)
    return Proposal(
        "clone primary's state for the canary",
        script("clone_state.sh"),
        args=(
            archive,
            section.state_dir,
            plan.runtime.node,
            json.dumps(patch),
            *openclaw.command(plan, plan.primary),
        ),
        commands=(
            f"openclaw backup restore {archive}",
            f"mv …/payload{plan.primary.state_dir} {section.state_dir}; chmod 700",
            f"merge into openclaw.json: {json.dumps(patch)}",
        ),
        proof=_prove_state,
        undo=f"mv {section.state_dir} aside",
        timeout_s=INSTALL_LIMIT_S,
    )


def _prove_state(mac: Mac, done: Completed) -> Mapping[str, Any]:
    result = done.fields().get("result", "")
    if result not in ("cloned", "there already"):
        state = mac.plan.canary.state_dir
        raise ActionFailed(f"{mac.host.name}: {state} was not cloned: it is {result or done.stderr}; move it away")
    return {"state": result}


def propose_plist(mac: Mac) -> Proposal:
    """Render and lint the canary's plist, 0644 as launchd wants it."""
    plan, section = mac.plan, mac.plan.canary
    content = launchd.render_plist(
        plan, section, openclaw.entry(plan, section), openclaw.environment(section, acts=False)
    )
    wrong = launchd.lint_plist(content, section)
    if wrong:
        raise ActionFailed(f"{section.plist}: {'; '.join(wrong)}")
    return Proposal(
        "write the canary's plist",
        "# write the canary's plist\n"
        'mkdir -p "$(dirname "$1")" "$2" || return 1\n'
        f"cat >\"$1.next\" <<'END_OF_PLIST'\n{content.decode()}END_OF_PLIST\n"
        f'plutil -lint "$1.next" || return 1\n{function("put_file")}put_file "$1" 644\n',
        args=(section.plist, section.log_file.rpartition("/")[0]),
        files={section.plist: ("", content.decode())},
        commands=(f"plutil -lint {section.plist}",),
        undo=f"rm {section.plist}",
    )


def judge(plan: Plan, packages: pd.DataFrame, secret_hashes: pd.DataFrame) -> list[Check]:
    """Same pins, free ports, different secrets, private files."""
    wanted = plan.runtime.canary_version
    others = packages[~packages["same"]]
    if wanted:
        others = others[(others["package"] != plan.runtime.package) | (others["canary"] != wanted)]
    checks = [
        passed_if(
            len(packages) > 0 and others.empty,
            "same packages",
            f"{len(packages) - len(others)} of {len(packages)} packages as planned"
            + (f"; {others.iloc[0]['package']} is {others.iloc[0]['canary'] or 'missing'}" if len(others) else ""),
            Hop.CANARY,
            "install the canary again: its tree must be primary's",
        )
    ]
    return [*checks, *_judge_secrets(plan, secret_hashes)]


def judge_ports(plan: Plan, listeners: pd.DataFrame) -> list[Check]:
    """Is the canary's port free on 127.0.0.1 and ::1, or held by the canary itself?"""
    section = plan.canary
    taken = listeners[listeners["port"] == section.port]
    who = (
        f"; pid {taken.iloc[0]['pid']} ({taken.iloc[0]['command']}) holds {taken.iloc[0]['address']}"
        if len(taken)
        else ""
    )
    return [
        passed_if(
            taken.empty,
            "canary's port is free",
            f"port {section.port} on 127.0.0.1 and ::1: {len(taken)} listeners{who}",
            Hop.HOST,
            f"end that process or choose another canary.port; lsof -nP -iTCP:{section.port}",
        )
    ]


def _judge_secrets(plan: Plan, hashes: pd.DataFrame) -> list[Check]:
    shared = {n for n, reference in plan.canary.secrets.items() if reference in plan.shared_references}
    hashes_of = {name: dict(part[["name", "sha256"]].to_numpy()) for name, part in hashes.groupby("gateway")}
    primary, canary = hashes_of.get("primary", {}), hashes_of.get("canary", {})
    both = sorted(primary.keys() & canary.keys())
    same = [name for name in both if name not in shared and primary[name] == canary[name]]
    apart = [name for name in both if name in shared and primary[name] != canary[name]]
    in_plist = set(openclaw.environment(plan.canary, acts=False))
    missing = sorted(primary.keys() - canary.keys() - in_plist)
    open_files = sorted(set(hashes[~hashes["private"].astype(bool)]["gateway"]))
    return [
        passed_if(
            not same and len(both) > 0,
            "secrets differ",
            f"{len(both) - len(same)} of {len(both)} secrets compared by salted hash are as planned"
            + (f"; {', '.join(same)} is the same on both" if same else ""),
            Hop.CANARY,
            "give the canary its own value: one key rotated must not poison the other gateway",
        ),
        passed_if(
            not missing,
            "no secret is missing",
            f"{len(missing)} names of primary's env file are missing in the canary's"
            + (f": {', '.join(missing)}" if missing else ""),
            Hop.CANARY,
            "add them under canary.secrets: a configuration that names a missing variable does not start",
        ),
        passed_if(
            not apart,
            "webhook secrets are shared",
            f"{len(shared) - len(apart)} of {len(shared)} shared secrets are the same on both",
            Hop.CANARY,
            "a delivery may reach either gateway: both must accept it",
        ),
        Check(
            "env files are private",
            Answer.FAIL if open_files else Answer.PASS,
            f"{len(open_files)} env files are readable by others"
            + (f": {', '.join(open_files)}" if open_files else ""),
            Hop.HOST,
            remedy="chmod 600",
        ),
    ]


def new_salt() -> str:
    """A salt for one comparison, so that hashes in the evidence cannot be looked up."""
    return secrets.token_hex(16)
