"""The edit of your server block, in many styles, against the real nginx."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_nginx import MAIN, SERVER, OwnNginx, ask, write

from runbook_lib.errors import ActionFailed
from runbook_lib.nginx.adoption import adopt
from runbook_lib.nginx.configuration import proxies_to
from runbook_lib.nginx.rendering import render


@pytest.fixture
def fresh(tmp_path: Path) -> OwnNginx:
    """One that does not run yet."""
    return OwnNginx(tmp_path)


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
    "one line": "server { listen 127.0.0.1:PUBLIC; location / { proxy_pass http://127.0.0.1:PRIMARY; } }\n",
    "server opens with more": f"server {{ {L.strip()}\n    location / {{\n        {PASS}\n    }}\n}}\n",
    "shares its line": block(f"proxy_buffering off; {PASS} proxy_read_timeout 9s;"),
    "argument on another line": block("proxy_pass # the gateway", "    http://127.0.0.1:PRIMARY;"),
    "a path": block("proxy_pass http://127.0.0.1:PRIMARY/y/;", location="/x/"),
    "a prefix taken off": block("proxy_pass http://127.0.0.1:PRIMARY/;", location="/x/"),
    "a path by variable": block("proxy_pass http://127.0.0.1:PRIMARY$request_uri;"),
    "braces in a comment": "# server { is below };\n" + block(f"{PASS} # }} {{", above="    # location / {\n"),
    "quoted signs": block('add_header X-A "a;b}{";', "add_header X-B 'it\\'s; }';", PASS),
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
    assert [p.args[0] for p in proxies] == [
        f"http://$openclaw_pool{'$request_uri' if style == 'a path by variable' else ''}"
    ] * count
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


REFUSED = {
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
