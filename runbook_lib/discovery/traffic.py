"""What came in lately by the public way: paths, senders, rate, and how long an observation takes to decide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from runbook_lib.discovery.recording import rows
from runbook_lib.plan.thresholds import Thresholds

DELIVERY_IDS = {  # whose deliveries carry an id of their own in a header, as nginx names it
    "GitHub": "$http_x_github_delivery",
    "GitLab": "$http_x_gitlab_event_uuid",
    "Shopify": "$http_x_shopify_webhook_id",
    "Svix": "$http_svix_id",
}
IN_BODY = ("Stripe", "Slack", "Telegram")  # whose id stands in the body, which nginx cannot split by
FORMATS = ("%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z")


@dataclass
class Traffic:
    """What ask_way.sh printed."""

    trusts_certificate: bool | None = None
    """Whether the Mac's curl trusts the certificate; None where nothing answered."""
    logs: list[str] = field(default_factory=list)
    bytes_count: int = 0
    lines_count: int = 0
    """Of a week's files."""
    seen_count: int = 0
    """Of the last of them, where paths and senders were counted."""
    others_count: int = 0
    paths: dict[str, int] = field(default_factory=dict)
    senders: dict[str, dict[str, int]] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None

    @property
    def per_s(self) -> float | None:
        """Requests a second, over the time that a week's files cover."""
        if self.first is None or self.last is None or not self.lines_count:
            return None
        elapsed_s = (self.last - self.first).total_seconds()
        return self.lines_count / elapsed_s if elapsed_s > 0 else None

    @property
    def split_keys(self) -> list[str]:
        """What a delivery and its retries share, by who sent here: nginx's names."""
        met = {sender for senders in self.senders.values() for sender in senders}
        return ["$http_idempotency_key", *(key for sender, key in DELIVERY_IDS.items() if sender in met)]

    @property
    def pinned_paths(self) -> list[str]:
        """The paths of senders whose delivery id stands in the body: they stay on primary."""
        return sorted(path for path, senders in self.senders.items() if set(senders) & set(IN_BODY))


def parse(text: str) -> Traffic:
    """ask_way.sh's lines as Traffic. Pure."""
    found = Traffic()
    for name, *values in rows(text):
        match name, values:
            case "trust", [status]:
                found.trusts_certificate = {"0": True, "60": False}.get(status)
            case "log", [path, size, lines]:
                found.logs.append(path)
                found.bytes_count += int(size)
                found.lines_count += int(lines)
            case (("head" | "tail"), [said]):
                at = _time(said)
                if at and (found.first is None or at < found.first):
                    found.first = at
                if at and (found.last is None or at > found.last):
                    found.last = at
            case "lines", [count, others]:
                found.seen_count += int(count)
                found.others_count += int(others)
            case "path", [path, count]:
                found.paths[path] = found.paths.get(path, 0) + int(count)
            case "sender", [path, sender, count]:
                senders = found.senders.setdefault(path, {})
                senders[sender] = senders.get(sender, 0) + int(count)
    return found


def _time(said: str) -> datetime | None:
    for form in FORMATS:
        try:
            return datetime.strptime(said, form)
        except ValueError:
            continue
    try:
        return datetime.fromtimestamp(float(said)).astimezone()
    except ValueError:
        return None


def decides_after_s(per_s: float, slice_pct: float, thresholds: Thresholds) -> float:
    """How long a healthy canary must be watched until its 5xx are certainly not over the threshold.

    With no error in n requests, the upper bound at confidence c is 1 - (1 - c)^(1/n): n is what brings it under the
    threshold (Clopper-Pearson, as statistics.interval).
    """
    wanted = math.log(1 - thresholds.confidence_pct / 100) / math.log(1 - thresholds.error_ratio_pct / 100)
    return wanted / (per_s * slice_pct / 100)
