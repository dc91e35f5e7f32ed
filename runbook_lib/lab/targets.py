"""What launchctl's words name: a domain, a service in it, and a plist that launchd would take."""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError


def definition(path: Path) -> dict[str, Any] | None:
    """The plist if launchd would take it: readable by all, writable by its owner alone, label and program."""
    try:
        mode = path.stat().st_mode
        spec = plistlib.loads(path.read_bytes())
    except (OSError, ValueError, ExpatError):
        return None
    arguments = spec.get("ProgramArguments") if isinstance(spec, dict) else None
    whole = isinstance(spec, dict) and spec.get("Label") and (spec.get("Program") or arguments)
    return spec if whole and mode & 0o022 == 0 and mode & 0o044 == 0o044 else None


def split(target: str) -> tuple[str, str]:
    domain, slash, label = target.rpartition("/")
    if not slash or (domain != "system" and "/" not in domain):
        return target, ""
    return domain, label


def spoken(domain: str) -> str:
    kind, _, uid = domain.partition("/")
    return {"gui": f"user gui: {uid}", "user": f"user: {uid}"}.get(kind, kind)
