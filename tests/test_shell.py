"""What runs on the Mac answers the same whichever shell /bin/sh is."""

from __future__ import annotations

import bz2
import hashlib
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
from typing import Any

import pytest
from gateways import NODE
from shells import MAC_PATH, SHELLS, Answer, each_shell, in_every_shell, put, run

from runbook_lib.onmac import function, program, script

ON_MAC = Path(__file__).resolve().parents[1] / "runbook_lib/onmac"


def test_ask_files(tmp_path: Path) -> None:
    log = put(tmp_path / "access.tsv", "a\tb\n" * 100)
    put(tmp_path / "access.tsv.1", "x\n")
    subprocess.run(["gzip", "-k", tmp_path / "access.tsv.1"], check=True)
    (tmp_path / "access.tsv.1.bz2").write_bytes(bz2.compress(b"x\n"))
    lines = in_every_shell(lambda shell: run(shell, script("ask_files.sh"), str(log), "64")).splitlines()
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == [str(log), f"{log}.1", f"{log}.1.bz2", f"{log}.1.gz"]
    assert [row[3] for row in rows[:2]] == ["400", "2"]
    assert [row[6] for row in rows[:2]] == ["64", "2"]
    assert rows[1][5] == rows[2][5] == rows[3][5], "a rotated file is known again after it was compressed"


@each_shell
def test_a_rotated_file_that_cannot_be_unpacked_is_named(shell: str, tmp_path: Path) -> None:
    log = put(tmp_path / "access.tsv", "a\tb\n")
    put(tmp_path / "access.tsv.1.zst", "x")
    done = run(shell, script("ask_files.sh"), str(log), "64")
    assert done.returncode == 1 and f"{log}.1.zst is packed in a way that is not read" in done.stderr


def test_ask_listeners() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = str(one.getsockname()[1])
        answer = in_every_shell(lambda shell: run(shell, script("ask_listeners.sh"), port, "1"))
    assert answer.split("\t")[:2] == [port, str(os.getpid())]
    assert answer.endswith(f"127.0.0.1:{port}\n")


def test_a_port_that_lsof_does_not_show_is_found_by_connecting(tmp_path: Path) -> None:
    """Without root, lsof shows only what is ours."""
    put(tmp_path / "lsof", "#!/bin/sh\nexit 1\n", 0o755)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(listener.getsockname()[1]) for listener in (one, other)]
        other.close()
        answer = in_every_shell(lambda shell: run(shell, script("ask_listeners.sh"), *ports, bin=tmp_path))
    assert answer == f"{ports[0]}\t0\tanother user\t127.0.0.1:{ports[0]}\n"


@pytest.mark.parametrize(("plutil", "said"), [("echo 4096", "4096"), ("echo no such key; exit 1", "")])
def test_the_open_files_of_nginx_are_its_jobs_and_not_the_shells(tmp_path: Path, plutil: str, said: str) -> None:
    put(tmp_path / "plutil", f"#!/bin/sh\n{plutil}\n", 0o755)
    words = ("/bin/true", str(tmp_path / "conf"), "", str(tmp_path / "plist"))
    answer = in_every_shell(lambda shell: run(shell, script("ask_nginx.sh"), *words, bin=tmp_path))
    assert f"open_files\t{said}\n" in answer


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
    answer = in_every_shell(lambda shell: run(shell, script("ask_jobs.sh"), "gui/501/known", "system/unknown", bin=bin))
    assert answer.splitlines() == [
        "job\tgui/501/known\t0", "\tstate = running", f"\tpid = {os.getpid()}", "\truns = 3",
        "job\tsystem/unknown\t113", 'Could not find service "unknown" in domain',
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


SECRETS = "OPENCLAW_GATEWAY_TOKEN='a b$c`d long'\nexport API_KEY=\"x'y=zzzzz\"\n# comment\nPLAIN_TEXT=pppppp\\n\n"


def test_ask_secrets_and_its_wrapper(tmp_path: Path) -> None:
    """Only hashes are printed; what is named a secret is one, whatever its name."""
    first, second = put(tmp_path / "a.env", SECRETS, 0o600), put(tmp_path / "b.env", SECRETS, 0o644)
    files = (str(first), str(second), str(tmp_path / "absent.env"))
    here = {"state": str(tmp_path), "config": str(tmp_path / "openclaw.json")}
    put(tmp_path / "openclaw.json", "{ gateway: { auth: { token: 'told-by-json5' } } } // ours")
    gateways = {"one": {**here, "env": str(first), "names": ["PLAIN_TEXT"]}, "two": {**here, "env": str(second)}}
    question = json.dumps({"salt": "salt", "gateways": gateways})
    words = (str(NODE), question, program("ask_secrets.js"), *files)
    answer = in_every_shell(lambda shell: run(shell, script("ask_secrets.sh"), *words))
    rows = [line.split("\t") for line in answer.splitlines()]
    assert [row[2] for row in rows if row[0] == "mode"] == ["1", "0"]
    names = {who: [row[2] for row in rows if row[0] == "secret" and row[1] == who] for who in gateways}
    assert names["two"] == ["OPENCLAW_GATEWAY_TOKEN", "API_KEY", "gateway.auth.token"]
    assert names["one"] == ["OPENCLAW_GATEWAY_TOKEN", "API_KEY", "PLAIN_TEXT", "gateway.auth.token"]
    hashes = {row[2]: row[3] for row in rows if row[0] == "secret"}
    assert hashes["OPENCLAW_GATEWAY_TOKEN"] == hashlib.sha256(b"salta b$c`d long").hexdigest()
    assert "a b" not in answer and "told" not in answer


@each_shell
def test_with_env_reads_and_never_evaluates(shell: str, tmp_path: Path) -> None:
    file = put(tmp_path / "x.env", SECRETS + f"EVIL=$(touch {tmp_path}/evil)\n", 0o600)
    words = [*SHELLS[shell], str(ON_MAC / "with-env.sh"), str(file), "/usr/bin/printenv"]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": MAC_PATH})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["OPENCLAW_GATEWAY_TOKEN"] == "a b$c`d long"
    assert found["API_KEY"] == "x'y=zzzzz"
    assert found["PLAIN_TEXT"] == "pppppp\\n"
    assert found["EVIL"] == f"$(touch {tmp_path}/evil)"
    assert not (tmp_path / "evil").exists()


def test_put_env_writes_a_private_file_or_none(tmp_path: Path) -> None:
    """Values from the Mac and from here; where one is missing, the file stays as it was."""
    source = put(tmp_path / "primary.env", "SHARED='s 1'\n", 0o600)
    from_here = "from_here() { printf \"OWN='v'\\n\"; }\n"
    wrapper = str(ON_MAC / "with-env.sh")

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
        shutil.copy(ON_MAC / name, tmp_path)
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


def test_ask_recent_shows_the_ends_of_both_files_and_nothing_of_what_is_not_there(tmp_path: Path) -> None:
    samples, log = tmp_path / "samples.tsv", tmp_path / "log.tsv"
    words = (str(samples), "15", str(log), "8", str(tmp_path / "drain"))
    assert in_every_shell(lambda shell: run(shell, script("ask_recent.sh"), *words)) == "drain_file\tabsent\n"
    samples.write_text("one\ta\ntwo\tb\\n %s\n")
    log.write_text("12345678\n1234567\n")
    (tmp_path / "drain").touch()
    told = in_every_shell(lambda shell: run(shell, script("ask_recent.sh"), *words))
    assert told == "sample\te\ta\nsample\ttwo\tb\\n %s\nlog\t1234567\ndrain_file\tthere\n"
