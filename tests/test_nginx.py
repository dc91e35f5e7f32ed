"""What we render, and the edit of your server block, against the real nginx."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_nginx import MAIN, Gateway, OwnNginx, ask, status

from runbook_lib.accesslog import LOG_FORMAT
from runbook_lib.errors import ActionFailed, EvidenceError
from runbook_lib.nginx import Configuration, adopt, proxies_to, render
from runbook_lib.plan import Plan

KEYS = 4000
SERVER = """server {
    listen 127.0.0.1:PUBLIC;
    set_real_ip_from 127.0.0.0/8;
    real_ip_header X-Practice-Client;
    include who*.inc;  # what the split says, by itself
    location / {
        proxy_pass http://127.0.0.1:PRIMARY;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
    }
}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNginx]:
    """One that runs, with both gateways."""
    own = OwnNginx(tmp_path_factory.mktemp("nginx"))
    (own.folder / "runbook").mkdir()
    own.serve(SERVER)
    gateways = [Gateway("primary", own.primary), Gateway("canary", own.canary)]
    try:
        own.set_weight(own.plan(), 10)
        yield own
    finally:
        own.stop()
        for gateway in gateways:
            gateway.end()


@pytest.fixture
def fresh(tmp_path: Path) -> OwnNginx:
    """One that does not run yet."""
    return OwnNginx(tmp_path)


def split(nginx: OwnNginx, keys: range = range(KEYS)) -> list[str]:
    """The gateway that each key gets."""
    headers = [{"Idempotency-Key": f"key-{n}"} for n in keys]
    return [body.split()[0].decode() for body in ask(nginx.public, ["/who"] * len(headers), *headers)]


# -- the split ---------------------------------------------------------------------------------------------------


def test_growing_the_slice_moves_no_key_out_of_it(nginx: OwnNginx) -> None:
    plan = nginx.plan()
    inside: set[int] = set()
    for weight_pct in (0, 5.5, 10, 30, 99.99, 100):
        revision = nginx.set_weight(plan, weight_pct)
        assert revision.startswith(f"w{weight_pct:06.2f}-")
        gateways = split(nginx)
        now = {n for n, gateway in enumerate(gateways) if gateway == "canary"}
        assert inside <= now, f"at {weight_pct} % {len(inside - now)} keys moved out"
        share = weight_pct / 100
        assert abs(len(now) / KEYS - share) <= 3.3 * math.sqrt(share * (1 - share) / KEYS), weight_pct
        inside = now
    assert len(inside) == KEYS
    nginx.set_weight(plan, 10)


def test_weight_zero_is_the_absence_of_the_canary(nginx: OwnNginx) -> None:
    plan = nginx.plan()
    files = render(plan, nginx.configuration(), 0).files
    rendered = Configuration.split(nginx.run("-T", "-q").stdout) | files
    (block,) = re.findall(r"split_clients[^{]*\{([^}]*)\}", rendered[f"{plan.nginx.managed_dir}/http.conf"])
    assert block.split() == ["*", "primary;"]


def test_a_missing_key_falls_through_the_chain(nginx: OwnNginx) -> None:
    nginx.set_weight(nginx.plan(), 50)
    ids = [f"delivery-{n}" for n in range(300)]
    by_delivery = ask(nginx.public, ["/who"] * 300, *({"X-GitHub-Delivery": one} for one in ids))
    by_key = ask(nginx.public, ["/who"] * 300, *({"Idempotency-Key": one} for one in ids))
    both = ({"Idempotency-Key": one, "X-GitHub-Delivery": "other"} for one in ids)
    assert by_delivery == by_key == ask(nginx.public, ["/who"] * 300, *both), "the same id is the same side"
    clients = [{"X-Practice-Client": f"203.0.113.{n}", "User-Agent": "x"} for n in range(1, 250)]
    anonymous = Counter(ask(nginx.public, ["/who"] * len(clients), *clients))
    assert 70 < anonymous[b"canary canary"] < 180, "without an id, by client"
    agents = [{"X-Practice-Client": "203.0.113.9", "User-Agent": f"agent {n}"} for n in range(200)]
    assert len(Counter(ask(nginx.public, ["/who"] * len(agents), *agents))) == 2
    again = ask(nginx.public, ["/who"] * len(agents), *agents)
    assert again == ask(nginx.public, ["/who"] * len(agents), *agents)
    nginx.set_weight(nginx.plan(), 10)


