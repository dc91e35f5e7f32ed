"""How often tests fail that nobody has touched: `flakes.py TIMES PYTEST-ARGUMENTS…` runs them again and again.

Nothing is retried in the suite itself. A failure prints which tests failed; the last line is the rate.
"""

from __future__ import annotations

import subprocess
import sys


def main(times: int, arguments: list[str]) -> int:
    failed_count = 0
    for number in range(1, times + 1):
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", *arguments], capture_output=True, text=True)
        *_, told = done.stdout.strip().splitlines() or [done.stderr]
        print(f"{number:>4} of {times}: {told}", flush=True)
        if done.returncode:
            failed_count += 1
            print(*(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), sep="\n")
    print(f"{failed_count} of {times} runs failed: {100 * failed_count / times:g} %")
    return min(1, failed_count)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), sys.argv[2:]))
