"""A YAML file as it is written: its values, the line of each key, and what is wrong with its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runbook_lib.errors import PlanError
from runbook_lib.plan.models import Where

Lines = dict[Where, int]
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}


@dataclass(frozen=True)
class YamlFile:
    """A parameters file: its values, the line of each key, and what is wrong with its text."""

    name: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    lines: Lines = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def read(path: Path) -> YamlFile:
    """Raises PlanError where it is no YAML, no mapping or not UTF-8; other mistakes are in `wrong`, all at once."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise PlanError(path.name, [f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"]) from None
    except yaml.YAMLError as error:
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise PlanError(
            path.name, [f"{_place(error)}not YAML: {said}; mend this line first, then the rest is checked"]
        ) from None
    if not isinstance(node, yaml.MappingNode):
        raise PlanError(path.name, ["line 1: a mapping of sections is expected, e.g. `region: hk`"])
    file = YamlFile(path.name)
    _walk(node, (), file, ())
    try:
        file.values.update(loader.construct_document(node))
    except yaml.YAMLError as error:
        raise PlanError(path.name, [*file.wrong, f"{_place(error)}{getattr(error, 'problem', error)}"]) from None
    return file


def _place(error: yaml.YAMLError) -> str:
    """Where a text stops being YAML: for an open quote or bracket, where it was opened."""
    opened = any(word in str(getattr(error, "context", "")) for word in ("quoted", "flow"))
    mark = getattr(error, "context_mark" if opened else "problem_mark", None)
    return f"line {mark.line + 1}: " if mark else ""


def _walk(node: yaml.Node, where: Where, file: YamlFile, inside: tuple[int, ...]) -> None:
    """Note the line of each key; refuse repeated keys, values that YAML reads as something odd, and circles."""
    line = node.start_mark.line + 1
    if id(node) in inside:
        raise PlanError(file.name, [f"line {line}: {'.'.join(where)}: an alias leads back to itself; write it out"])
    inside = (*inside, id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, str(key.value))
            at = key.start_mark.line + 1
            if here in file.lines and "<<" not in here:
                file.wrong.append(
                    f"line {at}: {'.'.join(here)}: stands on line {file.lines[here]} already; keep one of them"
                )
            file.lines[here] = at
            key.tag = key.tag if key.tag.endswith(":merge") else "tag:yaml.org,2002:str"
            _walk(value, here, file, inside)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _walk(value, (*where, str(number)), file, inside)
    elif not _is_plain(node):
        kind = node.tag.rpartition(":")[2].lstrip("!")
        file.wrong.append(f"line {line}: {'.'.join(where)}: YAML reads this as {kind}; write it in quotes")
        node.tag = "tag:yaml.org,2002:str"


def _is_plain(node: yaml.Node) -> bool:
    """Whether a scalar is what it looks like: text, a number, true or false, or nothing."""
    if node.tag not in PLAIN_TAGS:
        return False
    try:
        yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError):
        return False
    return not (node.tag.endswith(":int") and ":" in str(node.value))  # 18:90 is 1170 in YAML 1.1
