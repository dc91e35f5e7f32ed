"""What a Mac answered to each question, secrets out: what is parsed, reported, and read again by tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.errors import EvidenceError

HEAD = "# What a Mac answered to the questions of `rollout discover`. Values of secrets are left out."
MARK = "=== "
HIDDEN = "***"
SECRET_HEADER = re.compile(
    r"^(\s*(?:proxy_set_header|add_header|set)\s+\S*(?:authorization|cookie|token|secret|key|password)\S*\s+)(\S.*?)(;\s*)$",
    re.IGNORECASE | re.MULTILINE,
)
LOOKS_SECRET = re.compile(
    r"\b(?:(?:sk|pk|rk|gh[a-z]|xox[a-z])[-_]|github_pat_|whsec_)[-_A-Za-z0-9]{8,}|\bAKIA[0-9A-Z]{12,}|\beyJ[-_A-Za-z0-9]{16,}"
    r"|(?<=Bearer )[-._~+/A-Za-z0-9]{8,}"
    r"|(?<=://)[^/\s@:]+:[^/\s@]+(?=@)"
    r"|\b(?=[0-9a-fA-F]*[a-fA-F])(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{32,}\b"
)


def without_secrets(text: str) -> str:
    """A text with what looks like a secret hidden; the questions themselves already leave values on the Mac."""
    text = SECRET_HEADER.sub(lambda found: f"{found[1]}{found[2] if '$' in found[2] else HIDDEN}{found[3]}", text)
    return LOOKS_SECRET.sub(HIDDEN, text)


@dataclass
class Recording:
    """Question to answer, in the order in which they were asked.

    `ask` asks the Mac where there is one, and keeps the answer; one that was read from a report only repeats it.
    """

    name: str
    answers: dict[str, str] = field(default_factory=dict)
    source: str = "the Mac"

    def ask(self, question: str, of_mac: Callable[[], str] | None = None) -> str:
        """The answer to a question, e.g. `machine`. Raises EvidenceError where a report has none."""
        if question not in self.answers:
            if of_mac is None:
                raise EvidenceError(
                    f"{self.source} has no answer to {question!r}, only to: {', '.join(self.answers) or 'nothing'}; "
                    "ask the Mac again and write a new report: rollout discover ALIAS --report FILE"
                )
            self.answers[question] = without_secrets(of_mac())
        return self.answers[question]

    def text(self) -> str:
        """The recording as one text, to be sent and to be read again."""
        parts = [f"{MARK}{question}\n{_closed(answer)}" for question, answer in self.answers.items()]
        return f"{HEAD}\n{MARK}host {self.name}\n" + "".join(parts)


def read(path: Path) -> Recording:
    """A report read again. Raises EvidenceError where it is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror}; name a file that --report wrote") from None
    sections = list(_sections(text.splitlines(keepends=True)))
    names = [title.removeprefix("host ") for title, _ in sections if title.startswith("host ")]
    if not names:
        raise EvidenceError(f"{path} is no report; name a file that rollout discover wrote with --report")
    answers = {title: answer for title, answer in sections if not title.startswith("host ")}
    return Recording(names[0], answers, str(path))


def _closed(answer: str) -> str:
    return answer if answer.endswith("\n") or not answer else f"{answer}\n"


def _sections(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    title, answer = "", list[str]()
    for line in lines:
        if not line.startswith(MARK):
            answer.append(line)
            continue
        if title:
            yield title, "".join(answer)
        title, answer = line.removeprefix(MARK).strip(), []
    if title:
        yield title, "".join(answer)


def rows(text: str) -> Iterator[list[str]]:
    """The `name<TAB>value…` lines of an answer; a line that a login shell printed has no tab and is no answer."""
    for line in text.splitlines():
        if "\t" in line:
            yield line.split("\t")
