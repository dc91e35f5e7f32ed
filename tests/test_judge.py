"""The article's rules at their boundaries, the cases that fool a literal reading, and who is blamed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import numpy as np
import pytest
from pydantic import ValidationError
from torture_log import FIELDS, START_MS, UPSTREAMS, A, B, seconds

from runbook_lib import accesslog
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.judging.actions import SIGNALS, act
from runbook_lib.judging.judge import judge_backlog, judge_reload, judge_rss, judge_windows
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Action, Answer, Check, Hop, Verdict

LAB = Thresholds(min_requests_count=50, observation_s=20, error_window_s=20)
PLAIN = ("connect_p95", "error_ratio", "slower_than_primary", "reload_p95")
PASS, FAIL, INCONCLUSIVE = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE


def request(gateway: str, at_ms: int, header_ms: int = 50, connect_ms: int = 0, **changes: str) -> str:
    """One line of the judge's log."""
    status = changes.get("status", "200")
    address = B if gateway == "canary" else A
    values = dict.fromkeys(FIELDS, "1") | {
        "msec": seconds(at_ms), "openclaw_target": gateway, "openclaw_revision": "r1", "status": status,
        "upstream_addr": address, "upstream_status": status, "upstream_connect_time": seconds(connect_ms),
        "upstream_header_time": seconds(header_ms), "upstream_response_time": seconds(header_ms + 1),
        "request_time": seconds(header_ms + 1), "pid": "4711",
    }  # fmt: skip
    return "\t".join((values | changes).values())


