"""Every notebook has the anatomy that is promised, holds no logic, and refuses a misspelt parameter at once."""

from __future__ import annotations

import ast
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
import yaml

from runbook_lib.checklist.order import BESIDE, STEPS
from runbook_lib.plan.models import Plan

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((PROJECT / "notebooks").glob("*.ipynb"))}
MOST_LINES = 14
FEW_PARAMETERS = 6  # more are folded
PLAIN_HEADINGS = {"Apply", "Verdict", "If this stopped"}
TOOLS = (
    "debug_p95",
    "postmortem",
)  # read what is there: no Mac to open, nothing to judge, so no settings, verdict or gate
EXTRA_PARAMETERS = {"rollback": {"restore_primary"}}
CLOSES_THE_RUN = {"08_promote_or_rollback": 'step.run.close("promoted")', "rollback": 'step.run.close("rolled back")'}
LOGIC = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try, ast.If, ast.IfExp,
    ast.With, ast.Match, ast.Assert, ast.Raise, ast.Global, ast.Delete, ast.BoolOp, ast.Compare,
)  # fmt: skip
FORBIDDEN_NAMES = {"os", "sys", "subprocess", "exit", "quit", "exec", "eval", "open", "get_ipython", "__import__"}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def headings(notebook: Any) -> list[str]:
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^## (.+)$", texts, re.MULTILINE)


each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
each_step = pytest.mark.parametrize("name", sorted(set(NOTEBOOKS) - set(TOOLS)))


def test_there_is_a_notebook_for_each_step() -> None:
    assert set(NOTEBOOKS) == {*STEPS, *BESIDE, *TOOLS}


@each_notebook
def test_it_is_valid_and_stripped(name: str) -> None:
    notebook = read(NOTEBOOKS[name])
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert cell.cell_type in ("markdown", "code"), cell.id
        assert set(cell.metadata) <= {"tags", "jupyter"}, cell.id
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id


def test_ids_are_unique() -> None:
    ids = [cell.id for path in NOTEBOOKS.values() for cell in read(path).cells]
    assert len(ids) == len(set(ids))


@each_notebook
def test_the_title_says_what_it_does_changes_undoes_and_needs(name: str) -> None:
    title = read(NOTEBOOKS[name]).cells[0]
    assert title.cell_type == "markdown"
    first, _, rest = title.source.partition("\n")
    number = name.split("_")[0]
    assert re.match(rf"# {number} [A-Z]" if number.isdigit() else r"# [A-Z]", first), first
    assert re.findall(r"\*\*(\w+)\*\*", rest) == ["Does", "Changes", "Undo", "Needs"]


@each_notebook
def test_the_headings_are_questions(name: str) -> None:
    found = headings(read(NOTEBOOKS[name]))
    for heading in found:
        plain = heading.partition(":")[0] in PLAIN_HEADINGS or heading.startswith("First: ")
        assert plain or heading.endswith("?"), heading
    acts = [number for number, heading in enumerate(found) if heading.startswith("Apply")]
    for number in acts:
        assert found[number - 1].startswith("Plan"), "a change is shown before it is made"
        assert len(found) > number + 3, "and something is asked after it"
    assert found[-2:] == ["Verdict", "If this stopped"] or (name in TOOLS and found[-1] == "If this stopped")


@each_notebook
def test_parameters_are_typed_literals_with_help(name: str) -> None:
    """As plain Python reads them, and as papermill does: `papermill --help-notebook` shows these."""
    cell = read(NOTEBOOKS[name]).cells[1]
    assert cell.metadata.tags == ["parameters"]
    is_long = len(cell.source.splitlines()) > FEW_PARAMETERS
    assert cell.metadata.get("jupyter") == ({"source_hidden": True} if is_long else None), "the first screen is no list"
    assert ("the folded cell below" in read(NOTEBOOKS[name]).cells[0].source) == is_long
    for line in cell.source.splitlines():
        assert re.search(r"\S  # \S", line), f"no help: {line}"
    statements = ast.parse(cell.source).body
    for statement in statements:
        assert isinstance(statement, ast.AnnAssign) and statement.value is not None, ast.unparse(statement)
        ast.literal_eval(statement.value)
    known = papermill.inspect_notebook(str(NOTEBOOKS[name]))
    assert list(known) == [ast.unparse(s.target) for s in statements if isinstance(s, ast.AnnAssign)]
    for parameter in known.values():
        assert parameter["inferred_type_name"] in ("str", "bool", "dict"), parameter
        assert parameter["help"], parameter
        assert "=" not in parameter["default"], parameter