def test_pinned_paths_stay_on_primary_until_the_whole_weight_moves(nginx: OwnNginx) -> None:
    keys = [{"Idempotency-Key": f"key-{n}"} for n in range(200)]
    nginx.set_weight(nginx.plan(), 99.99)
    pinned = [json.loads(body)["gateway"] for body in ask(nginx.public, ["/hooks/stripe"] * 200, *keys)]
    assert set(pinned) == {"primary"}
    assert {json.loads(b)["gateway"] for b in ask(nginx.public, ["/hooks/other"] * 200, *keys)} == {"canary"}
    nginx.set_weight(nginx.plan(), 100)
    assert {json.loads(b)["gateway"] for b in ask(nginx.public, ["/hooks/stripe"] * 20, *keys[:20])} == {"canary"}
    nginx.set_weight(nginx.plan(), 10)


def test_the_drain_file_sends_all_to_primary_and_its_removal_restores_the_split(nginx: OwnNginx) -> None:
    plan = nginx.plan()
    nginx.set_weight(plan, 50)
    keys = [{"Idempotency-Key": f"key-{n}"} for n in range(400)]

    def gateways() -> list[str]:
        return [json.loads(body)["gateway"] for body in ask(nginx.public, ["/hooks/x"] * 400, *keys)]

    before = gateways()
    assert 120 < before.count("canary") < 280
    drain = Path(plan.drain_file)
    drain.touch()
    assert gateways() == ["primary"] * 400
    drain.unlink()
    assert gateways() == before
    nginx.set_weight(plan, 10)


@pytest.mark.parametrize("at", ["http", "server"])
def test_a_file_cache_does_not_delay_the_drain(tmp_path: Path, at: str) -> None:
    """open_file_cache_errors would keep `there is no drain file` for a minute."""
    cache = "open_file_cache max=100 inactive=60s; open_file_cache_valid 60s; open_file_cache_errors on;"
    own = OwnNginx(tmp_path, http=cache if at == "http" else "")
    (tmp_path / "runbook").mkdir()
    own.serve(SERVER if at == "http" else SERVER.replace("    set_real", f"    {cache}\n    set_real"))
    plan = own.plan()
    if at == "server":
        with pytest.raises(ActionFailed, match="openclaw.conf line 3: open_file_cache in the server block"):
            render(plan, own.configuration(), 10)
        return
    try:
        own.set_weight(plan, 100)
        assert ask(own.public, ["/who"] * 50) == [b"canary canary"] * 50
        Path(plan.drain_file).touch()
        assert ask(own.public, ["/who"] * 50) == [b"canary primary"] * 50
        Path(plan.drain_file).unlink()
        assert ask(own.public, ["/who"] * 50) == [b"canary canary"] * 50
    finally:
        own.stop()


# -- what gateways and the outside see ---------------------------------------------------------------------------


def test_the_admin_api_is_refused_from_outside(nginx: OwnNginx) -> None:
    for path in ("/api/v1/admin/rpc", "/api/v1/admin/", "//api/v1//admin/rpc", "/api/v1/x/../admin/rpc"):
        assert status(nginx.public, path) == 403, path
    assert status(nginx.public, "/api/v1/other") == 200


def test_your_own_admin_location_stays(fresh: OwnNginx) -> None:
    fresh.serve(SERVER.replace("    location / {", "    location ^~ /api/v1/admin/ { return 404; }\n    location / {"))
    files = render(fresh.plan(), fresh.configuration(), 10).files
    assert "/api/v1/admin/" not in files[f"{fresh.folder}/managed/server.conf"]


def test_a_client_cannot_say_who_it_is(nginx: OwnNginx) -> None:
    spoofed = {"X-Forwarded-For": "10.0.0.1, 10.0.0.2", "X-Practice-Client": "203.0.113.7"}
    said = json.loads(ask(nginx.public, ["/x"], spoofed)[0])
    assert said["headers"]["X-Forwarded-For"] == "203.0.113.7"


