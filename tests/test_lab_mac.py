"""The practice Mac comes up, is like a Mac over SSH, and goes without leaving anything."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import subprocess
import timeit
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from lab_fixture import hook, secret, ssh, status, until

from runbook_lib.lab.layout import LabError
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.plan import reading

pytest_plugins = ["lab_fixture"]


def test_a_session_has_a_macs_environment(lab: PracticeMac) -> None:
    done = ssh(lab, "echo $PATH; echo $HOME; echo $0; pwd -P; umask; command -v launchctl plutil")
    bin_folder, home = lab.layout.bin, lab.layout.home
    path = f"{bin_folder}:/usr/bin:/bin:/usr/sbin:/sbin"
    commands = [f"{bin_folder}/launchctl", f"{bin_folder}/plutil"]
    assert done.stdout.splitlines()[:2] == [path, str(home)]
    assert done.stdout.splitlines()[3:] == [str(home.resolve()), "022", *commands]


def test_nothing_of_our_environment_gets_there(lab: PracticeMac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    names = {line.partition("=")[0] for line in ssh(lab, "env").stdout.splitlines()}
    shells_own = {"SHLVL", "PWD", "OLDPWD", "_"}
    assert names - shells_own == {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "SSH_CONNECTION"}


def test_the_login_shell_is_zsh(lab: PracticeMac) -> None:
    assert ssh(lab, 'words="a b"; printf "<%s>" $words').stdout == "<a b>", "zsh does not split words"
    unmatched = ssh(lab, "echo nothing-like-*-this")
    assert unmatched.returncode == 1
    assert "no matches found" in unmatched.stderr


def test_what_a_mac_has_not_is_not_found(lab: PracticeMac) -> None:
    commands = ["timeout 1 true", "setsid true", "flock /tmp true", "sha256sum /dev/null", "ss"]
    done = ssh(lab, "; ".join(f"{command}; echo $?" for command in commands))
    assert done.stdout.split() == ["127"] * len(commands)
    assert done.stderr.count("command not found") == len(commands)


GNU_ONLY = [
    "stat -c %s file",
    "date -d @0",
    "date +%s%N",
    "sed -i s/a/b/ file",
    "grep -P a file",
    "find . -printf x",
    "cp --reflink=auto file other",
    "xargs -d x true <file",
    "head -n -1 file",
    "readlink -e file",
    "awk 'BEGIN { print systime() }'",
    "rm --force other",
]

PORTABLE = {
    "stat -f %z file; stat -f '%Lp %N' file": "3 644 file",
    "date -u -r 0 +%Y; date -r 0 +%s": "1970 0",
    "sed -i '' s/a/x/ file; cat file": "xbc",
    "sed -n -e 's/^a/--/p' file": "--bc",
    "cp -cRp file copy; cat copy; rm copy": "abc",
    "cp -c file copy; cp -p copy other; cat other; rm -f copy other": "abc",
    "find . -name 'fil*' -type f": "./file",
    "head -c 2 file; tail -c 1 file": "abc",
    "grep -c abc file; ls -d file; wc -c <file": "1 file 3",
    "awk -v n=1 '{ print n, length($0) }' file": "1 3",
    "ps -o pid= -p $$ | wc -l": "1",
}


def test_what_only_gnu_has_is_refused(lab: PracticeMac) -> None:
    done = ssh(lab, "printf abc >file; " + "; ".join(f"{command}; echo $?" for command in GNU_ONLY))
    assert done.stdout.split() == ["64"] * len(GNU_ONLY), done.stderr
    assert done.stderr.count("refused by the practice Mac") == len(GNU_ONLY)


def test_what_both_have_and_a_macs_own_spelling_work(lab: PracticeMac) -> None:
    commands = [f"printf abc >file; chmod 644 file; {command}; echo; echo ----" for command in PORTABLE]
    answers = ssh(lab, "; ".join(commands)).stdout.split("----\n")
    said = {command: " ".join(answer.split()) for command, answer in zip(PORTABLE, answers, strict=False)}
    assert said == PORTABLE


def test_scripts_run_as_sh_on_standard_input_and_codes_come_back(lab: PracticeMac) -> None:
    assert ssh(lab, "exit 42").returncode == 42
    words = ["ssh", "-F", str(lab.layout.ssh_config), "practice-mac", "/bin/sh -s"]
    assert subprocess.run(words, input='x="a b"; printf "<%s>" $x', capture_output=True, text=True).stdout == "<a><b>"


def test_a_host_key_that_changed_is_refused(lab: PracticeMac, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    known = (lab.layout.run / "known_hosts").read_text().split()
    other.write_text(f"{known[0]} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n")
    words = ["ssh", "-F", str(lab.layout.ssh_config), "-o", f"UserKnownHostsFile={other}", "practice-mac", "true"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_nginx_serves_the_primary_by_tls(lab: PracticeMac) -> None:
    tls = ssl.create_default_context(cafile=lab.layout.nginx_etc / "tls/ca.pem")
    with httpx.Client(verify=tls) as client:
        for name in ("localhost", "127.0.0.1"):
            url = f"https://{name}:{lab.ports.https}"
            assert client.get(f"{url}/healthz").json() == {"ok": True, "status": "live"}
            assert hook(lab, url, client).json()["ok"] is True
        from_loopback = client.post(f"{url}/hooks/wake", headers={"X-Practice-Client": "127.0.0.1"}, json={})
        assert from_loopback.status_code == 403, "a probe without a client of its own is not attributed"
        assert client.post(f"{url}/api/v1/admin/rpc", json={}).status_code == 403
    line = json.loads((lab.layout.nginx_log / "access.log").read_text().splitlines()[0])
    assert line["status"] == "200"


def test_parameters_of_the_lab_are_valid(lab: PracticeMac) -> None:
    project = Path(__file__).parents[1]
    values = yaml.safe_load((project / "parameters/lab.yaml").read_text())
    plan = reading.build({**values, "host": {"practice_mac": str(lab.layout.yaml)}}, "lab.yaml")
    assert plan.canary.port - plan.primary.port >= 120
    assert plan.is_practice
    assert not list(Path(plan.nginx.managed_dir).iterdir())


def test_secrets_are_private_and_differ_but_for_those_both_verify(lab: PracticeMac) -> None:
    plan = yaml.safe_load(lab.layout.yaml.read_text())
    values: dict[str, dict[str, str]] = {"primary": {}, "canary": {}}
    for gateway, found in values.items():
        for name, reference in plan[gateway]["secrets"].items():
            path, _, key = reference.removeprefix("file:").partition("#")
            found[name] = secret(Path(path), key)
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
            assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
            assert found[name] not in lab.layout.yaml.read_text()
    shared = {name for name, value in values["primary"].items() if values["canary"][name] == value}
    assert shared == {"OPENCLAW_HOOKS_TOKEN", "STANDIN_GITHUB_SECRET", "STANDIN_STRIPE_SECRET"}
    config = json.loads((lab.layout.state_dir("primary") / "openclaw.json").read_text())
    assert config["gateway"]["auth"]["token"] == "${OPENCLAW_GATEWAY_TOKEN}"


def test_npm_knows_two_versions_and_pins_the_first(lab: PracticeMac) -> None:
    npm = lab.layout.node_bin / "npm"
    shown = ssh(lab, f"{npm} view {lab.package} versions --json")
    assert json.loads(shown.stdout) == ["2026.9.6", "2026.9.7"]
    lock = json.loads((lab.layout.prefix("primary") / "package-lock.json").read_text())
    assert lock["packages"][f"node_modules/{lab.package}"]["version"] == "2026.9.6"
    other = lab.layout.home / "gateways/other"
    done = ssh(
        lab, f"mkdir -p {other} && cp {lab.layout.prefix('primary')}/package*.json {other}/ && cd {other} && {npm} ci"
    )
    assert done.returncode == 0, done.stderr


def test_the_incident_channel_confirms_what_arrived(lab: PracticeMac) -> None:
    base = f"http://127.0.0.1:{lab.ports.outside}"
    assert status(f"{base}/pages?id=page-17") == 404
    page = {"version": "1.0", "title": "nginx is down", "message": 'id "page-17"', "type": "failure"}
    assert httpx.post(f"{base}/notify", json=page).status_code == 200
    assert status(f"{base}/pages?id=page-17") == 200
    assert status(f"{base}/pages?id=page-18") == 404
    assert httpx.post(f"{base}/notify", content=b"nonsense").status_code == 400


def test_up_again_is_quick_and_says_nothing(lab: PracticeMac) -> None:
    said: list[str] = []
    took_s = timeit.repeat(PracticeMac(lab.layout.root, say=said.append).up, number=1, repeat=3)
    assert min(took_s) < 0.5
    assert said == []
    with pytest.raises(LabError, match="has standin gateways"):
        PracticeMac(lab.layout.root, gateway="openclaw").up()


def test_what_was_killed_is_started_again(own_lab: PracticeMac) -> None:
    pid = json.loads((own_lab.layout.run / "sshd.pid").read_text())["pid"]
    psutil.Process(pid).kill()
    launchd = json.loads((own_lab.layout.run / "launchd.pid").read_text())["pid"]
    psutil.Process(launchd).kill()
    until(lambda: not own_lab.is_up())
    own_lab.up()
    assert own_lab.is_up()
    assert ssh(own_lab, "true").returncode == 0


def test_two_side_by_side_and_down_leaves_nothing(lab: PracticeMac, own_lab: PracticeMac) -> None:
    root, ports = own_lab.layout.root, own_lab.ports
    assert set(ports.all()).isdisjoint(lab.ports.all())
    mine = {process.pid for process in processes_of(root)}
    assert len(mine) >= 6, "sshd, launchd, outside, nginx and its workers, the gateway"
    somebody = subprocess.Popen(["/bin/sleep", "60"])  # has the pid that a record names, not its start time
    entry = {"pid": somebody.pid, "started_at": psutil.Process(somebody.pid).create_time() - 100}
    (own_lab.layout.run / "fault-gone.pid").write_text(json.dumps(entry))
    own_lab.down()
    assert somebody.poll() is None, "only what it started"
    somebody.kill()
    somebody.wait()
    assert processes_of(root) == []
    assert [path.name for path in root.iterdir()] == ["cache"]
    for port in ports.all():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    own_lab.down()  # nothing to do, and nothing said
    own_lab.down(keep_cache=False)
    assert not root.exists()
    assert lab.is_up()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LabError, match="is no practice Mac"):
        PracticeMac(tmp_path).up()
    PracticeMac(tmp_path).down(keep_cache=False)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def processes_of(root: Path) -> list[psutil.Process]:
    """Everything that runs with this lab's folder in its command line or as its working directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words, folder, state = " ".join(process.cmdline()), process.cwd(), process.status()
        except psutil.Error:
            continue
        if state != psutil.STATUS_ZOMBIE and (str(root) in words or folder.startswith(str(root))):
            found.append(process)
    return found
