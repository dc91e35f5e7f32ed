"""The canary's own things on the Mac: packages by primary's pins, a cloned state, an env file, a plist."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runbook_lib.errors import ActionFailed, PlanError
from runbook_lib.gateway import launchd, openclaw
from runbook_lib.gateway.settings import carried, shown
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, laid
from runbook_lib.mac.vault import Secret, parse_env
from runbook_lib.onmac import function, program, script
from runbook_lib.plan.models import Plan
from runbook_lib.probes import probe_packages
from runbook_lib.records.kinds import Act
from runbook_lib.ssh.host import Completed
from runbook_lib.steps import isolation
from runbook_lib.verdict import Answer, Check, Hop, passed_if

INSTALL_LIMIT_S = 600
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*$")
MARK = "# primary's env file"


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
        openclaw.package(plan, plan.primary),
    ]
    return Proposal(
        Act.INSTALL,
        "install the canary's packages",
        script("install_prefix.sh"),
        args=tuple(words),
        commands=(
            f"cd {plan.canary.prefix} && npm ci   # with {plan.primary.prefix}/package-lock.json, where there is one",
            f"cd {plan.canary.prefix} && npm install {plan.runtime.package}@VERSION   # from a global tree, this alone",
            *([f"npm install --save-exact {plan.runtime.package}@{wanted}"] if wanted else []),
        ),
        proof=lambda mac, done: {"packages": probe_packages(mac).to_dict("records")},
        undo=f"rm -r {plan.canary.prefix}",
        done_already="both trees are as planned" if len(packages) and same else "",
        timeout_s=INSTALL_LIMIT_S,
    )


def propose_env_file(mac: Mac) -> Proposal:
    """Write the canary's 0600 env file: primary's settings, and its own secrets from their references.

    A secret on the Mac is copied there and never leaves it; so is a setting that holds a password.
    """
    plan, section = mac.plan, mac.plan.canary
    settings = probe_settings(mac)
    on_mac, here = [], [f"{name}={_quoted(value)}" for name, value in settings.items() if shown(value) == value]
    on_mac += [f"{name}\t{plan.primary.env_file}\t{name}" for name, value in settings.items() if shown(value) != value]
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
        Act.WRITE_ENV,
        "write the canary's env file",
        f"# write the canary's env file\n{functions}\n{function('put_file')}{script('put_env.sh')}",
        args=(section.env_file, mac.plan.folder.wrapper),
        commands=(
            f"write {section.env_file} (0600) with {', '.join(section.secrets)}",
            *(f"# setting, as primary's: {name}={shown(value)}" for name, value in settings.items()),
        ),
        proof=lambda mac, done: _prove_env(mac, done),
        undo=f"rm {section.env_file}",
    )


def probe_settings(mac: Mac) -> dict[str, str]:
    """The settings of primary's env file as the canary is to have them."""
    plan = mac.plan
    done = mac.host.run(script("ask_env_files.sh"), MARK, plan.primary.env_file)
    return carried(parse_env(done.stdout.removeprefix(f"{MARK}\n")), plan.primary, plan.canary)


def _one_line(secret: Secret) -> str:
    """A value in the quotes of an env file. Raises PlanError where it does not fit into one line."""
    if any(character in secret.value for character in "\n\r\0"):
        raise PlanError(
            "secrets", [f"{secret} holds a line break, which an env file cannot carry; store it in one line"]
        )
    return _quoted(secret.value)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _prove_env(mac: Mac, done: Completed) -> Mapping[str, Any]:
    missing = [f"{key} in {file}" for kind, file, key in done.rows(3) if kind == "missing"]
    if missing or done.fields().get("result") not in ("written", "there already"):
        raise ActionFailed(
            f"{mac.host.name}: the canary's env file was not written: missing {', '.join(missing) or done.stderr}"
        )
    return {"names": list(mac.plan.canary.secrets)}


def propose_state(mac: Mac, archive: str) -> Proposal:
    """Clone primary's state from its backup, and make it the canary's own: no path and no key of primary's is left."""
    plan, section = mac.plan, mac.plan.canary
    wanted = isolation.clone_request(plan)
    return Proposal(
        Act.CLONE_STATE,
        "clone primary's state for the canary",
        script("clone_state.sh"),
        args=(
            archive,
            section.state_dir,
            plan.runtime.node,
            json.dumps(wanted),
            program("clone_files.js"),
            *openclaw.command(plan, plan.primary),
        ),
        commands=(
            f"openclaw backup restore {archive}",
            f"mv …/payload{plan.primary.state_dir} {section.state_dir}; chmod 700",
            f"set in openclaw.json: {json.dumps(wanted['patch'])}",
            "# every path of primary's and every key of its own in the copy becomes the canary's, or this is refused",
        ),
        proof=_prove_state,
        undo=f"mv {section.state_dir} aside",
        timeout_s=INSTALL_LIMIT_S,
    )