def test_the_probe_port_asks_each_gateway_by_itself(nginx: OwnNginx) -> None:
    for name in ("primary", "canary"):
        said = json.loads(ask(nginx.probe, [f"/{name}/readyz?x=1"])[0])
        assert (said["gateway"], said["path"]) == (name, "/readyz?x=1")
        assert said["headers"]["X-Forwarded-For"] == "192.0.2.1"
    assert b"Active connections" in ask(nginx.probe, ["/__status"])[0]


def test_every_request_is_in_our_log_once(nginx: OwnNginx) -> None:
    log = nginx.folder / "openclaw-rollout.tsv"
    before = len(log.read_bytes().splitlines())
    ask(nginx.public, ["/counted"] * 50)
    ask(nginx.probe, ["/__rollout"])
    lines = log.read_bytes().splitlines()
    assert len(lines) == before + 50
    assert all(b"w010.00-" in line for line in lines[-50:])


def test_a_dead_canary_fails_over_and_is_seen(tmp_path: Path) -> None:
    own = OwnNginx(tmp_path)
    own.serve(SERVER)
    primary = Gateway("primary", own.primary)
    try:
        own.set_weight(own.plan(), 100)
        said = [json.loads(body)["gateway"] for body in ask(own.public, ["/x"] * 20)]
        assert said == ["primary"] * 20
        assert f"127.0.0.1:{own.canary}" in (tmp_path / "openclaw-rollout.tsv").read_text(), "and our log tells"
    finally:
        own.stop()
        primary.end()


# -- the edit of your server block -------------------------------------------------------------------------------

L = "    listen 127.0.0.1:PUBLIC;\n"


def block(*inside: str, location: str = "/", above: str = "") -> str:
    """A server block with one location."""
    lines = "".join(f"        {line}\n" for line in inside)
    return f"server {{\n{L}{above}    location {location} {{\n{lines}    }}\n}}\n"


PASS = "proxy_pass http://127.0.0.1:PRIMARY;"
ACCEPTED = {
    "plain": block(PASS),
    "trailing slash": block("proxy_pass http://127.0.0.1:PRIMARY/;"),
    "localhost": block("proxy_pass http://localhost:PRIMARY;"),
    "v6": block("proxy_pass http://[::1]:PRIMARY;"),
    "upstream": "upstream gateway {\n    server 127.0.0.1:PRIMARY;\n    keepalive 8;\n}\n"
    f"server {{\n{L}    location / {{\n        proxy_pass http://gateway;\n    }}\n}}\n",
    "two locations": block(PASS).removesuffix("}\n")
    + f"    location /hooks/ {{\n        proxy_read_timeout 700s;\n        {PASS}\n    }}\n}}\n",
    "wide": block("proxy_pass          http://127.0.0.1:PRIMARY ;  # primary"),
    "quoted": block('proxy_pass "http://127.0.0.1:PRIMARY";'),
    "tabs": "server {\n\tlisten 127.0.0.1:PUBLIC;\n\tlocation / {\n\t\tproxy_pass\thttp://127.0.0.1:PRIMARY;\n\t}\n}\n",
    "brace below": f"server\n{{\n{L}    location /\n    {{\n        proxy_pass http://127.0.0.1:PRIMARY;\n    }}\n}}\n",
    "location on one line": f"server {{\n{L}    location / {{ proxy_pass http://127.0.0.1:PRIMARY; }}\n}}\n",
    "nested location": f"server {{\n{L}    location /a {{\n        location /a/b {{\n"
    "            proxy_pass http://127.0.0.1:PRIMARY;\n        }\n    }\n}\n",
    "in if": f"server {{\n{L}    location / {{\n        if ($request_method = POST) {{\n"
    "            proxy_pass http://127.0.0.1:PRIMARY;\n        }\n        return 404;\n    }\n}\n",
    "named location": f"server {{\n{L}    location / {{\n        try_files /nothing @gateway;\n    }}\n"
    "    location @gateway {\n        proxy_pass http://127.0.0.1:PRIMARY;\n    }\n}\n",
    "two servers": f"server {{\n{L}    location / {{\n        proxy_pass http://127.0.0.1:PRIMARY;\n    }}\n}}\n"
    "server {\n    listen 127.0.0.1:PUBLIC;\n    server_name other;\n    location / {\n"
    "        proxy_pass http://127.0.0.1:PRIMARY;\n    }\n}\n",
    "another server above": f"server {{\n    listen 127.0.0.1:PUBLIC;\n    return 301 https://$host;\n}}\n"
    f"server {{\n{L}    server_name x;\n    location / {{\n        proxy_pass http://127.0.0.1:PRIMARY;\n    }}\n}}\n",
    "include first": f"server {{\n    include ../common.inc;\n{L}    location / {{\n"
    "        proxy_pass http://127.0.0.1:PRIMARY;\n    }\n}\n",
    "proxy in an include": f"server {{\n{L}    include gateway.inc;\n}}\n",
    "carriage returns": block(PASS).replace("\n", "\r\n"),
    "no last newline": block(PASS).removesuffix("\n"),
    "umlauts": f"# Zürich, für später\n{block(PASS)}",
    "own log": block(PASS, above="    access_log FOLDER/mine.log;\n"),
    "a location's own log": block("access_log FOLDER/mine.log;", PASS),
}


