"""The article's lints on nginx as it is: for each rule a bad and a good configuration, file and line exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_nginx import OwnNginx

from runbook_lib.lab import keys
from runbook_lib.nginx.asking import Nginx
from runbook_lib.nginx.lints import COLUMNS, judge, lint
from runbook_lib.nginx.rendering import render
from runbook_lib.verdict import Answer, Hop

GOOD_LOG = (
    "log_format judged '$status $upstream_addr $upstream_status $upstream_connect_time $upstream_header_time "
    "$upstream_response_time';"
)
GOOD = """upstream gateway {
    server 127.0.0.1:PRIMARY;
    keepalive 8;
}
server {
    listen 127.0.0.1:PUBLIC;
    location / {
        proxy_pass http://gateway;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_read_timeout 630s;
    }
}
"""
CANARY_SERVER = """server {
    listen 127.0.0.1:PUBLIC;
    server_name canary;
    ssl_protocols TLSv1.3;
    location / {
        proxy_pass http://127.0.0.1:CANARY;
    }
}
"""


@pytest.fixture
def own(tmp_path: Path) -> OwnNginx:
    return OwnNginx(tmp_path, http=GOOD_LOG)


def asked(own: OwnNginx, open_files: str = "4096", has_slow_start: bool = False) -> Nginx:
    """What probe_nginx would answer of this nginx."""
    done = own.run("-T", "-q")
    text = " ".join(done.stderr.split())
    conf = own.configuration() if done.returncode == 0 else None
    return Nginx(conf, "nginx/1", open_files, has_slow_start, done.returncode, text)


def found(own: OwnNginx, **keys: Any) -> list[tuple[str, str, str, int]]:
    frame = lint(own.plan(), asked(own, **keys))
    assert list(frame.columns) == COLUMNS
    assert (frame[["finding", "fix"]] != "").all(axis=None)
    rows = frame[["severity", "rule", "file", "line"]].itertuples(index=False, name=None)
    return [(severity, rule, Path(file).name, line) for severity, rule, file, line in rows]


def test_a_good_configuration_has_no_finding(own: OwnNginx) -> None:
    own.serve(GOOD)
    assert found(own) == []
    (check,) = judge(lint(own.plan(), asked(own)))
    assert (check.answer, check.reason) == (Answer.PASS, "0 errors and 0 pieces of advice")


# rule, what stands in the good configuration, what stands there instead, (severity, line of the finding)
BAD = [
    ("lone max_fails", "PRIMARY;\n    keep", "PRIMARY max_fails=3;\n    keep", ("advice", 2)),
    ("lone max_fails", "PRIMARY;\n    keep", "PRIMARY fail_timeout=20s;\n    keep", ("advice", 2)),
    ("localhost", "server 127.0.0.1:PRIMARY;", "server localhost:PRIMARY;", ("error", 2)),
    ("localhost", "proxy_pass http://gateway;", "proxy_pass http://localhost:PRIMARY;", ("error", 8)),
    ("attribution", "X-Forwarded-For $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for", ("error", 12)),
    ("attribution", "        proxy_set_header X-Forwarded-For $remote_addr;\n", "", ("error", 8)),
    ("keepalive", "        proxy_http_version 1.1;\n", "", ("advice", 8)),
    ("keepalive", "proxy_http_version 1.1", "proxy_http_version 1.0", ("advice", 8)),
    ("websocket", "        proxy_set_header Upgrade $http_upgrade;\n", "", ("advice", 8)),
    ("proxy_read_timeout", "630s", "599s", ("error", 13)),
    ("proxy_read_timeout", "630s", "9m", ("error", 13)),
    ("proxy_read_timeout", "630s", "599500ms", ("error", 13)),
    ("proxy_read_timeout", "        proxy_read_timeout 630s;\n", "", ("error", 8)),
    (
        "non_idempotent",
        "    location / {",
        "    proxy_next_upstream error non_idempotent;\n    location / {",
        ("error", 7),
    ),
    ("hidden log", "    location / {", "    location / {\n        access_log off;", ("error", 8)),
    ("hidden log", "    location / {", "    access_log off;\n    location / {", ("error", 7)),
    ("open_file_cache", "    location / {", "    open_file_cache max=10;\n    location / {", ("error", 7)),
]


@pytest.mark.parametrize(("rule", "good", "bad", "expected"), BAD, ids=[f"{b[0]}: {b[2].strip()[:30]}" for b in BAD])
def test_a_bad_line_is_found_where_it_stands(
    own: OwnNginx, rule: str, good: str, bad: str, expected: tuple[str, int]
) -> None:
    assert GOOD.count(good) == 1
    own.serve(GOOD.replace(good, bad))
    severity, line = expected
    assert found(own) == [(severity, rule, "openclaw.conf", line)]
    (check,) = judge(lint(own.plan(), asked(own)))
    if severity == "error":
        assert check.answer is Answer.FAIL
        assert check.hop is Hop.NGINX
        assert check.remedy
        assert f"openclaw.conf line {line}: " in check.reason
    else:
        assert check.answer is Answer.PASS


@pytest.mark.parametrize(
    "same",
    [
        "proxy_read_timeout 10m;",
        "proxy_read_timeout 1h30m;",
        "proxy_read_timeout 630000ms;",
        "proxy_read_timeout 600;",
    ],
)
def test_units_of_time(own: OwnNginx, same: str) -> None:
    own.serve(GOOD.replace("proxy_read_timeout 630s;", same))
    assert found(own) == []


def test_what_is_inherited_counts(own: OwnNginx) -> None:
    inner = GOOD.replace("        proxy_read_timeout 630s;\n", "").replace("        proxy_http_version 1.1;\n", "")
    own.serve(
        inner.replace("    location / {", "    proxy_read_timeout 630s;\n    proxy_http_version 1.1;\n    location / {")
    )
    assert found(own) == []


def test_headers_of_the_nearest_level_alone_hold(own: OwnNginx) -> None:
    """nginx inherits proxy_set_header only where a level has none of its own."""
    text = GOOD.replace("        proxy_set_header X-Forwarded-For $remote_addr;\n", "")
    own.serve(text.replace("    location", "    proxy_set_header X-Forwarded-For $remote_addr;\n    location"))
    assert found(own) == [("error", "attribution", "openclaw.conf", 9)]


def test_another_server_of_the_group_would_get_nothing_any_more(own: OwnNginx) -> None:
    backup = "PRIMARY max_fails=3;\n    server 127.0.0.1:9 backup;"
    own.serve(GOOD.replace("PRIMARY;", backup, 1))
    assert found(own) == [("error", "group", "openclaw.conf", 3)]
    own.serve(GOOD.replace("PRIMARY;", backup.replace("backup", "down"), 1))
    assert found(own) == []


def test_slow_start_where_nginx_has_none_is_named_with_its_line(own: OwnNginx) -> None:
    """The article's own line: nginx -t refuses it, and the finding says what to do."""
    own.serve(GOOD.replace("PRIMARY;\n", "PRIMARY slow_start=30s;\n", 1))
    assert found(own) == [("error", "slow_start", "openclaw.conf", 2)]
    assert "the runbook ramps" in lint(own.plan(), asked(own))["fix"][0]


