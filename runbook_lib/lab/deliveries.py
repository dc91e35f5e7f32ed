"""What providers send to the practice Mac: which paths, how often, signed how, from whom."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from runbook_lib.lab.kinds import KINDS

CLIENTS = [f"203.0.113.{n}" for n in range(10, 250)]  # RFC 5737; .9 is the runbook's own probe
AGENTS = {"github": "GitHub-Hookshot/044aadd", "stripe": "Stripe/1.0 (+https://stripe.com/docs/webhooks)"}


@dataclass(frozen=True)
class Provider:
    """All senders together; one seed gives one sequence of kinds and clients."""

    host: str
    hooks_token: str = field(repr=False)
    github_secret: str = field(repr=False)
    stripe_secret: str = field(repr=False)
    mix: Mapping[str, int] = field(default_factory=lambda: KINDS["standin"].mix)
    dice: random.Random = field(default_factory=random.Random, repr=False)

    def next(self, close: bool = False) -> tuple[str, bytes]:
        """A kind and the bytes of its request. Every delivery but the anonymous has an id of its own."""
        kind = self.dice.choices(list(self.mix), list(self.mix.values()))[0]
        return kind, self.request(kind, close)

    def request(self, kind: str, close: bool = False) -> bytes:
        key = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        path = {"anonymous": "wake"}.get(kind, kind)
        body = json.dumps(self._body(kind, key)).encode()
        headers = {
            "Host": self.host,
            "User-Agent": AGENTS.get(kind, "practice-provider/1.0"),
            "Authorization": f"Bearer {self.hooks_token}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Practice-Client": self.dice.choice(CLIENTS),
            "Connection": "close" if close else "keep-alive",
            **self._marks(kind, key, body),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /hooks/{path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    def _body(self, kind: str, key: str) -> dict[str, object]:
        if kind == "agent":
            return {"message": f"Practice job {key}", "name": "practice", "deliver": False}
        if kind == "github":
            commits = [{"id": key, "message": "practice commit"}] * self.dice.randint(1, 8)
            return {"ref": "refs/heads/main", "repository": {"full_name": "practice/repo"}, "commits": commits}
        if kind == "stripe":
            return {"id": f"evt_{key}", "type": "invoice.paid", "data": {"object": {"id": f"in_{key}"}}}
        return {"text": f"practice event {key}", "mode": "next-heartbeat"}

    def _marks(self, kind: str, key: str, body: bytes) -> dict[str, str]:
        if kind == "github":
            signature = hmac.new(self.github_secret.encode(), body, hashlib.sha256).hexdigest()
            event = {"X-GitHub-Event": "push", "X-GitHub-Delivery": key}
            return {**event, "X-Hub-Signature-256": f"sha256={signature}"}
        if kind == "stripe":  # its id is in the body alone
            now = str(int(time.time()))
            signature = hmac.new(self.stripe_secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
            return {"Stripe-Signature": f"t={now},v1={signature}"}
        return {} if kind == "anonymous" else {"Idempotency-Key": key}
