"""nginx's whole configuration as `nginx -T` dumps it: every directive, where it stands and what holds there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from runbook_lib.errors import EvidenceError
from runbook_lib.nginx.parsing import Parsed, parse


@dataclass(frozen=True, eq=False)
class Directive:
    """One directive of the configuration, with the blocks it stands in, outermost first.

    `spans` are where its name and each argument stand in the file's text, `ends` is after its `;` or `{`,
    `closes` after the `}` of its block.
    """

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    within: tuple[Directive, ...]
    block: list[Directive] | None
    spans: tuple[tuple[int, int], ...] = ()
    ends: int = 0
    closes: int = 0

    @property
    def at(self) -> int:
        return self.spans[0][0]

    @property
    def place(self) -> str:
        return f"{self.file} line {self.line}"

    def text(self) -> str:
        return " ".join([self.name, *self.args])

    def find(self, name: str) -> list[Directive]:
        """The directives of that name directly in this block."""
        return [child for child in self.block or [] if child.name == name]

    def effective(self, name: str) -> Directive | None:
        """What holds here: the nearest directive of that name, in this block or one around it."""
        found = self.effective_all(name)
        return found[-1] if found else None

    def effective_all(self, name: str) -> list[Directive]:
        """What holds here of a directive that is written several times: those of the nearest block that has any."""
        return next((found for level in (self, *reversed(self.within)) if (found := level.find(name))), [])

    def around(self, name: str) -> Directive | None:
        """The nearest block of that name around it."""
        return next((level for level in reversed(self.within) if level.name == name), None)


class Configuration:
    """The whole configuration as `nginx -T` dumps it, includes followed, every directive with file and line."""

    def __init__(self, dump: str, main: str) -> None:
        self.files = self.split(dump)
        if main not in self.files:
            raise EvidenceError(f"nginx's dump holds no {main}, only {', '.join(self.files) or 'nothing'}")
        self.main = main
        root = Directive("main", (), main, 0, (), [])
        root.block.extend(self._directives(main, (root,)))  # type: ignore[union-attr]
        self.root = root

    @staticmethod
    def split(dump: str) -> dict[str, str]:
        """The files of a dump: path to text."""
        parts = re.split(r"^# configuration file (.+):\n", dump, flags=re.MULTILINE)
        return dict(zip(parts[1::2], (text.removesuffix("\n") for text in parts[2::2]), strict=True))

    def walk(self, *names: str) -> Iterator[Directive]:
        """Every directive of these names, in file order."""
        yield from (d for d in _walk(self.root) if not names or d.name in names)

    def _directives(self, file: str, within: tuple[Directive, ...]) -> list[Directive]:
        return list(self._expand(parse(self.files[file], file), file, within))

    def _expand(self, parsed: list[Parsed], file: str, within: tuple[Directive, ...]) -> Iterator[Directive]:
        for item in parsed:
            name, *args = item.words
            if name == "include":
                pattern = args[0]
                pattern = pattern if pattern.startswith("/") else f"{self.main.rpartition('/')[0]}/{pattern}"
                for included in (name for name in self.files if _globbed(name, pattern)):
                    yield from self._directives(included, within)
                continue
            block: list[Directive] | None = None if item.block is None else []
            here = Directive(
                name, tuple(args), file, item.line, within, block, tuple(item.spans), item.ends, item.closes
            )
            if block is not None:
                block.extend(self._expand(item.block or [], file, (*within, here)))
            yield here


def _globbed(path: str, pattern: str) -> bool:
    """Whether nginx's include finds a file: * stays inside a folder and skips hidden files."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(
        fnmatchcase(name, want) and (not name.startswith(".") or want.startswith("."))
        for name, want in zip(names, wanted, strict=True)
    )


def _walk(directive: Directive) -> Iterator[Directive]:
    for child in directive.block or []:
        yield child
        yield from _walk(child)


def address_of(proxy: Directive) -> str:
    """The address, group or variable that a proxy_pass names, without scheme and path."""
    target = re.sub(r"^https?://", "", proxy.args[0], flags=re.IGNORECASE)
    named = re.match(r"\$\{?\w+\}?|[^/$?]*", target)
    return named[0] if named else ""


def is_local(address: str, port: int) -> bool:
    """Whether an address is this port of the machine itself."""
    return re.fullmatch(rf"(127\.0\.0\.1|localhost|\[::1\]):{port}", address) is not None


def groups_of(configuration: Configuration, port: int) -> dict[str, Directive]:
    """The upstream groups with a server at this loopback port, by name."""
    groups = (group for group in configuration.walk("upstream") if group.args)
    return {g.args[0]: g for g in groups if any(is_local(s.args[0], port) for s in g.find("server"))}


def proxies_to(configuration: Configuration, port: int) -> list[Directive]:
    """The proxy_pass directives of HTTP that end at this loopback port, directly or through an upstream block."""
    groups = groups_of(configuration, port)
    return [
        proxy
        for proxy in configuration.walk("proxy_pass")
        if proxy.around("http") and (is_local(at := address_of(proxy), port) or at in groups or at == "$openclaw_pool")
    ]
