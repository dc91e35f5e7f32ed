"""What is shown: banner, tables, diffs and commands, escaped and readable as text too."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from strict_html import EVIL, Strict

from runbook_lib.show import plots, report
from runbook_lib.verdict import PLAIN, Answer, Check, Hop, Verdict

FAILING = Verdict.of(
    [
        Check("Share", Answer.PASS, "8.2 % arrived, 8 % asked (n=4,120)", Hop.NGINX),
        Check("Backlog", Answer.INCONCLUSIVE, "no sample in 40 s", Hop.HOST, remedy="look at the sentinel"),
        Check(
            "5xx",
            Answer.FAIL,
            "5.1 % > 0.5 % (n=338)",
            Hop.CANARY,
            remedy="fix the canary, do not tune nginx",
        ),
        Check(EVIL, Answer.FAIL, f"said {EVIL}", Hop.CANARY),
    ]
)


def test_banner_says_word_symbol_hop_and_reasons_in_html_and_text():
    shown = report.banner(FAILING, "07 Observe")
    Strict(shown.html)
    for text in ("✘", "FAIL", "07 Observe", "gateway canary", "5.1 % &gt; 0.5 % (n=338)"):
        assert text in shown.html
    assert repr(shown).splitlines()[:3] == [
        "✘ FAIL  drain: 07 Observe",
        "  look at: gateway canary",
        "  - 5.1 % > 0.5 % (n=338)",
    ]
    assert repr(shown).endswith("Checks: 2 fail, 1 inconclusive, 1 pass")


def test_banner_says_which_rules_are_plain():
    reason = f"canary 5xx: 50 of 10000, not over 0.5 % {PLAIN}"
    plain = Check("canary 5xx", Answer.PASS, reason, Hop.CANARY, is_plain=True)
    sure = Check("log", Answer.PASS, "log: 0 of 10000 lines could not be parsed", Hop.RUNBOOK)
    shown = report.banner(Verdict.of([plain, sure]), "07 in hk")
    for text in (shown.html, shown.text):
        assert "plain rule, no confidence: canary 5xx" in text
    assert "plain rule" not in report.banner(Verdict.of([sure]), "07 in hk").text


def test_banner_of_no_check_is_inconclusive():
    assert repr(report.banner(Verdict(), "05 Smoke")) == (
        "? INCONCLUSIVE  hold: 05 Smoke\n  - no check was made\n  Checks: none"
    )


def test_banner_keeps_the_first_reasons():
    many = Verdict.of(Check(str(n), Answer.FAIL, f"reason {n}", Hop.NGINX) for n in range(9))
    assert "and 5 more in the table of checks" in repr(report.banner(many, "t"))


def test_checks_table_has_failing_first():
    shown = report.checks_table(FAILING)
    Strict(shown.html)
    order = [line.split()[1] for line in repr(shown).splitlines()]
    assert order == ["FAIL", "FAIL", "INCONCLUSIVE", "PASS"]
    assert "<b>Do:</b> fix the canary" in shown.html


def test_everything_is_escaped():
    frame = pd.DataFrame({EVIL: [EVIL]})
    shown = [
        report.banner(FAILING, EVIL),
        report.checks_table(FAILING),
        report.table(frame, EVIL),
        report.diff("a\n", EVIL, EVIL),
        report.commands([EVIL]),
        report.settings({EVIL: EVIL}),
        report.picture(plots.plot_share(8, 8, 7, 9), '"><script>'),
    ]
    for one in (*shown, report.together(*shown)):
        Strict(one.html)
        assert "<script" not in one.html


def test_table_has_units_short_times_and_right_aligned_numbers():
    frame = pd.DataFrame(
        {
            "gateway": ["primary", None],
            "p95_ms": [81.25, np.nan],
            "status": pd.array([200, None], dtype="Int64"),
            "error_ratio": [0.00123, 0.5],
            "ready": pd.array([True, None], dtype="boolean"),
            "sampled_at": pd.to_datetime(
                ["2026-05-06T11:10:00+09:00", "2026-05-06T02:11:00Z"], utc=True, format="ISO8601"
            ),
            "verdict": ["pass", "fail"],
        }
    )
    shown = report.table(frame, "Hops")
    Strict(shown.html)
    text = re.sub(r"\s+", " ", repr(shown))
    assert text == (
        "Hops gateway p95 ms status error ratio ready sampled UTC, 2026-05-06 verdict "
        "primary 81.25 200 0.0012 yes 02:10:00 pass – – – 0.5000 – 02:11:00 fail"
    )
    assert "text-align:right" in shown.html and "✔&nbsp;PASS" in shown.html


def test_table_of_nothing_and_of_much():
    assert "no rows" in report.table(pd.DataFrame({"a": []})).html
    shown = report.table(pd.DataFrame({"n_count": range(5000)}))
    assert "the first 60 of 5000 rows" in shown.html
    assert len(shown.html) < 40_000


def test_table_keeps_a_named_index():
    frame = pd.DataFrame({"p95_ms": [1.5]}, index=pd.Index(["canary"], name="gateway"))
    assert "gateway p95 ms" in repr(report.table(frame))


def test_diff_keeps_its_signs_as_text():
    shown = report.diff("worker_connections 256;\nuser _www;\n", "worker_connections 1024;\nuser _www;\n", "nginx.conf")
    assert "-worker_connections 256;</span>" in shown.html
    assert "+worker_connections 1024;</span>" in shown.html
    assert repr(report.diff("a", "a", "nginx.conf")) == "nginx.conf: no change"


def test_commands_and_settings_are_exact():
    assert repr(report.commands(["launchctl kickstart -k x", "true"])) == "1. launchctl kickstart -k x\n2. true"
    assert "nothing to do" in report.commands([]).html
    nested = {"region": "hk", "canary": {"port": 18890, "secrets": {}}, "split_keys": ["$a", "$b"]}
    assert repr(report.settings(nested)) == (
        'region: hk\ncanary.port: 18890\ncanary.secrets: {}\nsplit_keys: ["$a", "$b"]'
    )


@pytest.mark.parametrize("answer", report.MARKS)
def test_badges_have_contrast(answer: str):
    """White on the badge is at least 4.5:1 (WCAG 2.2, 1.4.3)."""
    channels = [int(report.MARKS[answer].colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    assert 1.05 / (luminance + 0.05) >= 4.5
