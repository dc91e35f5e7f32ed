"""What is shown: banner, tables, plots and the page of a run, from sample data; once through a real kernel."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

from runbook_lib.errors import EvidenceError
from runbook_lib.show import page, plots, report
from runbook_lib.thresholds import Thresholds
from runbook_lib.verdict import PLAIN, Answer, Check, Hop, Verdict

START = datetime(2026, 5, 6, 2, 10, tzinfo=UTC)
EVIL = "<script>alert('x')</script>"
VOID = {"meta", "link", "img", "br", "hr", "input"}

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


class Strict(HTMLParser):
    """Refuses what does not nest, and keeps tags, texts and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def samples(count: int, every_s: float) -> pd.DataFrame:
    """Two gateways; the canary's memory grows, and a tenth of the time nothing was sampled."""
    at = pd.date_range(START, periods=count, freq=f"{every_s}s")
    noise = np.random.default_rng(7)
    frames = [
        pd.DataFrame(
            {
                "at": at,
                "gateway": gateway,
                "rss_mb": 980 + grown * np.linspace(0, 1, count) ** 2 + noise.normal(0, 6, count),
                "cpu_pct": noise.normal(24, 5, count).clip(0),
                "in_flight_count": noise.poisson(2, count),
                "failed_connects_count": noise.poisson(0.02, count),
            }
        )
        for gateway, grown in (("primary", 0), ("canary", 300))
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame[~frame["at"].between(at[count // 2], at[count // 2 + count // 10])]


def windows() -> pd.DataFrame:
    at = pd.date_range(START, periods=8, freq="15min")
    canary = pd.DataFrame({"at": at, "gateway": "canary", "error_pct": [0.1, 0.2, 0.6, np.nan, 0.3, 0.9, 0.2, 0.1]})
    both = pd.concat([canary, canary.assign(gateway="primary", error_pct=0.1)], ignore_index=True)
    return both.assign(low_pct=both["error_pct"] / 3, high_pct=both["error_pct"] * 2 + 0.1)


def weights() -> pd.DataFrame:
    at = pd.to_datetime(["2026-05-06T02:10Z", "2026-05-06T02:11Z", "2026-05-08T03:00Z"])
    return pd.DataFrame({"at": at, "weight_pct": [0.0, 8.0, 18.0]})


def write_run(run_dir: Path, fault: bool = False) -> Path:
    """A run's folder: through all eight steps, or until the canary failed in step 7 and was drained."""
    run_dir.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    clock = [START]

    def event(kind: str, what: str, step: str = "", after_s: float = 1.0, **detail: Any) -> None:
        clock[0] += timedelta(seconds=after_s)
        at = clock[0].isoformat(timespec="milliseconds")
        head = {"seq": len(lines) + 1, "at": at, "who": "mina@laptop", "step": step}
        lines.append({**head, "event": kind, "what": what, "detail": detail, "previous": ""})

    event("run_opened", "rollout of openclaw 2026.9.6", region="hk")
    for number, title in enumerate(page.CHECKLIST[: 7 if fault else 8], start=1):
        step = f"{number:02}_{title.lower().replace(' ', '_')}"
        event("step_opened", title, step)
        if number == 3:  # the first attempt died: no verdict, no end
            event("step_opened", title, step, after_s=40)
        if number in (4, 6, 8):
            for weight_pct in {4: (0.0,), 6: (4.0, 8.0), 8: (18.0, 28.0)}[number]:
                what = f"set the canary's weight to {weight_pct:g} %"
                event("intent", what, step, weight_pct=weight_pct, revision="r1")
                event("effect", what, step, 14, exit_status=0)
                event("verified", what, step, workers=["4711"])
        bad = fault and number == 7
        answer, hops = ("fail", ["gateway canary"]) if bad else ("pass", [])
        reasons = ["5xx of the canary: 5.1 % > 0.5 % (n=338)", f"second {EVIL}"] if bad else []
        checks = [{"name": "a", "answer": answer}] * 5
        event(
            "verdict",
            answer,
            step,
            172_800 if number == 7 else 3.4,
            answer=answer,
            hops=hops,
            reasons=reasons,
            checks=checks,
        )
        event("step_closed", title, step, 0.2)
        (run_dir / f"{step}.html").write_text("<!doctype html>")
        if bad:
            event("intent", "drain the canary", step, why="5xx over its threshold")
            event("verified", "drain the canary", step, 0.8)
    write_ledger(run_dir, lines)
    return run_dir


def write_ledger(run_dir: Path, events: list[dict[str, Any]]) -> None:
    """A ledger whose lines are chained, as its writer does it."""
    text, previous = "", ""
    for number, entry in enumerate(events, start=1):
        line = json.dumps({**entry, "seq": number, "previous": previous}, ensure_ascii=False)
        previous = hashlib.sha256(line.encode()).hexdigest()
        text += f"{line}\n"
    (run_dir / "ledger.jsonl").write_text(text, encoding="utf-8")


def read_ledger(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]


def test_banner_says_word_symbol_hop_and_reasons_in_html_and_text():
    shown = report.banner(FAILING, "07 Observe")
    Strict(shown.html)
    for text in ("✘", "FAIL", "07 Observe", "gateway canary", "5.1 % &gt; 0.5 % (n=338)"):
        assert text in shown.html
    assert repr(shown).splitlines()[:3] == [
        "✘ FAIL  07 Observe",
        "  look at: gateway canary",
        "  - 5.1 % > 0.5 % (n=338)",
    ]
    assert repr(shown).endswith("Checks: 2 fail, 1 inconclusive, 1 pass")


def test_banner_says_which_rules_are_plain():
    plain = Check("canary 5xx", Answer.PASS, f"canary 5xx: 50 of 10000, not over 0.5 % {PLAIN}", Hop.CANARY)
    sure = Check("log", Answer.PASS, "log: 0 of 10000 lines could not be parsed", Hop.RUNBOOK)
    shown = report.banner(Verdict.of([plain, sure]), "07 in hk")
    for text in (shown.html, shown.text):
        assert "plain rule, no confidence: canary 5xx" in text
    assert "plain rule" not in report.banner(Verdict.of([sure]), "07 in hk").text


def test_banner_of_no_check_is_inconclusive():
    assert repr(report.banner(Verdict(), "05 Smoke")) == (
        "? INCONCLUSIVE  05 Smoke\n  - no check was made\n  Checks: none"
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


def test_sample_plot_has_two_lines_a_panel_and_breaks_at_gaps():
    figure = plots.plot_samples(samples(60, 1), Thresholds())
    assert len(figure.axes) == 4
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["primary", "primary ±18 %", "canary"]
    for ax in figure.axes:
        lines = [line for line in ax.lines if line.get_label() in ("primary", "canary")]
        assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 2
        assert all(np.isnan(line.get_ydata()).any() for line in lines)


def test_long_observation_is_thinned_and_keeps_its_gap_and_its_sums():
    frame = samples(34_560, 5)
    figure = plots.plot_samples(frame, Thresholds())
    canary = next(line for line in figure.axes[3].lines if line.get_label() == "canary")
    drawn = np.asarray(canary.get_ydata(), float)
    assert len(drawn) <= plots.POINTS_SHOWN + 2
    assert 10 <= np.isnan(drawn).sum() <= 20
    assert np.nansum(drawn) == frame.loc[frame["gateway"] == "canary", "failed_connects_count"].sum()


def test_plots_draw_on_given_axes_with_their_limits_labelled():
    reload = pd.DataFrame({"gateway": ["primary", "canary"], "before_ms": [800.0, 0.0], "after_ms": [900.0, 5.0]})
    drawn = [
        (plots.plot_quantiles(reload), "limit +35 %"),
        (plots.plot_weights(weights(), slice_pct=8), "first slice 8 %"),
        (plots.plot_error_ratio(windows()), "limit 0.5 %"),
    ]
    for ax, label in drawn:
        assert label in ax.get_legend_handles_labels()[1]
        ax.figure.draw_without_rendering()
    mine = plots.plot_share(8, 12, 7, 9)
    assert plots.plot_share(8, 12, 7, 9, ax=mine) is mine
    assert "OUTSIDE" in mine.get_xlabel()


def test_plots_of_nothing_do_not_fail():
    for ax in (
        plots.plot_samples(samples(60, 1).head(0), Thresholds()).axes[0],
        plots.plot_weights(weights().head(0)),
        plots.plot_error_ratio(windows().head(0)),
        plots.plot_samples(samples(60, 1).head(1), Thresholds()).axes[0],
    ):
        ax.figure.draw_without_rendering()


def test_page_of_a_whole_run(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "20260506-0210")
    html = page.write_page(run_dir).read_text(encoding="utf-8")
    parsed = Strict(html.replace("<!doctype html>", ""))
    assert "✔ PASS" in html and "8 of 8 steps passed." in html
    links = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert {"#main", "../../index.html"} <= set(links)
    files = [str(link) for link in links if not str(link).startswith(("#", ".."))]
    assert len(files) == 9 and all((run_dir / link).is_file() for link in files)
    assert [path.name for path in run_dir.iterdir() if path.name.startswith(".")] == []


def test_page_needs_no_network_and_can_be_heard(tmp_path: Path):
    html = page.write_page(write_run(tmp_path / "hk" / "r", fault=True)).read_text(encoding="utf-8")
    tags = Strict(html.replace("<!doctype html>", "")).tags
    names = [tag for tag, _ in tags]
    assert not {"script", "iframe"} & set(names)
    for _, attrs in tags:
        for key in ("src", "href"):
            assert not str(attrs.get(key) or "").startswith(("http", "//"))
    assert ("html", {"lang": "en"}) in tags
    assert names.count("h1") == 1 and names.count("main") == 1
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    pictures = [attrs for tag, attrs in tags if attrs.get("role") == "img"]
    assert pictures[0]["aria-label"] == "Canary weight over time: 0 %, 4 %, 8 %, 0 %."


def test_page_of_a_failed_run_names_step_hop_and_drain(tmp_path: Path):
    html = page.write_page(write_run(tmp_path / "hk" / "r", fault=True)).read_text(encoding="utf-8")
    assert "✘ FAIL" in html and "NOT RUN" in html and "Canary drained" in html
    assert "6 of 8 steps passed. 7 Observe: 5xx of the canary: 5.1 % &gt; 0.5 % (n=338) (and 1 more)." in html
    assert "<strong>Look at:</strong> gateway canary" in html
    assert "<script" not in html
    assert "attempt 2" in html


def test_same_ledger_same_page(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "r")
    once, again = page.write_page(run_dir).read_bytes(), page.write_page(run_dir).read_bytes()
    assert once == again


def test_summary_has_a_row_a_step(tmp_path: Path):
    frame = page.summary(write_run(tmp_path / "hk" / "r", fault=True))
    assert list(frame.columns) == ["step", "verdict", "duration_s", "hop", "reason"]
    assert frame["verdict"].to_list() == ["pass"] * 6 + ["fail", "not run"]
    assert frame.loc[6, "hop"] == "gateway canary"
    assert frame.loc[6, "duration_s"] == pytest.approx(172_800.2)
    assert frame.loc[0, "reason"] == "5 checks passed"


def test_a_step_that_never_ended_is_running_and_one_without_verdict_is_inconclusive(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "r")
    events = read_ledger(run_dir)
    smoke = [n for n, event in enumerate(events) if event["step"] == "05_smoke"]
    write_ledger(run_dir, events[: smoke[0] + 1])
    assert page.summary(run_dir)["verdict"].to_list() == ["pass"] * 4 + ["running"] + ["not run"] * 3
    assert "UNFINISHED" in page.write_page(run_dir).read_text()
    write_ledger(run_dir, [event for n, event in enumerate(events) if n != smoke[1]])
    assert page.summary(run_dir).loc[4, ["verdict", "reason"]].to_list() == [
        "inconclusive",
        "ended without a verdict",
    ]


def test_weights_are_the_proven_ones_and_a_drain_counts_as_zero_until_it_ends():
    kinds = [
        ("weight", "by another tool", {"weight_pct": 5.0}),
        ("intent", "set 8", {"weight_pct": 8.0}),
        ("verified", "set 8", {}),
        ("drained", "the sentinel drained", {}),
        ("verified", "end the drain", {}),
        ("intent", "set 18", {"weight_pct": 18.0}),
        ("failed", "set 18", {"error": "ActionFailed"}),
    ]
    at = [(START + timedelta(minutes=n)).isoformat() for n in range(len(kinds))]
    events = [{"at": when, "event": e, "what": w, "detail": d} for when, (e, w, d) in zip(at, kinds, strict=True)]
    assert page._weights(events)["weight_pct"].to_list() == [5, 8, 0, 8, 8]


def test_a_step_whose_change_failed_is_stopped(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "r")
    events = read_ledger(run_dir)
    opened = next(n for n, event in enumerate(events) if event["step"] == "04_start_dark")
    failed = events[opened] | {
        "event": "failed",
        "what": "load the job",
        "detail": {"error": "ActionFailed: no"},
    }
    write_ledger(run_dir, [*events[: opened + 1], failed])
    assert page.summary(run_dir).loc[3, ["verdict", "reason"]].to_list() == [
        "stopped",
        "load the job: ActionFailed: no",
    ]
    assert "– STOPPED" in page.write_page(run_dir).read_text()


def test_an_empty_ledger_is_a_page_and_a_damaged_one_is_not(tmp_path: Path):
    assert "UNFINISHED" in page.write_page(tmp_path).read_text()
    (tmp_path / "ledger.jsonl").write_text("{}}\n")
    with pytest.raises(EvidenceError, match="line 1"):
        page.write_page(tmp_path)


def test_shown_in_a_notebook_by_a_real_kernel(tmp_path: Path):
    frame = tmp_path / "samples.json"
    samples(60, 1).to_json(frame, orient="table", index=False)
    cells = [
        "import sys\nimport pandas as pd\nfrom runbook_lib.show import plots, report\n"
        "from runbook_lib.thresholds import Thresholds\n"
        "from runbook_lib.verdict import PLAIN, Answer, Check, Hop, Verdict\n"
        "verdict = Verdict.of([Check('5xx', Answer.FAIL, '5.1 % > 0.5 %', Hop.CANARY)])\n"
        f"samples = pd.read_json({str(frame)!r}, orient='table')",
        "report.together(report.banner(verdict, '07 Observe'), report.checks_table(verdict))",
        "report.table(samples.head(5), 'Samples')",
        "report.picture(plots.plot_samples(samples, Thresholds()), 'four lines per gateway')",
        "'matplotlib.pyplot' in sys.modules",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    root = Path(__file__).parents[1]
    ExecutePreprocessor(timeout=60).preprocess(notebook, {"metadata": {"path": str(root)}})
    outputs = [cell["outputs"] for cell in notebook.cells]
    assert outputs[0] == [] and outputs[4][0]["data"]["text/plain"] == "False"
    assert all({"text/html", "text/plain"} == set(out[0]["data"]) for out in outputs[1:4])
    assert outputs[1][0]["data"]["text/plain"].startswith("✘ FAIL  07 Observe")
    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert "✘\N{NO-BREAK SPACE}FAIL" in html and 'alt="four lines per gateway"' in html