def mixed(seconds_count: int = 20, rate: int = 100, share: float = 0.2, **of_canary: str) -> list[str]:
    """A log of the lab: steady traffic, header times around 50 ms; `of_canary` changes the canary's lines."""
    rng, lines = random.Random(1), []
    for number in range(seconds_count * rate):
        gateway = "canary" if rng.random() < share else "primary"
        changes = of_canary if gateway == "canary" else {}
        header_ms = 30 + int(rng.expovariate(1 / 20))
        lines.append(request(gateway, START_MS + number * 1000 // rate, header_ms, **changes))
    return lines


def counts_of(lines: Iterable[str], window_s: int = 5) -> LogCounts:
    return accesslog.read(("\n".join(lines) + "\n").encode(), upstreams=UPSTREAMS, window_s=window_s)


def named(checks: Iterable[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def judged(lines: Iterable[str], thresholds: Thresholds = LAB, asked_pct: float | None = 20) -> Verdict:
    return judge_windows(counts_of(lines), thresholds, asked_pct=asked_pct)


def drains(verdict: Verdict) -> bool:
    return act(verdict.checks, LAB).action is Action.DRAIN


# the four cases


def test_a_healthy_canary_passes() -> None:
    verdict = judged(mixed())
    assert verdict.answer is PASS, verdict.reasons
    assert not drains(verdict)


def test_a_dead_canary_behind_a_backup_fails() -> None:
    """nginx tries it, is refused, and serves from primary; after that it does not even try."""
    tried = {
        "upstream_addr": f"{B}, {A}", "upstream_status": "502, 200", "upstream_connect_time": "-, 0.000",
        "upstream_header_time": "-, 0.050", "upstream_response_time": "0.000, 0.051",
    }  # fmt: skip
    lines = mixed(upstream_addr=A)
    lines += [request("canary", START_MS + 10_000, **tried)] * 3
    assert all("\t200\t" in line for line in lines), "no client saw an error"
    verdict = judged(lines)
    assert verdict.answer is FAIL and drains(verdict)
    taken_over = named(verdict.checks, "canary taken over")
    assert taken_over.answer is FAIL and taken_over.hop is Hop.CANARY
    assert Hop.CANARY in verdict.hops


@pytest.mark.parametrize("gave_up", ["nginx", "client"])
def test_a_frozen_canary_fails(gave_up: str) -> None:
    """Connect time stays at zero; what it costs is an answer."""
    status = {"nginx": "504", "client": "499"}[gave_up]
    frozen = {
        "upstream_header_time": "-", "upstream_response_time": "10.001", "request_time": "10.001", "status": status,
        "upstream_status": "504" if gave_up == "nginx" else "-",
    }  # fmt: skip
    verdict = judged(mixed(**frozen))
    assert verdict.answer is FAIL
    assert named(verdict.checks, "canary connect p95").answer is PASS
    slow = named(verdict.checks, "canary header p95")
    assert slow.answer is FAIL and slow.hop is Hop.CANARY
    assert drains(verdict) is (gave_up == "nginx")


def test_a_canary_that_answers_nothing_yet_fails_by_its_share() -> None:
    lines = [line for line in mixed() if "\tcanary\t" not in line]
    verdict = judged(lines)
    assert named(verdict.checks, "canary share").answer is FAIL and drains(verdict)


def test_a_canary_without_traffic_is_inconclusive() -> None:
    lines = [line for line in mixed() if "\tcanary\t" not in line]
    assert judged(lines, asked_pct=None).answer is INCONCLUSIVE
    assert judged(lines[:20]).answer is INCONCLUSIVE
    assert judge_windows(counts_of([]), LAB).answer is INCONCLUSIVE


def test_a_log_of_another_format_is_inconclusive() -> None:
    for line in (
        '203.0.113.9 - - [06/May/2026:12:00:00 +0900] "GET /a HTTP/1.1" 200 12 "-" "curl/8"',
        '{"msec": "1778025600.000", "status": "200", "request_time": "0.010"}',
        "May  6 12:00:00 mac launchd[1]: something else",
    ):
        verdict = judged([line] * 500)
        assert verdict.answer is INCONCLUSIVE
        assert named(verdict.checks, "log").answer is INCONCLUSIVE


def test_unparsed_lines_exactly_at_the_limit_are_let_pass() -> None:
    lines = mixed()
    assert named(judged([*lines[:1998], "rubbish", "torn"]).checks, "log").answer is PASS
    assert named(judged([*lines[:1997], "rubbish", "torn", "x"]).checks, "log").answer is INCONCLUSIVE


def test_unparsed_lines_that_could_be_the_canarys_errors_are_inconclusive_however_few() -> None:
    """Two of 10,000 lines are far under the limit; with them a canary of 100 requests would be over the ratio."""
    lines = mixed(100, share=0.01)
    check = named(judged([*lines, "rubbish", "torn"], asked_pct=1).checks, "log")
    assert check.answer is INCONCLUSIVE
    assert re.search(r"if they all were the canary's errors: canary 5xx: 2 of \d+ .*over 0.5 %", check.reason)
    assert named(judged(lines, asked_pct=1).checks, "log").answer is PASS


@pytest.mark.parametrize(("lost", "answer"), [(0, PASS), (1, PASS), (12, INCONCLUSIVE)])
def test_lost_lines_may_all_have_been_lost_at_once(lost: int, answer: Answer) -> None:
    """Over two hours a dozen are 0.1 % of the canary's requests; in its worst quarter of an hour they are a failure."""
    lines = [request("canary" if number % 2 else "primary", START_MS + number * 200) for number in range(36_000)]
    check = named(judge_windows(counts_of([*lines, *["torn"] * lost], window_s=900), Thresholds()).checks, "log")
    assert check.answer is answer, check.reason


# boundaries


def with_errors(errors_count: int, trials_count: int) -> LogCounts:
    lines = [request("canary", START_MS + n, status="502" if n < errors_count else "200") for n in range(trials_count)]
    return counts_of(lines, window_s=900)


@pytest.mark.parametrize(("errors", "answer"), [(50, PASS), (51, FAIL)])
def test_error_ratio_at_its_boundary_by_the_plain_rule(errors: int, answer: Answer) -> None:
    check = named(judge_windows(with_errors(errors, 10_000), Thresholds(plain_rules=PLAIN)).checks, "canary 5xx")
    assert check.answer is answer
    assert Verdict.of([check]).plain == ["canary 5xx"] and f"{errors} of 10000 (0.{errors} %)" in check.reason


@pytest.mark.parametrize(("errors", "answer"), [(50, PASS), (51, INCONCLUSIVE), (110, FAIL)])
def test_error_ratio_at_its_boundary_with_confidence(errors: int, answer: Answer) -> None:
    counts = LogCounts(900)
    for what, count in (("requests", 10_000), ("attempts", 10_000), ("attempts_5xx", errors)):
        ticks = 1_778_025_600 // counts.tick_s + np.arange(count) % 50
        counts.ticks.add(("r1", "canary", what), ticks, np.ones(count, np.int64))
    check = named(judge_windows(counts, Thresholds()).checks, "canary 5xx")
    assert check.answer is answer, check.reason


def test_an_undecided_error_ratio_says_how_long_it_takes() -> None:
    check = named(judge_windows(with_errors(2, 150), Thresholds()).checks, "canary 5xx")
    assert check.answer is INCONCLUSIVE
    assert "n=150" in check.reason and "at this rate decided in about" in check.reason


@pytest.mark.parametrize(("p95_ms", "answer"), [(120, PASS), (121, FAIL)])
@pytest.mark.parametrize("plain", [(), PLAIN])
def test_connect_p95_at_its_boundary(p95_ms: int, answer: Answer, plain: tuple[str, ...]) -> None:
    """One in ten takes p95_ms, so that it is the p95; the others take 2 ms."""
    lines = [request("canary", START_MS + n, 300, p95_ms if n % 10 == 0 else 2) for n in range(3000)]
    thresholds = Thresholds.model_validate({"plain_rules": plain})
    check = named(judge_windows(counts_of(lines), thresholds).checks, "canary connect p95")
    assert check.measured == p95_ms and check.answer is answer, check.reason


def test_reused_connections_do_not_hide_slow_connects() -> None:
    lines = [request("canary", START_MS + n, 300, 200 if n % 50 == 0 else 0) for n in range(10_000)]
    assert named(judged(lines).checks, "canary connect p95").answer is FAIL


@pytest.mark.parametrize(("jobs", "answer"), [(200, PASS), (201, FAIL), (None, INCONCLUSIVE)])
def test_backlog_at_its_boundary(jobs: int | None, answer: Answer) -> None:
    assert [c.answer for c in judge_backlog({"canary": jobs}, Thresholds())] == [answer]


def reload_counts(header_ms: int, revision: str, gateways: Iterable[str] = ("primary", "canary")) -> LogCounts:
    """Response times are one more than header times; a few spread around, so that the p95 is exact."""
    lines = [
        request(g, START_MS + n, header_ms - 1 if n % 2 else 9, openclaw_revision=revision, pid=str(4711 + n % 4))
        for g in gateways
        for n in range(1000)
    ]
    return counts_of(lines)


@pytest.mark.parametrize(("after_ms", "answer"), [(135, PASS), (136, FAIL)])
@pytest.mark.parametrize("plain", [(), PLAIN])
def test_reload_p95_at_its_boundary(after_ms: int, answer: Answer, plain: tuple[str, ...]) -> None:
    thresholds = Thresholds.model_validate({"plain_rules": plain})
    checks = judge_reload(reload_counts(100, "r1"), reload_counts(after_ms, "r2"), thresholds)
    assert named(checks, "primary after reload").answer is answer


@pytest.mark.parametrize(("canary_mb", "answer"), [(118, PASS), (119, FAIL), (82, PASS), (81, FAIL)])
def test_rss_gap_at_its_boundary(canary_mb: int, answer: Answer) -> None:
    samples = {"canary": [canary_mb * 2**20] * 5, "primary": [100 * 2**20] * 5}
    assert judge_rss(samples, Thresholds()).answer is answer
    lighter = PASS if canary_mb < 100 else answer
    assert judge_rss(samples, Thresholds(), same_weight=False).answer is lighter


def test_rss_ignores_one_spike_and_wants_samples() -> None:
    spike = {"canary": [100.0, 100, 400, 100, 100], "primary": [100.0] * 5}
    assert judge_rss(spike, Thresholds()).answer is PASS
    assert judge_rss({"canary": [100.0], "primary": [100.0] * 5}, Thresholds()).answer is INCONCLUSIVE


# who is at fault


def test_while_both_gateways_are_bad_nothing_is_said_of_the_canary() -> None:
    rng = random.Random(2)
    lines = [line.replace("\t200\t", "\t502\t") if rng.random() < 0.06 else line for line in mixed(rate=200)]
    verdict = judged(lines)
    errors, of_primary = (named(verdict.checks, f"{gateway} 5xx") for gateway in ("canary", "primary"))
    assert errors.answer is INCONCLUSIVE and errors.hop is Hop.HOST
    assert "until now, and the canary is no better or worse" in errors.reason
    assert of_primary.answer is FAIL and of_primary.hop is Hop.HOST, "a whole window of it, so somebody has to look"
    longer = judged(lines, LAB.model_copy(update={"error_window_s": 60}))
    assert named(longer.checks, "primary 5xx").answer is INCONCLUSIVE
    assert not drains(verdict)


def day(*bad: str, last_of_them: int = 0) -> LogCounts:
    """A day at 100 requests a tick; in a quarter of an hour of it a tenth of the `bad` gateways' attempts fail."""
    counts = LogCounts(900)
    ticks = 1_778_025_600 // counts.tick_s + np.arange(24 * 3600 // counts.tick_s)
    for gateway, rate in (("primary", 90), ("canary", 10)):
        late = ticks[-60 - last_of_them : len(ticks) - last_of_them] if gateway in bad else ticks[:0]
        for what in ("requests", "attempts"):
            counts.ticks.add(("r1", gateway, what), ticks, np.full(len(ticks), rate))
        counts.ticks.add(("r1", gateway, "attempts_5xx"), late, np.full(len(late), rate // 10))
    return counts


@pytest.mark.parametrize("plain", [(), PLAIN])
def test_a_quarter_of_an_hour_in_which_both_are_bad_is_the_hosts_and_left_out(plain: tuple[str, ...]) -> None:
    """It counts neither for nor against the canary, nor against primary; the reason says which minutes they were."""
    checks = judge_windows(day("canary", "primary", last_of_them=60), Thresholds(plain_rules=plain)).checks
    for name in ("canary 5xx", "primary 5xx", "canary taken over"):
        assert named(checks, name).answer in (PASS, INCONCLUSIVE if name == "canary taken over" else PASS)
    reason = named(checks, "canary 5xx").reason
    assert "15 min in which both gateways were bad, from 06 May 23:30:00 UTC, are the host's" in reason


@pytest.mark.parametrize(("bad", "name"), [("canary", "canary 5xx"), ("primary", "primary 5xx")])
@pytest.mark.parametrize("plain", [(), PLAIN])
def test_it_is_the_bad_minutes_that_are_compared(bad: str, name: str, plain: tuple[str, ...]) -> None:
    """After a good day a bad quarter of an hour does not show in the total; who alone is bad in it has failed."""
    checks = judge_windows(day(bad), Thresholds(plain_rules=plain)).checks
    assert [c.name for c in checks if c.answer is FAIL] == [name]
    check = named(checks, name)
    assert bad in check.hop
    if bad == "canary" and not plain:
        assert "certainly worse than 0 of" in check.reason


def test_a_canary_over_the_threshold_with_a_primary_as_bad_is_not_drained() -> None:
    """Both at 1 % for two days: over for certain, and nothing that tells one from the other."""
    rng, counts = np.random.default_rng(3), LogCounts(900)
    ticks = 1_778_025_600 // counts.tick_s + np.arange(2 * 86_400 // counts.tick_s)
    for gateway, rate in (("primary", 45), ("canary", 5)):
        for what in ("requests", "attempts"):
            counts.ticks.add(("r1", gateway, what), ticks, np.full(len(ticks), rate))
        errors = rng.binomial(rate, 0.01, len(ticks))
        counts.ticks.add(("r1", gateway, "attempts_5xx"), ticks[errors > 0], errors[errors > 0])
    verdict = judge_windows(counts, Thresholds())
    assert named(verdict.checks, "canary 5xx").answer is INCONCLUSIVE
    assert not drains(verdict)


def connects(bad: tuple[str, ...], windows_count: int = 40, bad_count: int = 4) -> LogCounts:
    """Ten hours of connects of 2 ms; in one of them a fifth of the `bad` gateways' connects took 200 ms."""
    counts = counts_of(mixed(), window_s=900)
    for number in range(windows_count):
        for gateway, tried in (("primary", 900), ("canary", 100)):
            late = tried // 5 if gateway in bad and 10 <= number < 10 + bad_count else 0
            group = (1_778_025_600 + 900 * number, "r1", gateway, "connect")
            counts.times.add(group, np.array([2, 200]), np.array([tried - late, late]))
    return counts


@pytest.mark.parametrize(("bad", "failed"), [(("primary", "canary"), []), (("canary",), ["canary connect p95"])])
def test_a_slow_hour_of_the_host_is_not_the_canarys(bad: tuple[str, ...], failed: list[str]) -> None:
    checks = judge_windows(connects(bad), Thresholds()).checks
    assert [c.name for c in checks if c.answer is FAIL] == failed
    if not failed:
        assert "60 min in which both were slow are the host's" in named(checks, "canary connect p95").reason


def test_a_host_that_is_slow_all_along_is_told() -> None:
    both, slow = mixed(), {"upstream_connect_time": "0.200"}
    lines = ["\t".join((dict(zip(FIELDS, line.split("\t"), strict=True)) | slow).values()) for line in both]
    check = named(judged(lines).checks, "primary connect p95")
    assert check.answer is FAIL and check.hop is Hop.HOST


def test_the_reload_rule_holds_however_often_one_looks() -> None:
    """60 healthy reloads, looked at after each 50 requests: the p95 before and after is the same."""
    failed = 0
    for seed in range(60):
        rng, before, after = np.random.default_rng(seed), LogCounts(900), LogCounts(900)
        before.times.add(
            ("0", "r1", "primary", "response"), rng.lognormal(5, 0.8, 400).astype(np.int64), np.ones(400, int)
        )
        for number in range(20):
            group = (900 * number, "r2", "primary", "response")
            after.times.add(group, rng.lognormal(5, 0.8, 50).astype(np.int64), np.ones(50, int))
            after.ticks.add(("r2", "primary", "requests"), np.array([number]), np.array([50]))
            checks = judge_reload(before, after, Thresholds())
            if any(check.answer is FAIL for check in checks):
                failed += 1
                break
    assert failed <= 3  # 1 % of 60, and what chance may add


def test_only_the_canary_bad_says_fix_the_canary() -> None:
    lines = mixed()
    broken = [line.replace("\t200\t", "\t502\t") if "\tcanary\t" in line else line for line in lines]
    errors = named(judged(broken).checks, "canary 5xx")
    assert errors.hop is Hop.CANARY and "fix" in errors.remedy and "do not tune nginx" in errors.remedy


def test_5xx_that_nginx_makes_itself_is_nginx() -> None:
    """worker_connections are not enough: nginx logs an empty address and 500."""
    starved = dict.fromkeys(("upstream_status", "upstream_connect_time", "upstream_header_time"), "-")
    starved |= {"upstream_addr": "", "status": "500"}
    lines = mixed() + [request("primary", START_MS + n * 50, **starved) for n in range(100)]
    check = named(judged(lines, asked_pct=None).checks, "nginx 5xx")
    assert check.answer is FAIL and check.hop is Hop.NGINX


def test_reload_tells_starved_workers_from_a_slow_canary() -> None:
    before = reload_counts(100, "r1")
    both = judge_reload(before, reload_counts(200, "r2"), LAB)
    assert named(both, "primary after reload").hop is Hop.NGINX
    only_canary = reload_counts(100, "r2", ["primary"]).merge(reload_counts(200, "r2", ["canary"]))
    checks = judge_reload(before, only_canary, LAB)
    assert named(checks, "canary after reload").hop is Hop.CANARY
    assert named(checks, "primary after reload").answer is PASS


def test_reload_finds_the_slow_worker_and_counts_the_old_ones() -> None:
    lines = []
    for n in range(4000):
        pid = 5000 + n % 4
        header_ms = 400 if pid == 5002 else 99
        lines.append(request("primary", START_MS + n, header_ms, openclaw_revision="r2", pid=str(pid)))
    lines += [request("primary", START_MS + n, 50, openclaw_revision="r1", pid="4711") for n in range(7)]
    workers = named(judge_reload(reload_counts(100, "r1"), counts_of(lines), LAB), "workers")
    assert workers.answer is FAIL and "5002" in workers.reason
    assert "1 old workers finished 7 requests" in workers.reason


@pytest.mark.parametrize(("header_ms", "answer"), [("", PASS), ("2.000", FAIL)])
def test_near_100_percent_windows_are_joined_until_primary_is_a_yardstick(header_ms: str, answer: Answer) -> None:
    lines = mixed(60, rate=25, share=0.9, **({"upstream_header_time": header_ms} if header_ms else {}))
    check = named(judged(lines, asked_pct=90).checks, "canary header p95")
    assert check.answer is answer, check.reason


def test_a_few_milliseconds_are_not_slower() -> None:
    """nginx measures whole milliseconds: 3 after 2 would be 50 %."""
    checks = judge_reload(reload_counts(2, "r1"), reload_counts(3, "r2"), LAB)
    assert named(checks, "primary after reload").answer is PASS
    lines = [request(g, START_MS + n, 3 if g == "canary" else 2) for n in range(500) for g in ("canary", "primary")]
    assert named(judged(lines, asked_pct=50).checks, "canary header p95").answer is PASS


def test_reload_with_too_few_is_inconclusive() -> None:
    checks = judge_reload(reload_counts(100, "r1"), counts_of([request("primary", START_MS)]), LAB)
    assert Verdict.of(checks).answer is INCONCLUSIVE


ARTICLE = {  # its table, and what it says beside it
    "canary 5xx": Action.DRAIN,
    "canary connect p95": Action.PAUSE,
    "canary backlog": Action.PAUSE,
    "canary RSS": Action.PAUSE,
    "canary after reload": Action.PAUSE,
}


@pytest.mark.parametrize("name", [*SIGNALS, *ARTICLE, "canary taken over", "canary ready", "a check of tomorrow"])
def test_a_signal_that_fails_has_its_own_action(name: str) -> None:
    """Too little to say holds, a pass asks for nothing, and what nobody thought of drains."""
    asked = {
        answer: act([Check(name, answer, "", Hop.CANARY)], Thresholds()).action for answer in (PASS, INCONCLUSIVE, FAIL)
    }
    assert (asked[PASS], asked[INCONCLUSIVE]) == (None, Action.HOLD)
    assert asked[FAIL] is ARTICLE.get(name, Action.PAUSE if name in SIGNALS else Action.DRAIN)


def test_the_strongest_action_is_the_verdicts() -> None:
    checks = [Check("canary RSS", FAIL, "", Hop.CANARY), Check("log", INCONCLUSIVE, "", Hop.RUNBOOK)]
    assert act(checks, Thresholds()).action is Action.PAUSE
    assert act([*checks, Check("canary 5xx", FAIL, "", Hop.CANARY)], Thresholds()).action is Action.DRAIN
    assert Verdict().action is Action.HOLD
    assert Verdict.of(checks).action is Action.DRAIN, "a failure that nobody gave an action drains"


def test_which_signals_pause_is_a_parameter_and_none_can_be_ignored() -> None:
    checks = [Check("canary RSS", FAIL, "", Hop.CANARY)]
    assert act(checks, Thresholds(pause_on=("connect_p95",))).action is Action.DRAIN
    for wrong in (["canary 5xx"], ["ignore"], {"memory": "ignore"}):
        with pytest.raises(ValidationError):
            Thresholds.model_validate({"pause_on": wrong})


def test_every_reason_has_its_numbers_and_n() -> None:
    for check in judged(mixed()).checks:
        assert check.reason.startswith(check.name)
        assert any(character.isdigit() for character in check.reason)
        assert check.samples_count


def test_the_same_counts_give_the_same_verdict() -> None:
    counts = counts_of(mixed())
    again = LogCounts.from_bytes(counts.to_bytes())
    assert judge_windows(counts, LAB, asked_pct=20) == judge_windows(again, LAB, asked_pct=20)
