"""Read access logs into counts."""

from __future__ import annotations

from runbook_lib.logformats import LOG_FIELDS, LOG_FORMAT

__all__ = ["LOG_FIELDS", "LOG_FORMAT"]
