"""Notebooks on forked kernels: clean, stoppable, recorded as they ran. Real kernels and processes throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from runbook_lib.execution import kernels, record
from runbook_lib.execution.engine import say_once, warm_kernel
from runbook_lib.execution.execute import execute, stoppable
from runbook_lib.execution.kernels import SHARED

RUNNER = """
import sys
from pathlib import Path
from runbook_lib.execution.execute import execute
from runbook_lib.execution.kernels import SHARED
print(repr(execute("quick", {}, Path("out"))), flush=True)
print(SHARED.directory(), flush=True)
execute("slow", {}, Path("out"))
"""


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process that these tests start must be gone after them; so must the sockets."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):  # each kernel's process would compile everything again
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    SHARED.start()
    yield
    directory = SHARED.directory()
    SHARED.stop()
    assert not directory.exists()
    assert not [child for child in psutil.Process().children(recursive=True) if is_zygote(child)]


def is_zygote(process: psutil.Process) -> bool:
    try:
        return "zygote" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too: of one that has ended, whoever reaps it
        return False


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own to execute in."""
    (tmp_path / "parameters").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(desk: Path, name: str, *sources: str) -> None:
    """A notebook with a parameters cell, a heading and these code cells."""
    v4: Any = nbformat.v4
    first = v4.new_code_cell("word: str = ''  # anything", metadata={"tags": ["parameters"]})
    cells = [first, v4.new_markdown_cell("# A title"), *(v4.new_code_cell(source) for source in sources)]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    v4_notebook = v4.new_notebook(cells=cells, metadata=spec)
    nbformat.write(v4_notebook, desk / "notebooks" / f"{name}.ipynb")  # type: ignore[no-untyped-call]


def run(desk: Path, *sources: str, name: str = "one", **parameters: Any) -> tuple[str, list[str], str]:
    """Execute these cells: the error, the state of each cell that was written, and what they printed."""
    write(desk, name, *sources)
    error = execute(name, parameters, desk / "out")
    return error, states(desk, name), printed(desk, name)


