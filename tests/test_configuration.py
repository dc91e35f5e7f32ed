"""nginx's whole configuration as it was dumped: every directive with its file, line and blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_nginx import SERVER, OwnNginx

from runbook_lib.errors import EvidenceError
from runbook_lib.nginx.configuration import Configuration


def test_files_and_lines_are_exact(tmp_path: Path) -> None:
    nginx = OwnNginx(tmp_path)
    nginx.serve(SERVER)
    configuration = nginx.configuration()
    (listen,) = (d for d in configuration.walk("listen") if d.file == str(nginx.server_file))
    assert nginx.server_file.read_text().splitlines()[listen.line - 1].strip() == f"listen 127.0.0.1:{nginx.public};"
    assert [d.name for d in listen.within] == ["main", "http", "server"]
    assert configuration.files[str(nginx.server_file)] == nginx.server_file.read_text()


def test_an_include_stays_in_its_folder_and_skips_hidden_files(tmp_path: Path) -> None:
    fresh = OwnNginx(tmp_path)
    fresh.serve(SERVER)
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


LUA = """http {
    init_by_lua_block { local s = [[ } ]] -- } in a comment
        --[==[ }
        ]==] local t = { a = "}", b = '\\'}' } }
    server { listen 1; content_by_lua_block { if x then ngx.say("{") end } }
}
"""


def test_a_block_of_lua_is_passed_over_whole() -> None:
    """nginx with Lua lets a brace stand in Lua's own strings and comments."""
    configuration = Configuration(f"# configuration file /e/nginx.conf:\n{LUA}\n", "/e/nginx.conf")
    assert [(d.name, d.line) for d in configuration.walk("listen", "content_by_lua_block")] == [
        ("listen", 5),
        ("content_by_lua_block", 5),
    ]


def test_words_are_read_as_nginx_reads_them() -> None:
    text = 'a b#c \'d;{\' "e}\\"" ${f}g h\\;i; # j; {\r\n\tk\tl {m n;}\n'
    configuration = Configuration(f"# configuration file /e/nginx.conf:\n{text}\n", "/e/nginx.conf")
    a, k, m = configuration.walk()
    assert a.args == ("b#c", "d;{", 'e}"', "${f}g", "h\\;i")
    assert (k.name, k.args, k.line, m.args) == ("k", ("l",), 2, ("n",))