def test_what_nginx_refuses_is_named_with_its_file_and_line(own: OwnNginx) -> None:
    own.serve(GOOD.replace("        proxy_http_version 1.1;", "        proxy_htp_version 1.1;"))
    assert found(own) == [("error", "nginx -t", "openclaw.conf", 9)]
    (check,) = judge(lint(own.plan(), asked(own)))
    assert check.answer is Answer.FAIL
    assert 'unknown directive "proxy_htp_version"' in check.reason


def test_open_files_below_connections(own: OwnNginx) -> None:
    own.serve(GOOD)
    assert found(own, open_files="256") == [("error", "open files", "nginx.conf", 5)]
    assert found(own, open_files="unlimited") == []
    assert found(own, open_files="") == [("advice", "open files", "nginx.conf", 5)], "unknown is no error"
    own.conf.write_text(own.conf.read_text().replace("events", "worker_rlimit_nofile 512;\nevents"))
    assert found(own, open_files="100000") == [("error", "open files", "nginx.conf", 5)]
    own.conf.write_text(own.conf.read_text().replace("nofile 512", "nofile 2048"))
    assert found(own, open_files="256") == []


def test_few_connections_against_keepalive(own: OwnNginx) -> None:
    own.serve(GOOD.replace("keepalive 8;", "keepalive 300;"))
    assert found(own) == [("advice", "worker_connections", "nginx.conf", 5)]
    assert "worker_connections 1200;" in lint(own.plan(), asked(own))["fix"][0]


