"""Plots: every line with its limit, gaps as gaps, and the same in a notebook's page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.show import plots

START = datetime(2026, 5, 6, 2, 10, tzinfo=UTC)


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


def some_weights() -> pd.DataFrame:
    at = pd.to_datetime(["2026-05-06T02:10Z", "2026-05-06T02:11Z", "2026-05-08T03:00Z"])
    return pd.DataFrame({"at": at, "weight_pct": [0.0, 8.0, 18.0]})


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
    limits = Thresholds(reload_p95_rise_pct=50, smallest_rise_ms=7, error_ratio_pct=2, confidence_pct=95)
    drawn = [
        (plots.plot_quantiles(reload, limits), "limit +50 % or 7 ms"),
        (plots.plot_weights(some_weights(), slice_pct=8), "first slice 8 %"),
        (plots.plot_error_ratio(windows(), limits), "limit 2 %"),
    ]
    assert "its 95 % interval" in drawn[2][0].get_title(loc="left")
    assert [line.get_segments()[0][0][1] for line in drawn[0][0].collections] == [1200.0, 7.0], "the judge's own limits"
    for ax, label in drawn:
        assert label in ax.get_legend_handles_labels()[1]
        ax.figure.draw_without_rendering()
    mine = plots.plot_share(8, 12, 7, 9)
    assert plots.plot_share(8, 12, 7, 9, ax=mine) is mine
    assert "OUTSIDE" in mine.get_xlabel()


def test_plots_of_nothing_do_not_fail():
    for ax in (
        plots.plot_samples(samples(60, 1).head(0), Thresholds()).axes[0],
        plots.plot_weights(some_weights().head(0)),
        plots.plot_error_ratio(windows().head(0), Thresholds()),
        plots.plot_samples(samples(60, 1).head(1), Thresholds()).axes[0],
    ):
        ax.figure.draw_without_rendering()


def test_shown_in_a_notebook_by_a_real_kernel(tmp_path: Path):
    frame = tmp_path / "samples.json"
    samples(60, 1).to_json(frame, orient="table", index=False)
    cells = [
        "import sys\nimport pandas as pd\nfrom runbook_lib.show import plots, report\n"
        "from runbook_lib.plan.thresholds import Thresholds\n"
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
    assert outputs[1][0]["data"]["text/plain"].startswith("✘ FAIL  drain: 07 Observe")
    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert "✘\N{NO-BREAK SPACE}FAIL" in html and 'alt="four lines per gateway"' in html
