"""Read access logs into counts: plain or gz, rotated or growing, from files or from bytes already fetched.

Whole blocks go through numpy, one after the other in the same memory, so it does not grow with the log. Lines that
cannot be parsed are counted, never guessed.

Why numpy, and why in one thread: `make bench`, 5 million requests of two days, two cores that share a cache. Our log:
3.9 s and 129 MB, where DuckDB 2.0 needs 5.3 s on both cores and 820 MB for the same table, and GoAccess 1.7 43 s for
one panel of the combined format without any quantile. JSON: 7.0 s, DuckDB 5.2 s. DuckDB drops lines that are not UTF-8
without counting them. What limits JSON is that most of its bytes are keys, and each must be looked at to know that it
is the same as before. Nanoseconds of cpu a line: 270 to find the fields of ours, 590 to make numbers of them, 240 to
count; 640, 470 and 300 of JSON, whose 530 bytes a line leave a core's cache between one column and the next. A second
thread took as much time for Python's lock as it saved.
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
