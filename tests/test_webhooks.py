"""Webhooks against real HTTP servers on loopback that remember keys, check tokens and verify signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pandas as pd
import pytest

from runbook_lib.errors import PlanError
from runbook_lib.gateway import delivery, webhooks
from runbook_lib.verdict import Answer, Hop

TOKEN, GITHUB, STRIPE = "hooks-token-1f2e", "github-secret-3d4c", "stripe-secret-5b6a"
SECRETS = {"github": GITHUB, "stripe": STRIPE}


@contextmanager
def gateway(
    verifies: bool = True, remembers: bool = True, status: int = 200, wakes: str = ""
) -> Iterator[httpx.Client]:
    """A gateway of its own: it remembers idempotency keys until it ends."""
    runs: dict[str, str] = {}

    class Hooks(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self.answer(401, {"ok": False})
            if verifies and not self.signed(body):
                return self.answer(401, {"ok": False})
            if status != 200:
                return self.answer(status, {"ok": False})
            if self.path == wakes:
                return self.answer(200, {"ok": True, "mode": "now", "eventOutcome": "queued"})
            run_id = str(uuid.uuid4())
            if remembers:
                run_id = runs.setdefault(self.headers["Idempotency-Key"], run_id)
            return self.answer(200, {"ok": True, "runId": run_id})

        def signed(self, body: bytes) -> bool:
            if self.path == "/hooks/github":
                expected = "sha256=" + hmac.new(GITHUB.encode(), body, hashlib.sha256).hexdigest()
                return self.headers["X-Hub-Signature-256"] == expected
            parts = dict(part.split("=", 1) for part in self.headers["Stripe-Signature"].split(","))
            expected = hmac.new(STRIPE.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
            return parts["v1"] == expected

        def answer(self, code: int, said: dict[str, object]) -> None:
            body = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as client:
            yield client
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def made(copy: int | str = 1) -> list[delivery.Delivery]:
    return delivery.deliveries("20260506-0210", TOKEN, SECRETS, copy=copy)


def both(primary: httpx.Client, canary: httpx.Client) -> pd.DataFrame:
    second = made(copy=2)
    sides = [webhooks.replay(primary, second, "primary"), webhooks.replay(canary, second, "canary")]
    return pd.concat(sides, ignore_index=True)


def test_recorded_webhooks_are_synthetic_json_of_both_providers():
    assert [(d.provider, d.event, d.path) for d in made()] == [
        ("github", "issue_comment", "/hooks/github"),
        ("github", "pull_request", "/hooks/github"),
        ("github", "push", "/hooks/github"),
        ("stripe", "charge.failed", "/hooks/stripe"),
        ("stripe", "invoice.paid", "/hooks/stripe"),
    ]
    for one in made():
        body = json.loads(one.body)
        assert body.get("type", one.event) == one.event
        assert body.get("livemode") is not True


def test_signatures_are_the_providers_documented_ones():
    # both examples: GitHub's docs "Testing the webhook payload validation"; Stripe's scheme by hand
    github = delivery.github_headers(b"Hello, World!", "push", "guid", "It's a Secret to Everybody")
    assert github["X-Hub-Signature-256"] == ("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
    stripe = delivery.stripe_headers(b"{}", "whsec", 1_778_033_760)["Stripe-Signature"]
    expected = hmac.new(b"whsec", b"1778033760.{}", hashlib.sha256).hexdigest()
    assert stripe == f"t=1778033760,v1={expected}"


def test_idempotency_keys_depend_on_run_fixture_and_copy_alone():
    keys = [d.idempotency_key for d in made()]
    assert keys == [d.idempotency_key for d in made()]
    assert len({*keys, *(d.idempotency_key for d in made(copy=2))}) == 10
    other_run = delivery.deliveries("another", TOKEN, SECRETS)
    assert not set(keys) & {d.idempotency_key for d in other_run}


def test_a_healthy_pair_passes_and_the_table_says_what_ran_how_often():
    with gateway() as primary, gateway() as canary:
        first = webhooks.replay(canary, made(), "canary")
        again = webhooks.replay(canary, made(), "canary")
        sides = both(primary, canary)
        forged = webhooks.replay(canary, delivery.forged("20260506-0210", TOKEN, SECRETS), "canary")
    assert list(first.columns) == webhooks.COLUMNS
    assert (first["status"] == 200).all() and (first["duration_ms"] > 0).all()
    checks = webhooks.judge_replay(first, again, sides)
    assert [c.answer for c in checks] == [Answer.PASS] * 3
    assert "ran 2 times, as expected" in checks[2].reason
    counted = webhooks.executions(pd.concat([first, again, sides])).set_index("delivery")
    assert counted.loc["github push"].to_list() == [2, 2, 1, "canary"]
    assert counted.loc["github push (2)"].to_list() == [2, 2, 2, "primary, canary"]
    check = webhooks.judge_forged(forged, gateway_verifies=True)
    assert (check.answer, check.reason) == (Answer.PASS, "5 of 5 forged deliveries were refused")


def test_a_gateway_that_forgets_keys_fails_the_replay():
    with gateway() as primary, gateway(remembers=False) as canary:
        first, again = (webhooks.replay(canary, made(), "canary") for _ in range(2))
        checks = webhooks.judge_replay(first, again, both(primary, canary))
    assert [c.answer for c in checks] == [Answer.PASS, Answer.FAIL, Answer.PASS]
    assert checks[1].reason.startswith("5 of 5 deliveries with the same idempotency key were executed a second")
    assert checks[1].hop is Hop.CANARY


def test_hooks_mapped_to_wakes_are_accepted_and_counted_each_time():
    with gateway(wakes="/hooks/stripe") as primary, gateway(wakes="/hooks/stripe") as canary:
        first, again = (webhooks.replay(canary, made(), "canary") for _ in range(2))
        sides = both(primary, canary)
    checks = webhooks.judge_replay(first, again, sides)
    assert [c.answer for c in checks] == [Answer.PASS] * 3
    assert checks[1].reason == (
        "3 of 3 repeated deliveries got the run id they had; none ran a second time; "
        "2 went to wake hooks, which have no idempotency: each repeat is queued again"
    )
    counted = webhooks.executions(pd.concat([first, again, sides])).set_index("delivery")["executed_count"]
    assert (counted["github push"], counted["stripe invoice.paid"]) == (1, 2)


def test_only_wakes_prove_no_idempotency():
    with gateway(wakes="/hooks/stripe") as one:
        sent = [d for d in made() if d.provider == "stripe"]
        first, again = (webhooks.replay(one, sent, "canary") for _ in range(2))
    assert webhooks.judge_replay(first, again, first)[1].answer is Answer.INCONCLUSIVE


def test_two_names_of_one_gateway_are_not_isolated():
    with gateway() as one:
        first, again = (webhooks.replay(one, made(), "canary") for _ in range(2))
        check = webhooks.judge_replay(first, again, both(one, one))[2]
    assert (check.answer, check.hop) == (Answer.FAIL, Hop.HOST)


def test_a_refusing_gateway_fails_first_and_leaves_the_rest_open():
    with gateway() as primary, gateway(status=503) as canary:
        first, again = (webhooks.replay(canary, made(), "canary") for _ in range(2))
        checks = webhooks.judge_replay(first, again, both(primary, canary))
        forged = webhooks.replay(canary, delivery.forged("run", "wrong-token", SECRETS), "canary")
    assert [c.answer for c in checks] == [Answer.FAIL, Answer.INCONCLUSIVE, Answer.INCONCLUSIVE]
    assert checks[0].reason == "0 of 5 deliveries were answered 2xx with a run id; 5 × 503 Service Unavailable"
    assert set(forged["status"]) == {401}


@pytest.mark.parametrize(("known", "answer"), [(True, Answer.FAIL), (False, Answer.PASS), (None, Answer.INCONCLUSIVE)])
def test_accepted_forgeries_are_judged_by_what_is_known_of_the_gateway(known: bool | None, answer: Answer):
    with gateway(verifies=False) as canary:
        frame = webhooks.replay(canary, delivery.forged("run", TOKEN, SECRETS), "canary")
    check = webhooks.judge_forged(frame, known)
    assert check.answer is answer
    assert check.reason.startswith("5 of 5 forged deliveries were accepted")


def test_a_forgery_that_met_a_full_queue_proves_nothing():
    with gateway(verifies=False, status=503) as canary:
        frame = webhooks.replay(canary, delivery.forged("run", TOKEN, SECRETS), "canary")
    assert webhooks.judge_forged(frame, True).answer is Answer.INCONCLUSIVE


def test_no_connection_is_a_row_and_no_exception():
    with httpx.Client(base_url="http://127.0.0.1:9", trust_env=False) as client:
        frame = webhooks.replay(client, made(), "canary")
    assert frame["status"].isna().all() and (frame["run_id"] == "").all()
    assert frame["error"].str.startswith("ConnectError").all()
    checks = webhooks.judge_replay(frame, frame, frame)
    assert [c.answer for c in checks] == [Answer.FAIL, Answer.INCONCLUSIVE, Answer.INCONCLUSIVE]


def test_nothing_sent_is_never_a_pass():
    empty = webhooks.replay(httpx.Client(), [], "canary")
    checks = [*webhooks.judge_replay(empty, empty, empty), webhooks.judge_forged(empty, True)]
    assert {c.answer for c in checks} == {Answer.INCONCLUSIVE}


def test_secrets_are_in_no_repr_frame_or_exception():
    with gateway() as canary:
        frame = webhooks.replay(canary, made(), "canary")
    shown = repr(made()) + frame.to_csv()
    with pytest.raises(PlanError) as caught:
        delivery.deliveries("run", TOKEN + "\n", {"github": GITHUB, "stripe": ""})
    shown += str(caught.value)
    assert "hooks_token" in str(caught.value) and "stripe_secret" in str(caught.value)
    for secret in (TOKEN, GITHUB, STRIPE):
        assert secret not in shown


def test_a_gateway_without_signed_hooks_gets_an_agent_hook_and_a_wrong_token() -> None:
    (plain,) = delivery.deliveries("run", TOKEN, {})
    assert (plain.path, plain.headers["Authorization"]) == ("/hooks/agent", f"Bearer {TOKEN}")
    assert plain.idempotency_key == delivery.deliveries("run", TOKEN, {})[0].idempotency_key
    assert {sent.provider for sent in delivery.deliveries("run", TOKEN, {"stripe": STRIPE})} == {"stripe"}
    (forged,) = delivery.forged("run", TOKEN, ())
    assert TOKEN not in str(forged.headers), "nothing is signed there, so the token is what must be refused"