@pytest.mark.parametrize("style", ACCEPTED)
def test_server_blocks_of_many_styles_are_adopted(fresh: OwnNginx, style: str) -> None:
    (fresh.folder.parent / "common.inc").write_text("")
    (fresh.folder / "common.inc").write_text("# shared\nclient_max_body_size 1m;\n")
    (fresh.folder / "gateway.inc").write_text(f"location / {{\n    proxy_pass http://127.0.0.1:{fresh.primary};\n}}\n")
    fresh.serve(ACCEPTED[style].replace("../common.inc", "common.inc").replace("FOLDER", str(fresh.folder)))
    original = fresh.server_file.read_bytes()
    plan = fresh.plan()
    before = fresh.configuration()
    assert fresh.server_file.read_bytes() == original
    count = len(proxies_to(before, fresh.primary))
    rendered = render(plan, before, 8)
    write(rendered.files)
    after = fresh.configuration()
    managed = f"{fresh.folder}/managed/"
    proxies = [p for p in after.walk("proxy_pass") if not p.file.startswith(managed)]
    assert [p.args[0] for p in proxies] == ["http://$openclaw_pool"] * count
    for proxy in proxies:  # each has the kill switch in its server, and our log where its own log is
        server = next(d for d in reversed(proxy.within) if d.name == "server")
        assert len([c for c in server.find("set") if c.file == f"{managed}server.conf"]) == 1
        log = proxy.within[-1].effective("access_log")
        assert log is not None
        level = next(d for d in reversed(proxy.within) if log in (d.block or []))
        assert any("openclaw_rollout" in one.args for one in level.find("access_log"))
    again = render(plan, after, 8)
    assert again.revision == rendered.revision, "the same weight of the same plan is the same revision"
    assert {p: t for p, t in again.files.items() if Path(p).read_bytes().decode() != t} == {}
    assert render(plan, after, 9).revision != rendered.revision


def write(files: dict[str, str]) -> None:
    for path, text in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(text.encode())


