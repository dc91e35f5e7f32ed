"""A change before it is made, as a notebook shows it: the commands, the diffs, how it is undone."""

from __future__ import annotations

from collections.abc import Callable

from runbook_lib.mac.proposal import Proposal, Sending
from runbook_lib.show.report import Shown, commands, diff


def proposed(change: Proposal | Sending, redact: Callable[[str], str]) -> list[Shown]:
    """The commands first, then a diff for each file that changes; secrets as references."""
    undo = f"# undo: {change.undo}"
    if isinstance(change, Sending):
        return [commands([f"# {change.what}", f"POST {change.url}   # by SSH", undo])]
    pause = [f"sleep {change.after_s:g}"] if change.after_s else []
    already = f"   (nothing to do: {change.done_already})" if change.done_already else ""
    diffs = [
        diff(redact(before), redact(after), path) for path, (before, after) in change.files.items() if before != after
    ]
    return [commands([*pause, f"# {change.what}{already}", *change.commands, undo]), *diffs]
