"""Our log format, and where the fields of a line are in it and in the other formats."""

from __future__ import annotations

LOG_FIELDS = (
    "msec",
    "openclaw_target",
    "openclaw_revision",
    "status",
    "upstream_addr",
    "upstream_status",
    "upstream_connect_time",
    "upstream_header_time",
    "upstream_response_time",
    "request_time",
    "connection",
    "connection_requests",
    "pid",
    "request_id",
    "request_method",
    "uri",
)
"""One line of the judge's log, in order."""

LOG_FORMAT = "escape=default '" + r"\t".join("$" + name for name in LOG_FIELDS) + "'"
"""Goes between `log_format NAME` and `;`: nginx reads the two characters \\t as a tab."""