REFUSED = {
    "one-liner": ("server { listen 127.0.0.1:PUBLIC; location / { proxy_pass http://127.0.0.1:PRIMARY; } }\n", 1, ""),
    "server opens with more": (
        "server { listen 127.0.0.1:PUBLIC;\n    location / {\n        proxy_pass http://127.0.0.1:PRIMARY;\n    }\n}\n",
        1,
        "on its own line",
    ),
    "URI part": (
        f"server {{\n{L}    location /x/ {{\n        proxy_pass http://127.0.0.1:PRIMARY/y/;\n    }}\n}}\n",
        4,
        "URI part",
    ),
    "slash that strips a prefix": (
        f"server {{\n{L}    location /x/ {{\n        proxy_pass http://127.0.0.1:PRIMARY/;\n    }}\n}}\n",
        4,
        "URI part",
    ),
    "shares its line": (
        block(f"proxy_buffering off; {PASS}"),
        4,
        "shares its line",
    ),
    "https": (
        f"server {{\n{L}    location / {{\n        proxy_pass https://127.0.0.1:PRIMARY;\n    }}\n}}\n",
        4,
        "write `proxy_pass http://127.0.0.1:",
    ),
    "log off": (
        block("access_log off;", PASS),
        4,
        "nothing could be judged",
    ),
    "log off in the server": (
        block(PASS, above="    access_log off;\n"),
        3,
        "nothing could be judged",
    ),
    "not UTF-8": (
        f"# Z\ufffdrich\nserver {{\n{L}    location / {{\n        proxy_pass http://127.0.0.1:PRIMARY;\n    }}\n}}\n",
        None,
        "is not UTF-8",
    ),
    "somebody else": (
        f"server {{\n{L}    location / {{\n        proxy_pass http://127.0.0.1:9;\n    }}\n}}\n",
        None,
        "no proxy_pass",
    ),
}


@pytest.mark.parametrize("style", REFUSED)
def test_what_cannot_be_edited_safely_is_refused_with_its_line(fresh: OwnNginx, style: str) -> None:
    text, line, says = REFUSED[style]
    fresh.serve(text)
    with pytest.raises(ActionFailed) as refused:
        adopt(fresh.plan(), fresh.configuration())
    assert "nothing was changed" in str(refused.value)
    assert says.lower() in str(refused.value).lower()
    if line:
        assert f"openclaw.conf line {line}: " in str(refused.value)


def test_a_server_block_in_nginx_conf_itself(tmp_path: Path) -> None:
    main = MAIN.replace(
        "    include servers/*;",
        "    server {{\n        listen 127.0.0.1:{public};\n        location / {{\n"
        "            proxy_pass http://127.0.0.1:{primary};\n        }}\n    }}",
    )
    own = OwnNginx(tmp_path, main=main)
    plan = own.plan(server_file=str(own.conf))
    rendered = render(plan, own.configuration(), 8)
    write(rendered.files)
    assert own.run("-t", "-q").returncode == 0
    text = own.conf.read_text()
    assert text.index(f"include {tmp_path}/managed/http.conf;") < text.index("server {")
    assert text.index(f"include {tmp_path}/managed/server.conf;") > text.index("server {")
    assert render(plan, own.configuration(), 8).revision == rendered.revision


def test_a_location_added_later_is_adopted_too(fresh: OwnNginx) -> None:
    fresh.serve(ACCEPTED["plain"])
    plan = fresh.plan()
    write(render(plan, fresh.configuration(), 8).files)
    new = f"    location /new {{\n        proxy_pass http://127.0.0.1:{fresh.primary};\n    }}\n}}\n"
    fresh.server_file.write_text(fresh.server_file.read_text().removesuffix("}\n") + new)
    write(render(plan, fresh.configuration(), 8).files)
    text = fresh.server_file.read_text()
    assert text.count("proxy_pass http://$openclaw_pool;") == 2
    assert text.count("managed/server.conf") == text.count("managed/http.conf") == 1
    assert fresh.run("-t", "-q").returncode == 0


@pytest.mark.parametrize(
    ("http", "kept"),
    [
        ("access_log FOLDER/all.log;", ["all.log"]),
        ("access_log FOLDER/all.log combined buffer=8k flush=1m;\naccess_log FOLDER/two.log;", ["all.log", "two.log"]),
        ("access_log 'FOLDER/with a blank.log';", ["with a blank.log"]),
        ("access_log off;", []),
        ("", []),
    ],
)
def test_a_log_at_http_level_goes_on_where_it_was_inherited(tmp_path: Path, http: str, kept: list[str]) -> None:
    own = OwnNginx(tmp_path, http=http.replace("FOLDER", str(tmp_path)))
    own.serve(SERVER)
    try:
        own.set_weight(own.plan(), 10)
        ask(own.public, ["/who"] * 5)
    finally:
        own.stop()  # writes what is buffered
    for name in kept:
        assert len((tmp_path / name).read_text().splitlines()) == 5
    assert len((tmp_path / "openclaw-rollout.tsv").read_text().splitlines()) == 5
    assert {path.name for path in tmp_path.glob("*.log")} == {*kept, "error.log"}