def test_parameters_are_the_same_everywhere() -> None:
    steps = {name: path for name, path in NOTEBOOKS.items() if name not in TOOLS}
    sources = {name: read(path).cells[1].source.splitlines() for name, path in steps.items()}
    common = sources[STEPS[0]]
    for name, lines in sources.items():
        extra = [line for line in lines if line not in common]
        assert [line for line in lines if line not in extra] == common, name
        assert {line.split(":")[0] for line in extra} == EXTRA_PARAMETERS.get(name, set()), name
    assert {line.split(":")[0] for line in common} == {*Plan.model_fields, "dry_run", "again"}, (
        "every section of a plan"
    )


@each_step
def test_the_step_is_opened_in_the_third_cell(name: str) -> None:
    lines = read(NOTEBOOKS[name]).cells[2].source.splitlines()
    assert lines[-2:] == [f'step = open_step("{name}", globals())', "step.settings()"]
    assert all(line.startswith("from runbook_lib") for line in lines[:-2] if line)


@each_step
def test_there_is_one_verdict_and_then_the_gate_alone(name: str) -> None:
    cells = [cell for cell in read(NOTEBOOKS[name]).cells if cell.cell_type == "code"]
    tagged = [number for number, cell in enumerate(cells) if "verdict" in cell.metadata.get("tags", [])]
    assert tagged == [len(cells) - 2], "the verdict stands last but one, the gate last"
    assert cells[-2].source.splitlines()[-1].startswith("step.conclude(")
    assert cells[-1].source.splitlines() == ["step.gate()", *filter(None, [CLOSES_THE_RUN.get(name)])]
    assert sum(source.count("step.gate()") for source in code(read(NOTEBOOKS[name]))) == 1


@each_notebook
def test_it_ends_with_what_to_do_if_it_stopped(name: str) -> None:
    last = read(NOTEBOOKS[name]).cells[-1]
    assert last.cell_type == "markdown"
    assert last.source.startswith("## If this stopped\n\n")
    assert len(last.source.split()) >= 20


@each_notebook
def test_cells_are_short_and_hold_no_logic(name: str) -> None:
    for source in code(read(NOTEBOOKS[name]))[1:]:
        assert len(source.splitlines()) <= MOST_LINES, source
        assert not re.search(r"^\s*[!%]", source, re.MULTILINE), source
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, LOGIC), f"{type(node).__name__}: {source}"
            assert not (isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES), source
    for source in code(read(NOTEBOOKS[name]))[:1]:
        assert len(source.splitlines()) <= len(Plan.model_fields) + 3


A_NUMBER = re.compile(r"(?<![\w.`])\d[\d.,–-]*\s*(?:%|hours?\b|minutes?\b|min\b|seconds?\b|h\b|ms\b|s\b)")
FIXED = {"100 %"}  # all traffic


@each_notebook
def test_sentences_repeat_no_number_that_a_parameter_can_change(name: str) -> None:
    """They name the parameter; the effective settings and the plots have the number."""
    texts = [cell.source for cell in read(NOTEBOOKS[name]).cells if cell.cell_type == "markdown"]
    assert set(A_NUMBER.findall("\n".join(texts))) <= FIXED


@pytest.mark.parametrize("text", ["5–12 %", "48 hours", "15 minutes", "(99.9 %)", "at 0.5 %.", "120 ms", "2 s"])
def test_such_a_number_is_found(text: str) -> None:
    assert A_NUMBER.search(text)


