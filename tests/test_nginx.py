"""The split, the kill switch and the log that we render, asked of the real nginx."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_fixture import until
from own_nginx import SERVER, Gateway, OwnNginx, ask, free_ports, status, write

from runbook_lib.accesslog import LOG_FORMAT
from runbook_lib.errors import ActionFailed
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.nginx.rendering import render
from runbook_lib.plan.models import Plan

KEYS = 4000


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
    drain = Path(plan.folder.drain)
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
        Path(plan.folder.drain).touch()
        assert ask(own.public, ["/who"] * 50) == [b"canary primary"] * 50
        Path(plan.folder.drain).unlink()
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
    assert f"{fresh.folder}/managed/admin.conf" not in files
    assert "admin.conf" not in files[str(fresh.server_file)]


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
    until(lambda: len(log.read_bytes().splitlines()) >= before + 50, 10)  # nginx answers first, and logs then
    lines = log.read_bytes().splitlines()
    assert len(lines) == before + 50
    assert all(b"w010.00-" in line for line in lines[-50:])


def test_only_what_goes_through_the_split_has_a_target_in_our_log(tmp_path: Path) -> None:
    own = OwnNginx(tmp_path)
    other = Gateway("other", own.canary)
    primary = Gateway("primary", own.primary)
    own.serve(
        SERVER.replace("    location / {", "    location /old { return 503; }\n    location / {").replace(
            "    location / {",
            f"    location /app/ {{ proxy_pass http://127.0.0.1:{free_ports(1)[0]}; }}\n    location / {{",
        )
    )
    try:
        own.set_weight(own.plan(), 0)
        for path in ("/old", "/app/x", "/mine"):
            status(own.public, path)
    finally:
        own.stop()
        primary.end()
        other.end()
    lines = [line.split("\t") for line in (tmp_path / "openclaw-rollout.tsv").read_text().splitlines()]
    assert {line[-1]: line[1] for line in lines} == {"/old": "", "/app/x": "", "/mine": "primary"}


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
    fresh.serve(SERVER)
    plan: Plan = fresh.plan()
    plan = plan.model_copy(update={"webhooks": plan.webhooks.model_copy(update={"split_keys": keys})})
    write(render(plan, fresh.configuration(), 8).files)
    assert fresh.run("-t", "-q").returncode == 0
