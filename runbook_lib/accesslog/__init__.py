"""Read access logs into counts: packed or not, rotated or growing, from files or from bytes already fetched.

A format is literals and values in turn (formats.py): declared by nginx's log_format, or learned from a line. One scan
finds the values of all regular lines of a block (scan.py); any other line is read by itself (lines.py), and lines that
cannot be parsed are counted, never guessed. Blocks go through numpy one after the other in the same memory.

`make bench`, 5 million requests of two days, whole processes on two cores, GoAccess 1.7 with one panel and no
quantiles, DuckDB 2.0 for the same table:

    log        bytes a line   here     all memory   GoAccess, the same file   DuckDB
    ours       147            1.5 s    145 MB       26 s, its combined twin   2.8 s, 750 MB
    combined   112            0.7 s    96 MB        26 s
    rt=        215            2.0 s    134 MB       27 s
    JSON       530            3.0 s    134 MB       39 s                      4.3 s, 770 MB

1 million lines of ours take 145 MB, 25 million 173 MB. What limits it: each byte is looked at once for a mark, which
is most of JSON's 1.1 us of cpu a line and 0.17 of our 0.48; beside the scan 0.3 s to start a second interpreter.
"""

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.cursor import Cursor, LogFile, Plan, plan_fetch
from runbook_lib.accesslog.detection import Hints
from runbook_lib.accesslog.formats import LOG_FIELDS, LOG_FORMAT
from runbook_lib.accesslog.reader import list_files, read

__all__ = [
    "LOG_FIELDS",
    "LOG_FORMAT",
    "Cursor",
    "Hints",
    "LogCounts",
    "LogFile",
    "Plan",
    "list_files",
    "plan_fetch",
    "read",
]
