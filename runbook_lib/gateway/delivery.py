"""Webhooks to be sent: recorded bodies, signed as GitHub and Stripe sign them.

fixtures/<provider>.<event>.json is the body, byte for byte; the signature is made anew for each run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from secrets import token_hex

from runbook_lib.errors import PlanError

FORGED = "forged"
AGENT_MESSAGE = "This is a rollout's smoke test. Answer with the word ok and do nothing else."
_NAMESPACE = uuid.UUID("6b0e4b52-6d0a-5c52-9b64-0f3d1f6c2a11")


@dataclass(frozen=True)
class Delivery:
    """One signed webhook. The headers carry secrets, so no repr shows them."""

    name: str
    provider: str
    event: str
    path: str
    idempotency_key: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def deliveries(
    run_id: str, hooks_token: str, secrets: Mapping[str, str], copy: int | str = 1, hooks_path: str = "/hooks"
) -> list[Delivery]:
    """The recorded webhooks of the providers that `secrets` has (github, stripe), signed now, with an idempotency key
    made from run, fixture and copy alone; a plain agent hook where it has none.

    Another `copy` is another delivery of the same body. Raises PlanError when a secret cannot be sent as a
    header; the message names it and never holds its value.
    """
    refuse_unsendable(hooks_token=hooks_token, **{f"{name}_secret": secret for name, secret in secrets.items()})
    if not secrets:
        return [_agent(run_id, hooks_token, copy, hooks_path)]
    made = []
    for file in sorted((files("runbook_lib") / "fixtures").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".json"):
            continue
        provider, _, event = file.name.removesuffix(".json").partition(".")
        if provider not in secrets:
            continue
        body = file.read_bytes()
        key = str(uuid.uuid5(_NAMESPACE, f"{run_id}/{provider}.{event}/{copy}"))
        secret = secrets[provider]
        signed = github_headers(body, event, key, secret) if provider == "github" else None
        headers = {
            "Authorization": f"Bearer {hooks_token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            **(signed or stripe_headers(body, secret, int(time.time()))),
        }
        name = f"{provider} {event}" + (f" ({copy})" if str(copy) != "1" else "")
        made.append(Delivery(name, provider, event, f"{hooks_path}/{provider}", key, body, headers))
    return made


def forged(run_id: str, hooks_token: str, providers: Iterable[str], hooks_path: str = "/hooks") -> list[Delivery]:
    """The same webhooks with the right token and a signature nobody's secret made; a wrong token where none signs."""
    made_up = {provider: token_hex() for provider in providers}
    return deliveries(run_id, hooks_token if made_up else token_hex(), made_up, FORGED, hooks_path)


def _agent(run_id: str, hooks_token: str, copy: int | str, hooks_path: str) -> Delivery:
    key = str(uuid.uuid5(_NAMESPACE, f"{run_id}/openclaw.agent/{copy}"))
    body = json.dumps({"message": AGENT_MESSAGE, "name": "rollout smoke", "deliver": False}).encode()
    headers = {"Authorization": f"Bearer {hooks_token}", "Content-Type": "application/json", "Idempotency-Key": key}
    name = "openclaw agent" + (f" ({copy})" if str(copy) != "1" else "")
    return Delivery(name, "openclaw", "agent", f"{hooks_path}/agent", key, body, headers)


def github_headers(body: bytes, event: str, delivery_id: str, secret: str) -> dict[str, str]:
    """GitHub: HMAC-SHA-256 over the raw body (docs: "Validating webhook deliveries")."""
    return {
        "User-Agent": "GitHub-Hookshot/runbook",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery_id,
        "X-Hub-Signature-256": f"sha256={_hmac(secret, body)}",
    }


def stripe_headers(body: bytes, secret: str, signed_at_s: int) -> dict[str, str]:
    """Stripe: HMAC-SHA-256 over `timestamp.body` (docs: "Verify webhook signatures manually")."""
    signature = _hmac(secret, f"{signed_at_s}.".encode() + body)
    return {"User-Agent": "Stripe/1.0 (runbook)", "Stripe-Signature": f"t={signed_at_s},v1={signature}"}


def _hmac(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def refuse_unsendable(**named: str) -> None:
    """A line break in a token would be quoted by the HTTP library's error: stop before that."""
    bad = [name for name, value in named.items() if not value or not value.isascii() or not value.isprintable()]
    bad += [name for name, value in named.items() if " " in value and name not in bad]
    if bad:
        raise PlanError("webhooks", [f"{name}: empty, or holds a blank or a line break" for name in bad])