def _prove_state(mac: Mac, done: Completed) -> Mapping[str, Any]:
    result, state = done.fields().get("result", ""), mac.plan.canary.state_dir
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    left = [f"{row[1]} {' '.join(row[2:])}" for row in rows if row[0] == "left"]
    if left:
        raise ActionFailed(
            f"{mac.host.name}: primary's state was not cloned, nothing of the copy was kept: {'; '.join(left)}. Mend "
            "that in primary's state, or keep it outside, then run the step again"
        )
    if result not in ("cloned", "there already"):
        raise ActionFailed(f"{mac.host.name}: {state} was not cloned: it is {result or done.stderr}; move it away")
    told = {kind: sorted({" ".join(row[1:2]) for row in rows if row[0] == kind}) for kind in ("own", "without")}
    moved = {"moved_count": sum(row[0] == "moved" for row in rows)} if result == "cloned" else {}
    return {"state": result, **moved, **{kind: names for kind, names in told.items() if names}}


def propose_plist(mac: Mac) -> Proposal:
    """Render and lint the canary's plist, 0644 as launchd wants it."""
    plan, section = mac.plan, mac.plan.canary
    flags, entry = launchd.program_of(mac.host.read(plan.primary.plist), openclaw.package(plan, plan.primary))
    words = [*flags, f"{openclaw.package(plan, section)}/{entry or openclaw.ENTRY}"]
    content = launchd.render_plist(plan, section, words, openclaw.environment(section, acts=False))
    wrong = launchd.lint_plist(content, section)
    if wrong:
        raise ActionFailed(f"{section.plist}: {'; '.join(wrong)}")
    return Proposal(
        Act.WRITE_PLIST,
        "write the canary's plist",
        laid({section.plist: content.decode()}, "put_plist.sh"),
        args=(section.log_file.rpartition("/")[0],),
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
    who = ""
    if len(taken):
        pid, command, address = taken.iloc[0][["pid", "command", "address"]]
        who = f"; {f'pid {pid} ({command})' if pid else 'a process of another user'} holds {address}"
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
    """Whatever the names and wherever they stand: what both have alike by hash is one secret."""
    hashes = hashes.assign(shared=[name in plan.shared_names for name in hashes["name"]])
    primary, canary = (hashes[hashes["gateway"] == name] for name in ("primary", "canary"))
    shared = set(primary[primary["shared"]]["sha256"]) | set(canary[canary["shared"]]["sha256"])
    own = canary[~canary["sha256"].isin(shared)]
    same = own[own["sha256"].isin(primary["sha256"])]
    wanted = sorted(set(canary[canary["shared"]]["name"]))
    apart = [name for name in wanted if not set(canary[canary["name"] == name]["sha256"]) <= set(primary["sha256"])]
    variables = {name for name in primary["name"] if VARIABLE.match(name)}
    missing = sorted(variables - set(openclaw.environment(plan.canary, acts=False)) - set(canary["name"]))
    open_files = sorted(set(hashes[~hashes["private"].astype(bool)]["gateway"]))
    return [
        Check(
            "secrets differ",
            Answer.FAIL if len(same) else Answer.PASS if len(own) and len(primary) else Answer.INCONCLUSIVE,
            f"{len(own) - len(same)} of {len(own)} secrets of the canary are none of primary's {len(primary)}, "
            "compared by salted hash"
            + (f"; {', '.join(sorted(set(same['name'])))} is primary's too" * bool(len(same))),
            Hop.CANARY,
            remedy="give the canary its own value: one key rotated must not poison the other gateway",
        ),
        passed_if(
            not missing,
            "no secret is missing",
            f"{len(missing)} names of primary's secrets are missing in the canary's"
            + (f": {', '.join(missing)}" if missing else ""),
            Hop.CANARY,
            "add them under canary.secrets: a configuration that names a missing variable does not start",
        ),
        passed_if(
            not apart,
            "webhook secrets are shared",
            f"{len(wanted) - len(apart)} of {len(wanted)} shared secrets are the same on both",
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
