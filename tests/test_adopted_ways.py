"""Before and after the adoption every way answers the same, with the same headers to the gateway, on the real nginx."""

from __future__ import annotations

from pathlib import Path

import pytest
from adopted import PATHS, only_the_target_changed, site

from runbook_lib.errors import ActionFailed
from runbook_lib.nginx.adoption import adopt, refusals
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.nginx.ways import unsplit

LISTEN = "    listen 127.0.0.1:PUBLIC;\n"
PASS = "proxy_pass http://127.0.0.1:PRIMARY;"
HEADERS = """        proxy_read_timeout 1h;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header X-Forwarded-For $remote_addr;
"""


def server(*inside: str, listen: str = LISTEN) -> str:
    return f"server {{\n{listen}" + "".join(f"    {line}\n" for line in inside) + "}\n"


def location(where: str, *inside: str) -> str:
    return f"location {where} {{\n" + "".join(f"        {line}\n" for line in inside) + "    }"


SAME = {
    "no Host": server(location("/", PASS)),
    "no Host beside other headers": server(location("/", "proxy_set_header X-A $scheme;", PASS)),
    "no Host, headers of the server": server(
        'proxy_set_header X-A "a b;{";', "proxy_set_header X-B $remote_addr;", location("/", PASS)
    ),
    "no Host in a group": "upstream claws {\n    zone claws 64k;\n    server 127.0.0.1:PRIMARY max_fails=2;\n"
    "    keepalive 8;\n}\n" + server(location("/", "proxy_pass http://claws;")),
    "Host of the client": server(location("/", PASS, "proxy_set_header Host $http_host;")),
    "Host of the server": server("proxy_set_header Host $host;", location("/", PASS)),
    "redirects": server(location("/", PASS), location("/claw/", PASS)),
    "redirects as default": server(location("/", PASS, "proxy_redirect default;")),
    "redirects off": server(location("/", PASS, "proxy_redirect off;")),
    "redirects of its own": server(location("/", PASS, "proxy_redirect http://127.0.0.1:PRIMARY/ http://x.example/;")),
    "redirects of the server": server("proxy_redirect ~^http://[^/]+(/.*)$ $1;", location("/", PASS)),
    "another app": server(location("/", "proxy_pass http://127.0.0.1:OTHER;"), location("/claw/", PASS)),
    "another app inside": server(
        location("/", PASS, "proxy_set_header Host $host;", "location /api/ { proxy_pass http://127.0.0.1:OTHER; }")
    ),
    "the gateway inside another app": server(
        location("/", "proxy_pass http://127.0.0.1:OTHER;", f"location /claw/ {{ {PASS} }}")
    ),
    "static beside it": server(
        location("/status", "return 200 ok;"), location("/old", "return 503;"), location("/", PASS)
    ),
    "trailing slash": server(location("/", "proxy_pass http://127.0.0.1:PRIMARY/;")),
    "identity": server(location("/", PASS), location("/health", "proxy_pass http://127.0.0.1:PRIMARY/health;")),
    "a prefix taken off": server(location("/claw/", "proxy_pass http://127.0.0.1:PRIMARY/;")),
    "a prefix replaced": server(location("^~ /claw/", "proxy_pass http://127.0.0.1:PRIMARY/open.claw/v1/;")),
    "one path to another": server(location("= /healthz", "proxy_pass http://127.0.0.1:PRIMARY/health;")),
    "a prefix without slash": server(location("/claw", "proxy_pass http://127.0.0.1:PRIMARY/x;")),
    "a path beside settings": server(
        location("/claw/", "proxy_pass http://127.0.0.1:PRIMARY/;", "set $a 1;", "if ($arg_q) { return 418; }")
    ),
    "a scheme in capitals": server(location("/", "proxy_pass HTTP://127.0.0.1:PRIMARY;")),
    "two in one location": server(location("/", f"if ($arg_a) {{ {PASS} }}", PASS)),
    "braced variables": server(
        location("/", PASS, 'proxy_set_header X-A "${host};";', "proxy_set_header Host ${host};")
    ),
    "rewritten to a path": server(
        "rewrite ^/x$ /claw/x last;", location("/claw/", "proxy_pass http://127.0.0.1:PRIMARY/;")
    ),
    "path by variable": server(location("/", "proxy_pass http://127.0.0.1:PRIMARY$request_uri;")),
    "path by capture": server(location("~ ^/claw/(.*)$", "proxy_pass http://127.0.0.1:PRIMARY/$1$is_args$args;")),
    "a rewrite": server(location("/openclaw/", "rewrite ^/openclaw/(.*)$ /$1 break;", PASS)),
    "regex": server(location(r"~* ^/(x|api)/", PASS), location("/", "return 404;")),
    "named": server(location("/", "try_files /nothing @gateway;"), location("@gateway", PASS)),
    "in if": server(location("/", "if ($arg_q != b) {", f"    {PASS}", "}", "return 404;")),
    "limit_except": server(location("/", "limit_except POST { deny all; }", PASS)),
    "map of headers": "map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n"
    + server("proxy_set_header Connection $connection_upgrade;", "proxy_set_header Host $host;", location("/", PASS)),
    "default_server": server(location("/", PASS), listen="    listen 127.0.0.1:PUBLIC default_server;\n")
    + server("server_name a.example;", "return 404;"),
    "two names": server("server_name a.example;", location("/", PASS))
    + server("server_name b.example;", location("/", "proxy_pass http://127.0.0.1:OTHER;")),
    "TLS and http2": server(location("/", PASS))
    + server(
        "ssl_certificate FOLDER/cert.pem;",
        "ssl_certificate_key FOLDER/key.pem;",
        location("/", PASS),
        listen="    listen 127.0.0.1:SECOND ssl http2;\n",
    ),
    "a unix socket": server(location("/", PASS), listen=f"{LISTEN}    listen unix:FOLDER/n.sock;\n"),
    "one line": "server { listen 127.0.0.1:PUBLIC; location / { proxy_pass http://127.0.0.1:PRIMARY; } }\n",
    "styles": "server{\n    listen 127.0.0.1:PUBLIC; server_name a.example b.example; # two on a line\n"
    "    location = /x { return 204; } location / { # proxied; keep {this}\n        # proxy_pass http://127.0.0.1:1;\n"
    f"        proxy_pass # the gateway\n            http://127.0.0.1:PRIMARY;\n{HEADERS}    }}\n}}\n",
    "carriage returns, tabs, Zürich": "# Zürich; }\r\nserver {\r\n\tlisten 127.0.0.1:PUBLIC;\r\n\tlocation / {\r\n\t\t"
    'add_header X-City "Zürich; {";\r\n\t\tproxy_pass http://127.0.0.1:PRIMARY/; # } {\r\n\t}\r\n}\r\n',
    "error pages": server(
        "error_page 404 = @other;", location("/", PASS, "proxy_intercept_errors on;"),
        location("@other", "return 200 other;"),
    ),
    "admin path of another app": server(
        location("/", "proxy_pass http://127.0.0.1:OTHER;"), location("~ ^/claw/", PASS)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_every_way_answers_the_same_and_only_the_target_changes(tmp_path: Path, case: str) -> None:
    paths = PATHS if "admin" not in case else (*PATHS, "/api/v1/admin/x")
    with site(tmp_path, {"site.conf": SAME[case]}, "access_log FOLDER/http.log;") as here:
        original = here.own.configuration().files
        with here.running():
            before = here.answers(("a.example", "b.example"), paths)
        changed = here.adopt()
        only_the_target_changed(original, changed)
        with here.running():
            after = here.answers(("a.example", "b.example"), paths)
        assert after == before
        again = here.adopt()
        assert again == changed
        assert refusals(here.plan, here.own.configuration()) == []
        lines = (tmp_path / "http.log").read_text().splitlines()
        assert len(lines) == 2 * len(before), "your log goes on"


# the files, and what is said of them: the file's line, and a word of what to write
REFUSED = {
    "a variable": (
        server("set $claw 127.0.0.1:PRIMARY;", location("/", "proxy_pass http://$claw;")),
        [(5, "cannot be followed", "proxy_pass http://127.0.0.1:")],
    ),
    "a map of variables": (
        "map $host $claw {\n    default http://127.0.0.1:PRIMARY;\n}\n"
        + server(location("/", "proxy_pass $claw;"), location("/x", PASS)),
        [(7, "cannot be followed", "proxy_pass http://127.0.0.1:")],
    ),
    "a group with others": (
        "upstream claws {\n    server 127.0.0.1:PRIMARY max_conns=2;\n    server 127.0.0.1:OTHER backup;\n}\n"
        + server(location("/", "proxy_pass http://claws;")),
        [(2, "max_conns=2 would not hold", "limit_conn"), (3, "no request any more", "alone")],
    ),
    "several at once": (
        server(
            location("/a", "access_log off;", PASS),
            location("/b", PASS, "proxy_set_header Host $proxy_host:$proxy_port;"),
            location("/c/", "proxy_pass http://127.0.0.1:PRIMARY/;", "rewrite ^/c/x /c/y break;"),
            location("/d/", "proxy_pass https://127.0.0.1:PRIMARY;"),
            location("/e/", "proxy_pass http://127.0.0.1:PRIMARY/e?x=1;"),
        ),
        [
            (4, "access_log off", "Remove it"),
            (9, "$proxy_host would be", "127.0.0.1:"),
            (13, "changes the path", "in the rewrite"),
            (16, "is https", "proxy_pass http://"),
            (19, "more than a plain path", "rewrite"),
        ],
    ),
    "another app that would get the Host": (
        server(location("/", PASS, "location /api/ { proxy_pass http://127.0.0.1:OTHER; }")),
        [(5, "would get the Host header", "proxy_set_header Host")],
    ),
    "a header of the path": (
        server(location("/c/", "proxy_pass http://127.0.0.1:PRIMARY/;", "proxy_set_header X-Path $uri;")),
        [(5, "would show the path", "$request_uri")],
    ),
    "a log of the path": (
        "log_format mine '$uri $status';\n"
        + server("access_log FOLDER/x.log mine;", location("/c/", "proxy_pass http://127.0.0.1:PRIMARY/;")),
        [(1, "`log_format mine` would show the path", "$request_uri")],
    ),
    "none": (server(location("/", "proxy_pass http://127.0.0.1:OTHER;")), [(0, "no proxy_pass", "nginx.server_file")]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_stay_the_same_is_refused_at_once_with_line_and_what_to_write(tmp_path: Path, case: str) -> None:
    text, expected = REFUSED[case]
    with site(tmp_path, {"site.conf": text}) as here:
        configuration = here.own.configuration()
        found = sorted(refusals(here.plan, configuration), key=lambda one: one.line)
        assert [one.line for one in found] == [line for line, _, _ in expected]
        for one, (_, finding, fix) in zip(found, expected, strict=True):
            assert finding in one.finding
            assert fix in one.fix
        with pytest.raises(ActionFailed, match="nothing was changed") as refused:
            here.adopt()
        assert all(one.finding in str(refused.value) for one in found)
        assert here.own.configuration().files == configuration.files


SNIPPET = f"location / {{\n    {PASS}\n    proxy_set_header Host $host;\n}}\n"


def test_a_snippet_of_two_servers_is_edited_once_and_both_are_split(tmp_path: Path) -> None:
    both = server("include gateway.inc;") + server("include gateway.inc;", listen="    listen 127.0.0.1:SECOND;\n")
    with site(tmp_path, {"site.conf": both, "gateway.inc": SNIPPET}) as here:
        with here.running():
            before = here.answers(("a.example",), PATHS)
        changed = here.adopt()
        assert [text.count("$openclaw_pool") for path, text in sorted(changed.items())] == [1, 0]
        assert changed[str(here.own.server_file)].count("managed/server.conf") == 2
        with here.running():
            assert here.answers(("a.example",), PATHS) == before


def test_a_snippet_of_two_files_splits_both_servers(tmp_path: Path) -> None:
    other = server("include gateway.inc;", listen="    listen 127.0.0.1:SECOND;\n")
    texts = {"site.conf": server("include gateway.inc;"), "other.conf": other, "gateway.inc": SNIPPET}
    with site(tmp_path, texts) as here:
        with here.running():
            before = here.answers(("a.example",), PATHS)
        changed = here.adopt()
        assert sorted(Path(path).name for path in changed) == ["gateway.inc", "openclaw.conf", "other.conf"]
        assert all("managed/server.conf" in text for path, text in changed.items() if path.endswith(".conf"))
        with here.running():
            assert here.answers(("a.example",), PATHS) == before


def test_a_snippet_whose_settings_differ_by_place_is_refused(tmp_path: Path) -> None:
    one = server("proxy_set_header X-A a;", "include gateway.inc;")
    two = server("include gateway.inc;", listen="    listen 127.0.0.1:SECOND;\n")
    snippet = f"location / {{\n    {PASS}\n}}\n"
    with site(tmp_path, {"site.conf": one + two, "gateway.inc": snippet}) as here:
        (found,) = refusals(here.plan, here.own.configuration())
        assert (Path(found.file).name, found.line, found.rule) == ("gateway.inc", 2, "included twice")


def test_a_stream_to_primary_is_named_as_not_split_and_never_edited(tmp_path: Path) -> None:
    with site(tmp_path, {"site.conf": server(location("/", PASS))}) as here:
        conf, files = str(here.own.conf), here.own.configuration().files
        server_of_it = f"server {{ listen 9; proxy_pass 127.0.0.1:{here.own.primary}; }}"
        stream = f"stream {{\n    {server_of_it}\n}}\n"
        files = {**files, conf: files[conf] + stream}
        dump = "".join(f"# configuration file {path}:\n{text}\n" for path, text in files.items())
        configuration = Configuration(dump, conf)
        (found,) = unsplit(here.plan, configuration)
        assert (found.file, found.around("stream") is None) == (conf, False)
        assert list(adopt(here.plan, configuration)) == [str(here.own.server_file)]


def test_another_server_of_primary_is_named_as_not_split(tmp_path: Path) -> None:
    other = server(location("/", PASS), listen="    listen 127.0.0.1:SECOND;\n")
    with site(tmp_path, {"site.conf": server(location("/", PASS)), "other.conf": other}) as here:
        (found,) = unsplit(here.plan, here.own.configuration())
        assert (Path(found.file).name, found.line) == ("other.conf", 4)
        assert [Path(path).name for path in here.adopt()] == ["openclaw.conf"]


def test_the_log_of_each_server_goes_on(tmp_path: Path) -> None:
    two = server("access_log FOLDER/first.log;", location("/", PASS)) + server(
        location("/", PASS), listen="    listen 127.0.0.1:SECOND;\n"
    )
    with site(tmp_path, {"site.conf": two}) as here:
        here.adopt()
        with here.running():
            here.answers(("a.example",), ("/x", "/y", "/z"))
        counts = {name: len((tmp_path / name).read_text().splitlines()) for name in ("first.log", "default.log")}
        assert counts == {"first.log": 3, "default.log": 3}
        assert len((tmp_path / "openclaw-rollout.tsv").read_text().splitlines()) == 6
