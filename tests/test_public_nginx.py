"""Twenty configurations as people publish them, adopted on the real nginx: only the target changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from adopted import PATHS, only_the_target_changed, site

FOLDER = Path(__file__).parent / "public_nginx"
NAMES = sorted(path.stem for path in FOLDER.glob("*.conf"))
HOSTS = ("a.example", "www.a.example", "b.example")
PARAMETERS = """proxy_set_header Host $http_host;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
"""


def test_there_are_twenty_and_each_says_where_it_is_from() -> None:
    assert len(NAMES) == 20
    assert all((FOLDER / f"{name}.conf").read_text().startswith("# After ") for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_configuration_keeps_all_but_its_target(tmp_path: Path, name: str) -> None:
    texts = {"site.conf": (FOLDER / f"{name}.conf").read_text(), "proxy_params": PARAMETERS}
    with site(tmp_path, texts, "access_log FOLDER/http.log;") as here:
        original = here.own.configuration().files
        with here.running():
            before = here.answers(HOSTS, PATHS)
        assert any(isinstance(said, tuple) and said[2][:1] == ["primary"] for said in before.values())
        changed = here.adopt()
        assert changed
        only_the_target_changed(original, changed)
        with here.running():
            assert here.answers(HOSTS, PATHS) == before
        assert here.adopt() == changed
