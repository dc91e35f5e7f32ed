"""What runs on the Mac is POSIX sh with no GNU in it: macOS's /bin/sh is bash in POSIX mode, Debian's is dash."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from shells import SHELLS, each_shell

from runbook_lib.ssh.host import as_sent

LIBRARY = Path(__file__).resolve().parents[1] / "runbook_lib"
ON_MAC = sorted((LIBRARY / "onmac").glob("*.sh"))
LAB = sorted([*(LIBRARY / "lab").glob("*.sh"), *(LIBRARY / "lab/templates").glob("*.sh")])
NOT_OURS = "--exclude=SC2154,SC2034,SC2016"  # variables that the library sets around a script; node's own ${…}

each_script = pytest.mark.parametrize("path", [*ON_MAC, *LAB], ids=lambda path: path.name)


@each_script
def test_shellcheck_finds_nothing(path: Path, tools: Path) -> None:
    done = subprocess.run([tools / "shellcheck", "--shell=sh", NOT_OURS, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@each_shell
@each_script
def test_every_shell_can_parse_it(path: Path, shell: str) -> None:
    """As a file, and inside the function in which the library runs it."""
    text = path.read_text(encoding="utf-8")
    for source in (text, as_sent(text)):
        done = subprocess.run([*SHELLS[shell], "-n"], input=source, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


# What only GNU's command has, where a command begins: (pattern, an example that it must find).
START = r"(?:^|[|;&(`{]|\bthen|\bdo|\belse|!|\$sudo)\s*(?:env\s+)?"
LONG_LESS = "(?:ps|cp|mv|rm|mkdir|ln|du|df|find|sort|tail|head|wc|cut|tr|xargs|chmod|ls|touch)"  # no --options on a Mac
GNU_ONLY = [
    (START + r"sed\s+(?:-[A-Za-z]*i)(?!\s+''|\.)", "sed -i s/a/b/ file"),
    (START + r"sed\s+-[A-Za-z]*[rsz]\b", "sed -r 's/(a)/b/'"),
    (START + r"stat\s+(?:-[A-Za-z]*c|--)", "stat -c %s file"),
    (START + r"date\s+(?:-[A-Za-z]*d\b|--|.*%N)", "x=$(date -d @0)"),
    (START + r"readlink\s+-[A-Za-z]*[fem]", "readlink -f path"),
    (START + r"realpath\b", "realpath path"),
    (START + r"grep\s+(?:-[A-Za-z]*P|--)", "a | grep -oP '\\d+'"),
    (START + r"(?:timeout|setsid|flock|tac|nproc|shuf|numfmt|pidof)\s", "timeout 5 curl"),
    (START + r"(?:sha256sum|md5sum|ss|netstat|systemctl|wget)\s", "sha256sum file"),
    (START + r"mktemp\s*(?:-[dq]\s*)*(?:$|[)|;&]|--|-p)", "dir=$(mktemp -d)"),
    (START + r"(?:head|tail)\s+-[cn]\s*-\d", "head -c -1 file"),
    (START + LONG_LESS + r"\s[^|;&]*--[a-z]", "ps --ppid 1"),
    (START + r"ps\s+-?[a-z]*f\s|" + START + r"ps\s+.*-o\s+\S*(?:cmd|etimes)", "ps -o cmd -p 1"),
    (START + r"cp\s+-[A-Za-z]*[dtTu]", "cp -t dir file"),
    (START + r"mv\s+-[A-Za-z]*[tTu]", "mv -T a b"),
    (START + r"ln\s+-[A-Za-z]*[rT]", "ln -sT a b"),
    (START + r"du\s+-[A-Za-z]*b", "du -sb dir"),
    (START + r"xargs\s+-[A-Za-z]*[dar]\b", "xargs -r rm"),
    (START + r"find\s.*-(?:printf|executable|readable|regextype)", "find . -printf %p"),
    (START + r"echo\s+-[neE]", "echo -n x"),
    (START + r"(?:local|declare|typeset|source|pushd|popd|shopt)\s", "local x=1"),
    (START + r"function\s+\w+\s*(?:\(\s*\))?\s*\{", "function f {"),
    (r"\[\[|<<<|\$'|&>|\$\{\w+(?:,,|\^\^|//|:\d)|\bpipefail\b|<\(", "[[ -e x ]]"),
    (r"\[\s[^]]*\s==\s", '[ "$a" == b ]'),
    (START + r"awk\s.*(?:strftime|systime|gensub|PROCINFO)\b", "awk '{ print systime() }'"),
    (r"/proc/", "cat /proc/1/stat"),
    (START + r"(?:apt-get|apt|yum|brew)\s", "brew install x"),
]  # fmt: skip


def gnu_only(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in lines for pattern, _ in GNU_ONLY if re.search(pattern, line)]


@pytest.mark.parametrize(("pattern", "example"), GNU_ONLY, ids=[example for _, example in GNU_ONLY])
def test_the_table_finds_its_example(pattern: str, example: str) -> None:
    assert re.search(pattern, example)


@pytest.mark.parametrize("path", ON_MAC, ids=lambda path: path.name)
def test_nothing_on_the_mac_is_gnu_only(path: Path) -> None:
    assert gnu_only(path.read_text(encoding="utf-8")) == []


SHELL = re.compile(
    r'"\$\d|(?<!\\)\$\(|\bprintf\b|\|\| return|>/dev/null|(?m:^\s*(?:if|for|while|until)\b.*;\s*(?:then|do)\b)'
)
COMPOSERS = {  # where a script is put together from its parts, in as few words of shell as that takes
    "mac/lock.py": "any change, under the host lock",
    "mac/proposal.py": "files that travel with a script",
    "matrix.py": "one curl for all rows",
    "nginx/change.py": "a reload with its files",
    "ssh/host.py": "how a script is sent",
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def shell_texts(path: Path) -> list[tuple[int, str]]:
    """Texts with shell in them, docstrings left out: (line, text)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
    texts = [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in said
    ]
    return [(line, text) for line, text in texts if SHELL.search(text)]


def test_scripts_stand_in_shell_files_where_shellcheck_and_three_shells_see_them() -> None:
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        name = str(path.relative_to(LIBRARY))
        if not name.startswith("lab/") and (texts := shell_texts(path)):
            found[name] = texts
    assert found.keys() <= COMPOSERS.keys(), {name: found[name] for name in found.keys() - COMPOSERS.keys()}
    assert found.keys() >= {"mac/lock.py", "mac/proposal.py", "matrix.py"}, "the test finds what it looks for"
    for texts in found.values():
        for _, text in texts:
            assert gnu_only(text) == [], text
