"""What runs on the Mac is POSIX sh with no GNU in it, and answers the same whichever shell /bin/sh is.

macOS's /bin/sh is bash in POSIX mode, Debian's is dash, and the login shell in front of both is zsh.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from runbook_lib.onmac import function, script
from runbook_lib.plan import Plan
from runbook_lib.steps.weight import propose_files

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = PROJECT / "runbook_lib"
ON_MAC = sorted((LIBRARY / "onmac").glob("*.sh"))
LAB = sorted([*(LIBRARY / "lab").glob("*.sh"), *(LIBRARY / "lab/templates").glob("*.sh")])
NOT_OURS = "--exclude=SC2154,SC2034,SC2016"  # variables that the library sets around a script; node's own ${…}
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "zsh": ["zsh", "--emulate", "sh"]}
MAC_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
Answer = subprocess.CompletedProcess[str]

each_script = pytest.mark.parametrize("path", [*ON_MAC, *LAB], ids=lambda path: path.name)
each_shell = pytest.mark.parametrize("shell", SHELLS)


@each_script
def test_shellcheck_finds_nothing(path: Path, tools: Path) -> None:
    done = subprocess.run([tools / "shellcheck", "--shell=sh", NOT_OURS, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@each_shell
@each_script
def test_every_shell_can_parse_it(path: Path, shell: str) -> None:
    """As a file, and inside the function in which the library runs it."""
    text = path.read_text(encoding="utf-8")
    for source in (text, wrapped(text)):
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


def test_no_script_in_python_is_gnu_only() -> None:
    """Scripts that stand as text in the library: a first line that is a comment, as host.run names them by it."""
    found = []
    for path in sorted(LIBRARY.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if text.startswith("# ") and "\n" in text and re.search(r"\$\d|\$\(|printf", text):
                found.append((f"{path.name}:{node.lineno}", text))
    assert len(found) >= 5
    for where, text in found:
        assert gnu_only(text) == [], where


def wrapped(text: str) -> str:
    """As Host.run sends it."""
    return f'__main() {{\n{text}\n}}\n__main "$@" </dev/null\n'


def run(shell: str, text: str, *args: str, bin: Path | None = None, **variables: str) -> Answer:
    """A script as Host.run runs it, with a Mac's PATH and nothing else in its environment."""
    environment = {"PATH": f"{bin}:{MAC_PATH}" if bin else MAC_PATH, "LC_ALL": "C", **variables}
    words = [*SHELLS[shell], "-s", "--", *args]
    return subprocess.run(words, input=wrapped(text), capture_output=True, text=True, timeout=60, env=environment)


def in_every_shell(ask: Callable[[str], Answer]) -> str:
    """The one answer that all shells give, proven to be one, and nothing on standard error."""
    answers = {shell: ask(shell) for shell in SHELLS}
    for shell, done in answers.items():
        assert (done.returncode, done.stderr) == (0, ""), f"{shell}: {done.stderr}"
    texts = {shell: done.stdout for shell, done in answers.items()}
    assert len(set(texts.values())) == 1, texts
    return texts["dash"]