def node(desk: Path, name: str = "one") -> Any:
    return nbformat.read(desk / "out" / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def own_cells(desk: Path, name: str) -> list[Any]:
    """The cells that `write` wrote after the heading; papermill adds its own."""
    cells = [c for c in node(desk, name).cells if c.cell_type == "code"]
    return [c for c in cells if not {"parameters", "injected-parameters"} & set(c.metadata.tags)]


def states(desk: Path, name: str = "one") -> list[str]:
    return [cell.metadata.papermill.status for cell in own_cells(desk, name)]


def printed(desk: Path, name: str = "one") -> str:
    outputs = [output for cell in own_cells(desk, name) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def soon(condition: Callable[[], Any], within_s: float = 30) -> Any:
    give_up = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)
    return value


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # of an orphan: init has not looked yet
    except psutil.NoSuchProcess:
        return False


def is_running(desk: Path, name: str) -> bool:
    return (desk / "out" / f"{name}.ipynb").exists() and states(desk, name)[1:2] == ["running"]


def test_a_kernel_is_forked_warm_and_knows_only_its_own(desk: Path) -> None:
    error, cells, text = run(
        desk,
        "import sys\nassert {'pandas', 'scipy.special', 'paramiko', 'runbook_lib.step'} <= set(sys.modules)",
        "assert not {'warm_up', 'serve', 'WARM'} & set(globals()), globals()",
        "import os\nprint(os.getppid(), os.getcwd(), __name__, word)",
        word="hello",
    )
    assert (error, cells) == ("", ["completed"] * 3)
    assert text == f"{SHARED.pid} {desk} __main__ hello\n"
    facts = node(desk).metadata.papermill
    assert (facts.input_path, facts.output_path) == ("notebooks/one.ipynb", "out/one.ipynb")
    assert facts.exception is None
    assert facts.parameters == {"word": "hello"}


def test_nothing_goes_over_to_the_next(desk: Path) -> None:
    error, _, first = run(
        desk,
        "import os, sys, matplotlib, numpy, pandas, random",
        "left = matplotlib.rcParams['lines.linewidth'] = 99",
        "pandas.set_option('display.max_rows', 7)\nos.environ['LEFT'] = '1'\nsys.path.append('/left')\nos.chdir('/')",
        "print(os.getpid(), numpy.random.rand(), random.random())",
    )
    assert error == ""
    error, _, second = run(
        desk,
        "import os, sys, matplotlib, numpy, pandas, random",
        "assert 'left' not in globals()",
        "assert matplotlib.rcParams['lines.linewidth'] == matplotlib.rcParamsDefault['lines.linewidth']",
        "assert pandas.get_option('display.max_rows') == 60",
        "assert 'LEFT' not in os.environ and '/left' not in sys.path and os.getcwd() != '/'",
        "print(os.getpid(), numpy.random.rand(), random.random())",
    )
    assert error == ""
    assert not set(first.split()) & set(second.split())


def test_pyplot_draws_inline_as_in_a_cold_kernel(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    error, _, _ = run(desk, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert error == ""
    assert "image/png" in own_cells(desk, "one")[0].outputs[0].data


def test_an_error_is_answered_and_the_rest_is_pending(desk: Path) -> None:
    error, cells, text = run(desk, "print('before')", "1 / 0", "print('after')")
    assert error == "ZeroDivisionError: division by zero"
    assert cells == ["completed", "failed", "pending"]
    assert text == "before\n"
    assert node(desk).metadata.papermill.exception is True
    assert "An Exception was encountered" in node(desk).cells[0].source


def test_leaving_early_is_no_success(desk: Path) -> None:
    error, cells, _ = run(desk, "import sys\nsys.exit(0)", "print('after')")
    assert error == "a cell ended the notebook; 2 cells did not run to their end"
    assert cells == ["failed", "pending"]
    assert node(desk).metadata.papermill.exception is True


def test_a_kernel_that_dies_is_recorded_where_it_died(desk: Path) -> None:
    error, cells, text = run(desk, "print('before')", "import os\nos.kill(os.getpid(), 9)", "print('after')")
    assert error == "DeadKernelError: the kernel died: killed by SIGKILL"
    assert cells == ["completed", "failed", "pending"]
    assert text == "before\n"
    facts = node(desk).metadata.papermill
    assert (facts.exception, facts.reason) == (True, "the kernel died: killed by SIGKILL")
    assert "killed by SIGKILL" in (desk / "out" / "one.html").read_text()


def test_a_kernel_that_cannot_start_runs_no_cell(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = desk / "profile_default" / "ipython_kernel_config.py"
    settings.parent.mkdir()
    settings.write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("IPYTHONDIR", str(desk))
    error, cells, _ = run(desk, "print('never')")
    assert error.startswith("the kernel ended before it answered; ")
    assert cells == ["pending"]
    assert node(desk).metadata.papermill.exception is True


def test_two_threads_with_six_each(desk: Path) -> None:
    for number in range(12):
        write(desk, f"n{number}", f"number = {number}\nprint(number, word)")
    with ThreadPoolExecutor(2) as pool:
        errors = list(pool.map(lambda number: execute(f"n{number}", {"word": number}, desk / "out"), range(12)))
    assert errors == [""] * 12
    assert [printed(desk, f"n{number}") for number in range(12)] == [f"{number} {number}\n" for number in range(12)]


def test_a_killed_zygote_takes_its_kernels_and_is_started_again(desk: Path) -> None:
    first = SHARED.pid
    assert first
    error, cells, _ = run(desk, "import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(60)", "print('after')")
    assert error.startswith("DeadKernelError: the kernel died")
    assert cells == ["failed", "pending"]
    error, _, text = run(desk, "import os\nprint(os.getppid())")
    assert error == ""
    assert SHARED.pid not in (first, None)
    assert text == f"{SHARED.pid}\n"


def test_where_nothing_can_be_forked_kernels_are_started(
    desk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_self: kernels.Zygote) -> None:
        raise OSError("no forks today")

    monkeypatch.setattr(kernels.Zygote, "start", refuse)
    say_once.cache_clear()
    for _ in range(2):
        error, cells, text = run(desk, "import os\nprint(os.getppid())")
        assert (error, cells, text) == ("", ["completed"], f"{os.getpid()}\n")
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "kernels are started, not forked: no forks today"
    ]
    assert not list(SHARED.directory().iterdir())


def test_a_forked_kernel_can_be_interrupted_restarted_and_ended(desk: Path) -> None:
    import asyncio

    async def lead() -> list[Any]:
        found: list[Any] = []
        with warm_kernel("python3", desk) as (manager, provisioner):
            await manager.start_kernel(cwd=str(desk))
            for _ in range(2):
                client = manager.client()
                client.start_channels()
                await client.wait_for_ready(30)
                asked = client.execute("import subprocess\nsubprocess.run(['sleep', '61'])")
                kernel = psutil.Process(provisioner.pid or 0)
                soon(lambda kernel=kernel: kernel.children())
                await manager.interrupt_kernel()
                while (reply := await client.get_shell_msg(timeout=10))["parent_header"]["msg_id"] != asked:
                    pass
                found.append(reply["content"]["ename"])
                client.execute("import os\nos.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '62')")
                left = soon(kernel.children)
                client.stop_channels()
                await manager.restart_kernel(now=True)
                found += [is_alive(kernel), is_alive(left[0]), await manager.is_alive()]
            provisioner.signal_now(signal.SIGTERM)
            found.append(soon(lambda: provisioner.process and provisioner.process.poll()))
            await manager.shutdown_kernel(now=True)
        return found

    assert asyncio.run(lead()) == ["KeyboardInterrupt", False, False, True] * 2 + [-signal.SIGTERM]


def test_ctrl_c_stops_the_cell_and_the_record_says_so(desk: Path) -> None:
    write(
        desk, "slow", "print('before')", "try:\n    import time; time.sleep(60)\nfinally:\n    print('cleaned up')", "1"
    )
    stopper = threading.Thread(
        target=lambda: (soon(lambda: is_running(desk, "slow")), os.kill(os.getpid(), signal.SIGINT))
    )
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        execute("slow", {}, desk / "out")
    stopper.join()
    assert states(desk, "slow") == ["completed", "failed", "pending"]
    assert printed(desk, "slow") == "before\ncleaned up\n"
    assert node(desk, "slow").metadata.papermill.reason == "the runner was stopped by SIGINT"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_cell_that_will_not_stop_is_killed_in_every_thread(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "STOP_GRACE_S", 0.3)
    stubborn = "import time\nfor _ in '123':\n    try:\n        time.sleep(20)\n    except KeyboardInterrupt: ..."
    for name in ("left", "right"):
        write(desk, name, "print('before')", stubborn, "print('after')")
    stopper = threading.Thread(
        target=lambda: (
            soon(lambda: is_running(desk, "left") and is_running(desk, "right")),
            os.kill(os.getpid(), signal.SIGTERM),
        )
    )
    stopper.start()
    with (
        pytest.raises(SystemExit) as stopped,
        stoppable(),
        ThreadPoolExecutor(2) as pool,
    ):
        list(pool.map(lambda name: execute(name, {}, desk / "out"), ("left", "right")))
    stopper.join()
    assert stopped.value.code == 128 + signal.SIGTERM
    for name in ("left", "right"):
        assert states(desk, name) == ["completed", "failed", "pending"]
        reason = node(desk, name).metadata.papermill.reason
        assert reason == "the runner was stopped by SIGTERM; the kernel died: killed by SIGKILL"


def test_runners_that_are_ended_leave_nothing_behind(desk: Path) -> None:
    """One is asked to stop, one is killed; both in the middle of a cell."""
    command = [sys.executable, "-c", RUNNER]
    runners = {}
    for name in ("asked", "killed"):
        folder = desk / name
        (folder / "parameters").mkdir(parents=True)
        (folder / "notebooks").mkdir()
        write(folder, "quick", "print('quick')")
        write(folder, "slow", "print('before')", "import time\ntime.sleep(60)", "print('after')")
        runners[name] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True
        )
    for name, signum, code in (("asked", signal.SIGTERM, 143), ("killed", signal.SIGKILL, -9)):
        runner = runners[name]
        assert runner.stdout
        assert runner.stdout.readline() == "''\n"
        directory = Path(runner.stdout.readline().strip())
        soon(lambda name=name: is_running(desk / name, "slow"))
        family = psutil.Process(runner.pid).children(recursive=True)
        assert len(family) == 2, family
        assert list(directory.glob("*/*"))
        runner.send_signal(signum)
        said_and_complained = runner.communicate(timeout=20)
        assert said_and_complained == ("", "")
        assert runner.returncode == code
        soon(lambda family=family: not any(map(is_alive, family)), 10)
        soon(lambda directory=directory: not directory.exists(), 5)
    assert states(desk / "asked", "slow") == ["completed", "failed", "pending"]
    assert node(desk / "asked", "slow").metadata.papermill.reason == "the runner was stopped by SIGTERM"
    # Nobody was there to correct this one; still, nothing that did not run is called completed.
    assert states(desk / "killed", "slow") == ["completed", "running", "pending"]
    assert node(desk / "killed", "slow").metadata.papermill.end_time is None


def test_readers_never_see_half_a_record(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "PUBLISH_EVERY_S", 0)
    seen, ended = [], threading.Event()

    def read_on() -> None:
        path = desk / "out" / "one.ipynb"
        while not ended.is_set():
            if path.exists():
                seen.append(json.loads(path.read_text()))

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        error, _, _ = run(desk, *["print('x' * 500_000)"] * 8)
    finally:
        ended.set()
        reader.join()
    assert error == ""
    lengths = {sum(cell["metadata"]["papermill"]["status"] == "completed" for cell in book["cells"]) for book in seen}
    assert len(seen) > 20
    assert len(lengths) > 5, "it did not grow before the readers' eyes"
    assert not [path for path in (desk / "out").iterdir() if path.name.startswith(".")]


class Loads(HTMLParser):
    """Everything in a page that a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "iframe", "object", "embed"):
            self.found.append(tag)
        for name in ("src", "href", "srcset", "data", "action"):
            value = values.get(name) or ""
            if value and not value.startswith(("data:", "#")):
                self.found.append(f"{tag} {name}={value}")
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""


def test_the_page_needs_no_network(desk: Path) -> None:
    imports = "from matplotlib.figure import Figure\nfrom runbook_lib.show import report\n"
    draw = f"{imports}figure = Figure()\nfigure.subplots()"
    error, _, _ = run(desk, draw, "report.picture(figure, 'a picture')", "import pandas\npandas.DataFrame({'a': [1]})")
    assert error == ""
    page = (desk / "out" / "one.html").read_text()
    loads = Loads()
    loads.feed(page)
    assert loads.found == []
    assert loads.policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "url(" not in page
    assert "@import" not in page
    assert "<title>one</title>" in page
    assert 'alt="a picture"' in page
    assert '<table border="1" class="dataframe">' in page
