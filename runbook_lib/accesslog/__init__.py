"""Read access logs into counts: plain or gz, rotated or growing, from files or from bytes already fetched.

Whole blocks go through numpy in a few threads (it lets go of Python's lock), so memory does not grow with
the log. Lines that cannot be parsed are counted, never guessed.

Why numpy: `make bench`, 5 million requests of two days, two cores that had other work. Our log: 6.0 s of cpu and
151 MB, where DuckDB 2.0 needs 9.2 s and 858 MB for the same table, and GoAccess 1.7 50 s for one panel of the
combined format without any quantile. JSON: 15 s, DuckDB 12 s. DuckDB drops lines that are not UTF-8 without counting
them. What limits JSON is that most of its bytes are keys, and each must be looked at to know that it is the same as
before. Nanoseconds of cpu a line, on a busy machine: 230 to find the fields of ours, 560 to make numbers of them, 220
to count; 1,000, 910 and 360 of JSON, whose 530 bytes a line leave a core's cache between one column and the next.
"""

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.cursor import Cursor, LogFile, Plan, plan_fetch
from runbook_lib.accesslog.formats import LOG_FIELDS, LOG_FORMAT
from runbook_lib.accesslog.reader import list_files, read

__all__ = [
    "LOG_FIELDS",
    "LOG_FORMAT",
    "Cursor",
    "LogCounts",
    "LogFile",
    "Plan",
    "list_files",
    "plan_fetch",
    "read",
]
