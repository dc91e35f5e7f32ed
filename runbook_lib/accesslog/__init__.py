"""Read access logs into counts: packed or not, rotated or growing, from files or from bytes already fetched.

A format is literals and values in turn (formats.py): declared by nginx's log_format, or learned from a line. One scan
finds the values of all regular lines of a block (scan.py); any other line is read by itself (lines.py), and lines that
cannot be parsed are counted, never guessed. Blocks go through numpy one after the other in the same memory.

`make bench`, 5 million requests of two days, whole processes on two cores, GoAccess 1.7 with one panel and no
quantiles, DuckDB 2.0 for the same table:

    log        bytes a line   here     all memory   GoAccess, the same file   DuckDB
    ours       147            1.3 s    160 MB       27 s, its combined twin   2.9 s, 800 MB
    combined   112            0.7 s    94 MB        27 s
    rt=        215            2.0 s    140 MB       27 s
    JSON       530            2.9 s    150 MB       40 s                      3.2 s, 780 MB

1 million lines of ours take 145 MB, 25 million 222 MB, for the counts of more distinct times. What limits it: each
byte is looked at once for a mark, most of JSON's 1.1 us of cpu a line; of our 0.4 us numbers are 0.18, counting 0.12.
Beside that it takes 0.25 s to start two interpreters.
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