def put(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_ask_files(tmp_path: Path) -> None:
    log = put(tmp_path / "access.tsv", "a\tb\n" * 100)
    put(tmp_path / "access.tsv.1", "x\n")
    subprocess.run(["gzip", "-k", tmp_path / "access.tsv.1"], check=True)
    lines = in_every_shell(lambda shell: run(shell, script("ask_files.sh"), str(log), "64")).splitlines()
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == [str(log), f"{log}.1", f"{log}.1.gz"]
    assert [row[3] for row in rows[:2]] == ["400", "2"]
    assert [row[6] for row in rows[:2]] == ["64", "2"]
    assert rows[1][5] == rows[2][5], "a rotated file is known again after it was compressed"


def test_ask_listeners() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = str(one.getsockname()[1])
        answer = in_every_shell(lambda shell: run(shell, script("ask_listeners.sh"), port, "1"))
    assert answer.split("\t")[:2] == [port, str(os.getpid())]
    assert answer.endswith(f"127.0.0.1:{port}\n")


LAUNCHCTL = """#!/bin/sh
# A launchctl that forgets: the state is one file a label.
state={state} label=${{2##*/}}
case $1 in
print)
    [ -e "$state/$label" ] || {{ echo "Could not find service \\"$label\\" in domain" >&2; exit 113; }}
    printf '%s = {{\\n\\tstate = running\\n\\tpid = {pid}\\n\\truns = 3\\n' "$2"
    printf '\\tenvironment = {{\\n\\t\\tSECRET => x\\n\\t}}\\n}}\\n'
    ;;
bootstrap)
    tries=$(($(cat "$state/tries" 2>/dev/null) + 1))
    echo "$tries" >"$state/tries"
    [ "$tries" -ge 3 ] || {{ echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }}
    : >"$state/$(basename "$3" .plist)"
    ;;
bootout) rm -f "$state/$label"; echo 'Boot-out failed: 36: Operation now in progress' >&2; exit 36 ;;
esac
"""


@pytest.fixture
def launchctl(tmp_path: Path) -> Callable[[], Path]:
    """Makes a folder with a fresh launchctl that knows `known` and starts a job at the third try."""
    count = iter(range(100))

    def make() -> Path:
        folder = tmp_path / f"launchctl-{next(count)}"
        put(folder / "state/known", "")
        return put(folder / "launchctl", LAUNCHCTL.format(state=folder / "state", pid=os.getpid()), 0o755).parent

    return make


def test_ask_jobs_prints_no_environment(launchctl: Callable[[], Path]) -> None:
    bin = launchctl()
    answer = in_every_shell(lambda shell: run(shell, script("ask_jobs.sh"), "gui/501", "known", "unknown", bin=bin))
    assert answer.splitlines() == [
        "job\tknown\t0", "\tstate = running", f"\tpid = {os.getpid()}", "\truns = 3",
        "job\tunknown\t113", 'Could not find service "unknown" in domain',
    ]  # fmt: skip


def test_start_job_tries_again_after_5(launchctl: Callable[[], Path]) -> None:
    def ask(shell: str) -> Answer:
        return run(shell, script("start_job.sh"), "gui/501", "canary", "/x/canary.plist", "5", bin=launchctl())

    assert in_every_shell(ask) == "result\tloaded\n"


def test_start_job_gives_up_in_time(launchctl: Callable[[], Path]) -> None:
    def ask(shell: str) -> Answer:
        return run(shell, script("start_job.sh"), "gui/501", "canary", "/x/canary.plist", "1", bin=launchctl())

    answer = in_every_shell(ask)
    assert answer.splitlines()[0] == "result\trefused"
    assert "Input/output error" in answer


def test_stop_job_believes_print(launchctl: Callable[[], Path]) -> None:
    def ask(shell: str) -> Answer:
        return run(shell, script("stop_job.sh"), "gui/501", "known", "2", bin=launchctl())

    assert in_every_shell(ask) == "result\tgone\n"


SECRETS = "OPENCLAW_GATEWAY_TOKEN='a b$c`d'\nexport API_KEY=\"x'y=z\"\n# comment\nPLAIN=p\\n\n"


def test_ask_secrets_and_its_wrapper(tmp_path: Path) -> None:
    """The values come out as they were written, and only their hashes are printed."""
    first, second = put(tmp_path / "a.env", SECRETS, 0o600), put(tmp_path / "b.env", SECRETS, 0o644)
    wrapper = str(LIBRARY / "onmac/with-env.sh")
    files = (str(first), str(second), str(tmp_path / "absent.env"))
    answer = in_every_shell(lambda shell: run(shell, script("ask_secrets.sh"), "salt", wrapper, *files))
    rows = [line.split("\t") for line in answer.splitlines()]
    assert [row[2] for row in rows if row[0] == "mode"] == ["1", "0"]
    names = [row[2] for row in rows if row[0] == "secret" and row[1] == str(first)]
    assert names == ["OPENCLAW_GATEWAY_TOKEN", "API_KEY", "PLAIN"]
    digests = [[row[3] for row in rows if row[0] == "secret" and row[1] == str(file)] for file in (first, second)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 3
    assert "a b" not in answer


@each_shell
def test_with_env_reads_and_never_evaluates(shell: str, tmp_path: Path) -> None:
    file = put(tmp_path / "x.env", SECRETS + f"EVIL=$(touch {tmp_path}/evil)\n", 0o600)
    words = [*SHELLS[shell], str(LIBRARY / "onmac/with-env.sh"), str(file), "/usr/bin/printenv"]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": MAC_PATH})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["OPENCLAW_GATEWAY_TOKEN"] == "a b$c`d"
    assert found["API_KEY"] == "x'y=z"
    assert found["PLAIN"] == "p\\n"
    assert found["EVIL"] == f"$(touch {tmp_path}/evil)"
    assert not (tmp_path / "evil").exists()


def test_put_env_writes_a_private_file_or_none(tmp_path: Path) -> None:
    """Values from the Mac and from here; where one is missing, the file stays as it was."""
    source = put(tmp_path / "primary.env", "SHARED='s 1'\n", 0o600)
    from_here = "from_here() { printf \"OWN='v'\\n\"; }\n"
    wrapper = str(LIBRARY / "onmac/with-env.sh")

    def ask(shell: str, *keys: str) -> Answer:
        target = str(tmp_path / shell / "canary.env")
        lines = "".join(f"NAME_{key}\\t{source}\\t{key}\\n" for key in keys)
        return run(
            shell,
            f"from_mac() {{ printf '{lines}'; }}\n{from_here}{function('put_file')}{script('put_env.sh')}",
            target,
            wrapper,
        )

    written = in_every_shell(lambda shell: ask(shell, "SHARED"))
    missing = in_every_shell(lambda shell: ask(shell, "SHARED", "ABSENT"))
    assert (written, missing) == ("result\twritten\n", f"missing\t{source}\tABSENT\n")
    for shell in SHELLS:
        target = tmp_path / shell / "canary.env"
        assert target.read_text() == "OWN='v'\nNAME_SHARED='s 1'\n"
        assert (target.stat().st_mode & 0o777, target.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert list(target.parent.iterdir()) == [target]


def test_ask_env_files(tmp_path: Path) -> None:
    """Each file after the mark, whatever it ends with; one that is not there is empty."""
    there = str(put(tmp_path / "a b.env", "A='1'"))
    answer = in_every_shell(lambda shell: run(shell, script("ask_env_files.sh"), "MARK", there, "/nowhere", there))
    assert answer == "MARK\nA='1'MARK\nMARK\nA='1'"


def test_put_file_writes_what_is_not_there_yet(tmp_path: Path) -> None:
    """The same file with the same mode stays the same file; another text or another mode is put in its place."""

    def ask(shell: str, text: str, mode: str) -> Answer:
        path = tmp_path / shell / "file"
        put(path.with_name("file.next"), text)
        answer = run(shell, function("put_file") + 'put_file "$@"\n', str(path), mode)
        assert (path.read_text(), oct(path.stat().st_mode)[-3:], len(list(path.parent.iterdir()))) == (text, mode, 1)
        return answer

    asked = [("a", "600"), ("a", "600"), ("b", "600"), ("b", "644")]
    said = [in_every_shell(lambda shell, text=text, mode=mode: ask(shell, text, mode)) for text, mode in asked]
    assert said == [f"result\t{answer}\n" for answer in ("written", "there already", "written", "written")]


def test_take_snapshot_is_told_again_within_the_hour(tmp_path: Path) -> None:
    """A whole snapshot is not taken twice; half of one, one that failed, or an old one is no snapshot."""
    text = f"snap='{tmp_path}/snap'\n{script('take_snapshot.sh')}\n"
    report = tmp_path / "snap/report"
    put(tmp_path / "snap/report.next", "state\tprimary\tfailed\twhy\n")
    assert run("dash", f"{text}finish").stdout.endswith("result\tkept\n")
    assert not report.exists()
    put(tmp_path / "snap/report.next", "state\tprimary\tkept\n")
    assert run("dash", f"{text}finish").stdout.endswith("result\tkept\n")
    again = in_every_shell(lambda shell: run(shell, f"{text}taken_already || return 7"))
    assert again == "state\tprimary\tkept\nresult\tthere already\n"
    hour_ago = time.time() - 3700
    os.utime(report, (hour_ago, hour_ago))
    assert {run(shell, f"{text}taken_already || return 7").returncode for shell in SHELLS} == {7}


def test_take_snapshot_copies_hashes_and_checks(tmp_path: Path) -> None:
    """Everything but the gateway's own backup, which needs a gateway."""
    conf = put(tmp_path / "nginx/nginx.conf", "events {}\n").parent
    put(conf / "servers/a b.conf", "# with a space\n")
    state = tmp_path / "state"
    put(state / "openclaw.json", "{}")
    with sqlite3.connect(state / "sessions.sqlite") as database:
        database.execute("create table t (x)")
        database.execute("pragma user_version = 7")
    database.close()
    calls = (
        'room "$1" "$2" && mkdir -p "$snap"\n'
        'keep_file primary "$1/openclaw.json"\nkeep_file primary "$1/absent"\n'
        'keep_nginx "$2"\nhashes primary live "$1"\ndatabases primary live "$1"\n'
    )

    def ask(shell: str) -> Answer:
        snap = tmp_path / f"snap-{shell}"
        done = run(shell, f"snap='{snap}'\n{script('take_snapshot.sh')}\n{calls}", str(state), str(conf))
        text = re.sub(r"^room\t.*\n", "", done.stdout.replace(str(snap), "SNAP"), flags=re.MULTILINE)
        text = re.sub(r"^(archive\tnginx\tSNAP/nginx.tar.gz).*", r"\1", text, flags=re.MULTILINE)
        text = "".join(sorted(text.splitlines(keepends=True)))
        return subprocess.CompletedProcess(done.args, done.returncode, text, done.stderr)

    rows = [line.split("\t") for line in in_every_shell(ask).splitlines()]
    hashes = {(row[1], row[2], row[4]): row[3] for row in rows if row[0] == "hash"}
    for file in ("./nginx.conf", "./servers/a b.conf"):
        assert hashes["nginx", "live", file] == hashes["nginx", "restored", file]
    kept = [row[1:] for row in rows if row[0] == "kept"]
    assert kept[0][1:] == [str(state / "absent"), "absent", "absent"]
    assert kept[1][2] == kept[1][3] != "absent"
    assert ["database", "primary", "live", "./sessions.sqlite", "ok", "7", "1"] in rows


def test_take_snapshot_refuses_a_full_disk(tmp_path: Path) -> None:
    """A df that says there is nothing left; nothing is written then."""
    df = "#!/bin/sh\nprintf 'Filesystem 1024-blocks Used Available Capacity Mounted\\n/dev/x 9 9 9 99%% /\\n'\n"
    bin = put(tmp_path / "bin/df", df, 0o755).parent
    text = f"snap='{tmp_path}/snap'\n{script('take_snapshot.sh')}\nroom \"$1\" || printf 'result\\tno room\\n'\n"
    answer = in_every_shell(lambda shell: run(shell, text, str(tmp_path), bin=bin))
    assert answer.endswith("\t9\nresult\tno room\n")
    assert not (tmp_path / "snap").exists()


class Gateway(BaseHTTPRequestHandler):
    """Ready, with three queued events and two requests in flight."""

    def do_GET(self) -> None:
        self._answer({"ready": True})

    def do_POST(self) -> None:
        events = [{"text": 'a "quoted, ]" one', "n": [1, {"x": [2]}]}, {"text": "b"}]
        status = {"queuedSystemEvents": events, "tasks": {"byStatus": {"queued": 1}}, "rootRequests": 2}
        self._answer({"ok": self.headers["Authorization"] == "Bearer t o", "payload": status})

    def _answer(self, body: dict[str, Any]) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        content = json.dumps(body, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@each_shell
def test_the_sentinel_samples(shell: str, tmp_path: Path, launchctl: Callable[[], Path], gateway_port: int) -> None:
    """One line a gateway: a running one with all it has, an unknown one with what could not be measured left empty."""
    bin, samples = launchctl(), tmp_path / "samples.tsv"
    for name in ("sentinel.sh", "guard.sh", "with-env.sh"):
        shutil.copy(LIBRARY / "onmac" / name, tmp_path)
    env_file = put(tmp_path / "g.env", "OPENCLAW_GATEWAY_TOKEN='t o'\n", 0o600)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        no_port = closed.getsockname()[1]
    config = put(
        tmp_path / "sentinel.conf",
        f"every_s=60\nsamples='{samples}'\ndomain=gui/501\n"
        f"pending='{tmp_path}/p' lease='{tmp_path}/l' drain_file='{tmp_path}/d' guarded='{tmp_path}/g'\n"
        f"gateway primary known {gateway_port} '{env_file}'\ngateway canary unknown {no_port} '{env_file}'\n",
    )
    words = [*SHELLS[shell], str(tmp_path / "sentinel.sh"), str(config)]
    environment = {"PATH": f"{bin}:{MAC_PATH}"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline_s = time.monotonic() + 20
        while not samples.is_file() or samples.read_text().count("\n") < 2:
            assert time.monotonic() < deadline_s, "no samples"
            time.sleep(0.05)
        os.killpg(process.pid, 15)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert samples.stat().st_mode & 0o077 == 0
    primary, canary = (line.split("\t") for line in samples.read_text().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", primary[0])
    assert primary[1:3] == ["primary", str(os.getpid())]
    assert int(primary[3]) > 1000
    assert float(primary[4]) >= 0
    assert primary[5] == "200"
    assert (primary[7], primary[8]) == ("3", "2")
    assert [*canary[1:6], *canary[7:]] == ["canary", "", "", "", "000", "", ""]


@pytest.fixture
def own_nginx(tmp_path: Path) -> Iterator[Callable[[str], SimpleNamespace]]:
    """Makes a real nginx whose managed file answers a revision on /__rollout."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:{MAC_PATH}")
    assert binary, "nginx is not installed; make setup installs it"
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> SimpleNamespace:
        root = tmp_path / name
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        managed = put(root / "managed/rollout.conf", revision("w001"))
        temporary = "".join(
            f"  {kind}_temp_path {root}/tmp-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        conf = put(
            root / "nginx.conf",
            f"daemon off; pid {root}/nginx.pid; error_log {root}/error.log;\nevents {{}}\nhttp {{\n{temporary}"
            f"  access_log off;\n  server {{ listen 127.0.0.1:{port}; include {root}/managed/*.conf; }}\n}}\n",
        )
        words = [binary, "-c", str(conf), "-e", f"{root}/error.log"]
        processes.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        files = {"binary": binary, "conf": str(conf), "pid_file": f"{root}/nginx.pid", "error_log": f"{root}/error.log"}
        made = SimpleNamespace(port=port, managed=managed, root=root, mac=mac_with_nginx(probe_port=port, **files))
        deadline_s = time.monotonic() + 10
        while answered(made) != "w001":
            assert time.monotonic() < deadline_s, (root / "error.log").read_text()
            time.sleep(0.05)
        return made

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=10)


def revision(name: str) -> str:
    return f'location = /__rollout {{ return 200 "{name} $pid"; }}\n'


def mac_with_nginx(**nginx: object) -> Any:
    """As much of a Mac as propose_files looks at."""
    values = yaml.safe_load((PROJECT / "parameters/hk.yaml").read_text(encoding="utf-8"))
    plan = Plan.model_validate(values)
    return SimpleNamespace(plan=plan.model_copy(update={"nginx": plan.nginx.model_copy(update=nginx)}))


def answered(nginx: SimpleNamespace) -> str:
    url = f"http://127.0.0.1:{nginx.port}/__rollout"
    return subprocess.run(["curl", "-s", url], capture_output=True, text=True).stdout.split(" ")[0]


def reload(shell: str, nginx: SimpleNamespace, files: dict[Path, str], expect: str) -> dict[str, str]:
    """What a reload answers, by the very script that the library puts together; only its patience is cut."""
    after = {str(path): text for path, text in files.items()}
    proposal = propose_files(nginx.mac, "try", {}, after, expect=expect, undo="", facts={})
    args = list(proposal.args)
    args[6] = "3"
    done = run(shell, proposal.script, *args, TMPDIR=str(nginx.root))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert not list(nginx.root.glob("rollout.*")), "the staging folder is gone"
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


@each_shell
def test_a_reload_is_proven_refused_or_put_back(shell: str, own_nginx: Callable[[str], SimpleNamespace]) -> None:
    """Against a real nginx, with what stands on disk and what answers after each."""
    nginx = own_nginx(shell)
    extra = nginx.managed.with_name("extra.conf")
    proven = reload(shell, nginx, {nginx.managed: revision("w002"), extra: "# new\n"}, "w002")
    assert (proven["result"], proven["before"], answered(nginx)) == ("proven", "w001", "w002")
    assert len(proven["workers"].split()) >= 1
    assert extra.read_text() == "# new\n"

    refused = reload(shell, nginx, {nginx.managed: "locatio n {\n", extra: ""}, "w003")
    assert (refused["result"], answered(nginx)) == ("refused", "w002")
    assert "unknown directive" in refused["detail"]
    assert (nginx.managed.read_text(), extra.read_text()) == (revision("w002"), "# new\n")

    unproven = reload(shell, nginx, {nginx.managed: revision("other")}, "w003")
    assert (unproven["result"], answered(nginx)) == ("not proven", "w002")
    assert "w002 answers" in unproven["detail"]
    assert nginx.managed.read_text() == revision("w002")

    removed = reload(shell, nginx, {nginx.managed: revision("w004"), extra: ""}, "w004")
    assert (removed["result"], extra.exists()) == ("proven", False)

    pid = (nginx.root / "nginx.pid").read_text()
    put(nginx.root / "nginx.pid", f"{os.getpid()}\n")
    stale = reload(shell, nginx, {nginx.managed: revision("w005")}, "w005")
    put(nginx.root / "nginx.pid", pid)
    assert (stale["result"], answered(nginx), nginx.managed.read_text()) == ("stale", "w004", revision("w004"))


def test_ask_recent_shows_the_ends_of_both_files_and_nothing_of_what_is_not_there(tmp_path: Path) -> None:
    samples, log = tmp_path / "samples.tsv", tmp_path / "log.tsv"
    words = (str(samples), "15", str(log), "8", str(tmp_path / "drain"))
    assert in_every_shell(lambda shell: run(shell, script("ask_recent.sh"), *words)) == "drain_file\tabsent\n"
    samples.write_text("one\ta\ntwo\tb\\n %s\n")
    log.write_text("12345678\n1234567\n")
    (tmp_path / "drain").touch()
    told = in_every_shell(lambda shell: run(shell, script("ask_recent.sh"), *words))
    assert told == "sample\te\ta\nsample\ttwo\tb\\n %s\nlog\t1234567\ndrain_file\tthere\n"


def test_ask_pulse_and_ask_nginx(own_nginx: Callable[[str], SimpleNamespace]) -> None:
    nginx = own_nginx("one")
    section = nginx.mac.plan.nginx
    drain = put(nginx.root / "drain", "")
    pulse = in_every_shell(
        lambda shell: run(shell, script("ask_pulse.sh"), str(nginx.port), section.pid_file, str(drain))
    )
    rows = [line.split("\t") for line in pulse.splitlines()]
    assert rows[0][1].startswith("w001 ")
    assert ["drain_file", "there"] in rows
    workers = [row for row in rows if row[0] == "worker"]
    assert workers and {row[2] for row in workers} == {"serving"}
    words = (section.binary, section.conf, section.pid_file, "")
    asked = in_every_shell(lambda shell: run(shell, script("ask_nginx.sh"), *words, TMPDIR=str(nginx.root)))
    assert "slow_start\tno\n" in asked
    assert "test_exit\t0\n" in asked
    assert revision("w001") in asked
    assert not list(nginx.root.glob("nginx.??????")), "its scratch folder is gone"
