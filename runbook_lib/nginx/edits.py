"""Edits of configuration files by their place in the text: whatever is not replaced stays as it is, to the byte."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runbook_lib.nginx.configuration import Configuration, Directive


class FileEdits:
    """Replacements and insertions in several files; what a file included twice is given twice is written once."""

    def __init__(self, configuration: Configuration) -> None:
        self._files = configuration.files
        self._edits: dict[tuple[str, int, int, str], str] = {}
        self._touched: set[str] = set()
        self.conflicts: list[Directive] = []

    @property
    def files(self) -> list[str]:
        return sorted(self._touched)

    def touch(self, file: str) -> None:
        """Count a file as one of ours, edited or not: its text is part of the revision."""
        self._touched.add(file)

    def replace(self, directive: Directive, argument: int, text: str) -> None:
        """Write another text for one argument of a directive."""
        start, end = directive.spans[argument + 1]
        self._put(directive, start, end, "replaced", text)

    def after(self, directive: Directive, lines: Sequence[str]) -> None:
        """Put lines behind a directive and its block."""
        self._behind(directive, directive.closes, lines)

    def inside(self, directive: Directive, lines: Sequence[str]) -> None:
        """Put lines first into a block."""
        self._behind(directive, directive.ends, lines, deeper=True)

    def _behind(self, directive: Directive, at: int, lines: Sequence[str], deeper: bool = False) -> None:
        text = self._files[directive.file]
        rest = re.match(r"[ \t]*(#[^\n]*?)?(?=\r?\n|$)", text[at:])
        indent, eol = self._indent(directive), self._eol(directive.file)
        if rest is None or indent is None:
            added = "".join(f" {line}" for line in lines)
        else:
            at += rest.end()
            step = ("\t" if "\n\t" in text else "    ") if deeper else ""
            added = "".join(f"{eol}{indent}{step}{line}" for line in lines)
        self._put(directive, at, at, "after", added)

    def before(self, directive: Directive, lines: Sequence[str]) -> None:
        """Put lines before a directive."""
        indent, eol = self._indent(directive), self._eol(directive.file)
        separator = " " if indent is None else f"{eol}{indent}"
        self._put(directive, directive.at, directive.at, "before", "".join(f"{line}{separator}" for line in lines))

    def texts(self) -> dict[str, str]:
        """The touched files, path to text."""
        found = {}
        for file in self.files:
            text = self._files[file]
            mine = sorted((key, added) for key, added in self._edits.items() if key[0] == file)
            for (_, start, end, _), added in reversed(mine):
                text = text[:start] + added + text[end:]
            found[file] = text
        return found

    def text_of(self, directive: Directive) -> str:
        """The directive as it is written."""
        return self._files[directive.file][directive.at : directive.ends]

    def _put(self, directive: Directive, start: int, end: int, kind: str, text: str) -> None:
        self.touch(directive.file)
        if self._edits.setdefault((directive.file, start, end, kind), text) != text:
            self.conflicts.append(directive)

    def _indent(self, directive: Directive) -> str | None:
        """What stands before a directive on its line; None where that is more than blanks."""
        text = self._files[directive.file]
        before = text[text.rfind("\n", 0, directive.at) + 1 : directive.at]
        return before if not before.strip(" \t") else None

    def _eol(self, file: str) -> str:
        return "\r\n" if "\r\n" in self._files[file] else "\n"