# -- reading a configuration -------------------------------------------------------------------------------------


def test_files_and_lines_are_exact(nginx: OwnNginx) -> None:
    configuration = nginx.configuration()
    (listen,) = (d for d in configuration.walk("listen") if d.file == str(nginx.server_file))
    assert nginx.server_file.read_text().splitlines()[listen.line - 1].strip() == f"listen 127.0.0.1:{nginx.public};"
    assert [d.name for d in listen.within] == ["main", "http", "server"]
    assert configuration.files[str(nginx.server_file)] == nginx.server_file.read_text()


def test_an_include_stays_in_its_folder_and_skips_hidden_files(fresh: OwnNginx) -> None:
    fresh.serve(ACCEPTED["plain"])
    (fresh.folder / "servers/.openclaw.conf.next").write_text("this is no configuration")
    (fresh.folder / "servers/deeper").mkdir()
    inner = fresh.folder / "servers/deeper/x.conf"
    inner.write_text("client_max_body_size 2m;\n")
    fresh.server_file.write_text(
        fresh.server_file.read_text().replace("    location", "    include servers/deeper/*;\n    location")
    )
    (fresh.folder / "servers/deeper").rename(fresh.folder / "deeper")
    fresh.server_file.write_text(fresh.server_file.read_text().replace("servers/deeper", "deeper"))
    sizes = [(d.file, len(d.within)) for d in fresh.configuration().walk("client_max_body_size")]
    assert sizes == [(str(fresh.folder / "deeper/x.conf"), 3)]


def test_a_glob_does_not_cross_folders() -> None:
    dump = (
        "# configuration file /e/nginx.conf:\nhttp { include servers/*; include servers/in/*; }\n\n"
        "# configuration file /e/servers/a:\nserver { listen 1; }\n\n"
        "# configuration file /e/servers/in/b:\nserver { listen 2; }\n\n"
    )
    assert [d.args[0] for d in Configuration(dump, "/e/nginx.conf").walk("listen")] == ["1", "2"]


@pytest.mark.parametrize("dump", ["", "nonsense", "# configuration file /other:\nevents {}\n\n"])
def test_a_dump_without_the_main_file_is_no_evidence(dump: str) -> None:
    with pytest.raises(EvidenceError, match="holds no /e/nginx.conf"):
        Configuration(dump, "/e/nginx.conf")


@pytest.mark.parametrize("text", ["http {", "}", "a b", "{"])
def test_a_broken_file_is_no_evidence(text: str) -> None:
    with pytest.raises(EvidenceError, match="/e/nginx.conf: "):
        Configuration(f"# configuration file /e/nginx.conf:\n{text}\n\n", "/e/nginx.conf")


@pytest.mark.parametrize("weight_pct", [0, 5, 5.5, 12, 22, 99.99, 100])
@pytest.mark.parametrize("paths", [[], ["/hooks/stripe", "/hooks/slack"]])
def test_nginx_accepts_every_weight(fresh: OwnNginx, weight_pct: float, paths: list[str]) -> None:
    fresh.serve(SERVER)
    plan = fresh.plan()
    plan = plan.model_copy(update={"webhooks": plan.webhooks.model_copy(update={"pinned_paths": paths})})
    write(render(plan, fresh.configuration(), weight_pct).files)
    done = fresh.run("-t")
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    assert LOG_FORMAT.split("$")[1].split("\\")[0] in (fresh.folder / "managed/http.conf").read_text()


@pytest.mark.parametrize("keys", [["$http_a"], ["$http_a", "$http_b", "$arg_c", "$cookie_d"]])
def test_any_chain_of_keys(fresh: OwnNginx, keys: list[str]) -> None:
    fresh.serve(ACCEPTED["plain"])
    plan: Plan = fresh.plan()
    plan = plan.model_copy(update={"webhooks": plan.webhooks.model_copy(update={"split_keys": keys})})
    write(render(plan, fresh.configuration(), 8).files)
    assert fresh.run("-t", "-q").returncode == 0