def test_tls_that_differs_between_the_ways(own: OwnNginx) -> None:
    keys.make_tls(own.folder / "tls")
    good = GOOD.replace("PUBLIC;", f"PUBLIC ssl; ssl_certificate {own.folder}/tls/server.pem;")
    good = good.replace("    location", f"    ssl_certificate_key {own.folder}/tls/server.key;\n    location")
    canary = CANARY_SERVER.replace("CANARY", str(own.canary))
    tls_too = (
        f"PUBLIC ssl; ssl_certificate {own.folder}/tls/server.pem; ssl_certificate_key {own.folder}/tls/server.key;"
    )
    canary = canary.replace("PUBLIC;", tls_too)
    both = canary.replace(
        "    location", f"    location /p {{ proxy_pass http://127.0.0.1:{own.primary}; }}\n    location"
    )
    own.serve(good + canary)
    tls = [row for row in found(own) if row[1] == "tls"]
    assert tls == [("error", "tls", "openclaw.conf", 17)]
    own.serve(both)
    assert not [row for row in found(own) if row[1] == "tls"]
    own.serve(good.replace("    location", "    ssl_protocols TLSv1.3;\n    location") + canary)
    assert not [row for row in found(own) if row[1] == "tls"]
    ciphers = canary.replace("ssl_protocols TLSv1.3", "ssl_ciphers HIGH")
    own.serve(good + ciphers)
    assert [row[1] for row in found(own) if row[1] == "tls"] == ["tls"]


def test_a_log_that_cannot_be_judged(tmp_path: Path) -> None:
    own = OwnNginx(tmp_path, http="    log_format poor '$status';")
    own.serve(GOOD)
    assert found(own) == [("advice", "log format", "nginx.conf", 10)]


def test_errors_come_first_and_all_are_listed(own: OwnNginx) -> None:
    text = (
        GOOD.replace("630s", "5s")
        .replace("        proxy_http_version 1.1;\n", "")
        .replace("127.0.0.1:P", "localhost:P", 1)
    )
    own.serve(text)
    rows = found(own)
    assert [row[:2] for row in rows] == [
        ("error", "localhost"),
        ("error", "proxy_read_timeout"),
        ("advice", "keepalive"),
    ]
    (check,) = judge(lint(own.plan(), asked(own)))
    assert check.reason.startswith("2 errors; ")


def test_what_we_rendered_ourselves_is_not_linted(own: OwnNginx) -> None:
    own.serve(GOOD)
    plan = own.plan()
    for path, text in render(plan, own.configuration(), 8).files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    assert found(own) == []


NEIGHBOURS = """upstream blog {
    server localhost:9 max_fails=3;
}
server {
    listen 127.0.0.1:PUBLIC;
    server_name blog.example;
    location / { proxy_pass http://blog; proxy_next_upstream error timeout non_idempotent; }
    location /grafana/ { proxy_pass http://localhost:9/; }
}
"""


def test_only_the_ways_to_the_gateways_are_judged(own: OwnNginx) -> None:
    own.serve(GOOD + NEIGHBOURS)
    assert found(own) == []


@pytest.mark.parametrize("long", ["1w", "8d", "'1h 30m'", "30m"])
def test_every_unit_of_nginx_is_known(own: OwnNginx, long: str) -> None:
    own.serve(GOOD.replace("630s", long))
    assert found(own) == []


def test_a_variable_may_be_written_in_braces(own: OwnNginx) -> None:
    own.serve(GOOD.replace("X-Forwarded-For $remote_addr", 'X-Forwarded-For "${remote_addr}"'))
    assert found(own) == []


def test_a_way_without_tls_is_not_compared_with_one_that_has_it(own: OwnNginx) -> None:
    plain = GOOD.replace("    location", "    ssl_protocols TLSv1.3;\n    location")
    own.serve(GOOD + plain.partition("}\n")[2])
    assert [row for row in found(own) if row[1] == "tls"] == []


def test_a_snippet_that_sudo_may_not_write_is_named_once(own: OwnNginx) -> None:
    own.serve(GOOD.replace(GOOD[GOOD.index("    location") : GOOD.rindex("}\n")], "    include gateway.inc;\n") + "\n")
    inside = GOOD[GOOD.index("    location") : GOOD.rindex("}\n")].replace("630s", "9s")
    (own.folder / "gateway.inc").write_text(inside)
    assert found(own) == [("error", "proxy_read_timeout", "gateway.inc", 7)]
    frame = lint(own.plan(sudo=True), asked(own))
    assert [(rule, Path(file).name) for rule, file in zip(frame["rule"], frame["file"], strict=True)] == [
        ("proxy_read_timeout", "gateway.inc"),
        ("sudo", "gateway.inc"),
    ]
