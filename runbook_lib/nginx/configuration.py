"""nginx's whole configuration as `nginx -T` dumps it: every directive, where it stands and what holds there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import crossplane

from runbook_lib.errors import EvidenceError


@dataclass(frozen=True, eq=False)
class Directive:
    """One directive of the configuration, with the blocks it stands in, outermost first."""

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    within: tuple[Directive, ...]
    block: list[Directive] | None

    def text(self) -> str:
        return " ".join([self.name, *self.args])

    def find(self, name: str) -> list[Directive]:
        """The directives of that name directly in this block."""
        return [child for child in self.block or [] if child.name == name]

    def effective(self, name: str) -> Directive | None:
        """What holds here: the nearest directive of that name, in this block or one around it."""
        for level in (self, *reversed(self.within)):
            if found := level.find(name):
                return found[-1]
        return None


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
        return list(self._expand(_parse(self.files[file], file), file, within))

    def _expand(self, parsed: list[dict[str, Any]], file: str, within: tuple[Directive, ...]) -> Iterator[Directive]:
        for item in parsed:
            if item["directive"] == "include":
                pattern = item["args"][0]
                pattern = pattern if pattern.startswith("/") else f"{self.main.rpartition('/')[0]}/{pattern}"
                for included in (name for name in self.files if _globbed(name, pattern)):
                    yield from self._directives(included, within)
                continue
            here = Directive(
                item["directive"],
                tuple(item["args"]),
                file,
                item["line"],
                within,
                [] if "block" in item else None,
            )
            if here.block is not None:
                here.block.extend(self._expand(item["block"], file, (*within, here)))
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


def _parse(text: str, name: str) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(text)
        payload = crossplane.parse(str(file), single=True, check_ctx=False, check_args=False, strict=False)
    if payload["errors"]:
        raise EvidenceError(f"{name}: {payload['errors'][0]['error']}")
    parsed: list[dict[str, Any]] = payload["config"][0]["parsed"]
    return parsed


def proxies_to(configuration: Configuration, port: int) -> list[Directive]:
    """The proxy_pass directives that end at this loopback port, directly or through an upstream block."""
    local = re.compile(rf"(127\.0\.0\.1|localhost|\[::1\]):{port}$")
    groups = {
        u.args[0] for u in configuration.walk("upstream") if any(local.match(s.args[0]) for s in u.find("server"))
    }
    found = []
    for proxy in configuration.walk("proxy_pass"):
        target = re.sub(r"^https?://", "", proxy.args[0]).partition("/")[0]
        if local.match(target) or target in groups or target == "$openclaw_pool":
            found.append(proxy)
    return found