@each_step
def test_no_evidence_overwrites_another(name: str) -> None:
    kept = re.findall(r'step\.keep\("(\w+)"', "\n".join(code(read(NOTEBOOKS[name]))))
    assert kept, "a step that keeps nothing cannot be checked afterwards"
    assert len(kept) == len(set(kept))


@each_notebook
def test_there_are_at_most_two_plots(name: str) -> None:
    assert sum("report.picture(" in source for source in code(read(NOTEBOOKS[name]))) <= 2


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_changes_nothing(name: str) -> None:
    notebook = read(NOTEBOOKS[name])
    assert "**Changes** nothing." in notebook.cells[0].source
    assert "step" not in "\n".join(code(notebook))


class Listener:
    """A port on loopback that counts who connects, and hangs up on them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connects_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connects_count += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.close()


@pytest.fixture
def checkout(tmp_path: Path, listener: Listener) -> Path:
    """The project's notebooks and parameters elsewhere, with hk's alias leading to the listener."""
    for folder in ("notebooks", "parameters"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    config = f"Host openclaw-hk\n  HostName 127.0.0.1\n  Port {listener.port}\n  User nobody\n"
    (tmp_path / "ssh_config").write_text(config)
    values = yaml.safe_load((tmp_path / "parameters/hk.yaml").read_text())
    values["host"] |= {"ssh_config": str(tmp_path / "ssh_config"), "connect_timeout_s": 5}
    (tmp_path / "parameters/hk.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def run_papermill(tools: Path, checkout: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    words = [tools / "papermill", f"notebooks/{name}.ipynb", "out.ipynb", "--no-progress-bar", *options]
    return subprocess.run(words, cwd=checkout, capture_output=True, text=True, timeout=120)


MISSPELT = {
    "-p": ("06_raise_weight", ["-p", "region", "hk", "-p", "dryrun", "true"], {}, "did you mean dry_run?"),
    "-f": ("01_snapshot", ["-f", "given.yaml"], {"trafic": {"slice_pct": 8}}, "did you mean traffic?"),
    "-f, nested": (
        "rollback",
        ["-f", "given.yaml"],
        {"traffic": {"slice_pc": 8}},
        "did you mean slice_pct?",
    ),
}


@pytest.mark.parametrize("case", MISSPELT)
def test_a_misspelt_parameter_is_refused_before_any_connection(
    case: str, tools: Path, checkout: Path, listener: Listener
) -> None:
    name, options, misspelt, answer = MISSPELT[case]
    whole = yaml.safe_load((checkout / "parameters/hk.yaml").read_text())
    (checkout / "given.yaml").write_text(yaml.safe_dump({**whole, **misspelt}))
    done = run_papermill(tools, checkout, name, *options)
    assert done.returncode == 1, done.stderr
    assert "PlanError: " in done.stderr
    assert answer in done.stderr
    assert "nothing was touched" in done.stderr
    assert listener.connects_count == 0
    assert not list(checkout.glob("outputs/*/*")), "no run was opened"
    executed = read(checkout / "out.ipynb")
    assert any(output.get("ename") == "PlanError" for cell in executed.cells for output in cell.get("outputs", []))


def test_the_same_file_without_the_mistake_does_connect(tools: Path, checkout: Path, listener: Listener) -> None:
    """So that the test above can fail."""
    shutil.copy(checkout / "parameters/hk.yaml", checkout / "given.yaml")
    done = run_papermill(tools, checkout, "01_snapshot", "-f", "given.yaml", "-p", "dry_run", "true")
    assert done.returncode == 1
    assert "HostUnreachable: " in done.stderr
    assert listener.connects_count > 0


def test_names_of_a_jupyter_startup_file_are_no_parameters(
    tools: Path, checkout: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup = checkout / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00-mine.py").write_text("region2 = 'x'\ntoken = 'secret'\nmine = {'nginx': 1}\n")
    monkeypatch.setenv("IPYTHONDIR", str(checkout / "ipython"))
    done = run_papermill(tools, checkout, "01_snapshot", "-p", "region", "hk", "-p", "dry_run", "true")
    assert "HostUnreachable: " in done.stderr, done.stderr
    assert listener.connects_count > 0
