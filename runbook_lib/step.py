"""One step of the checklist as a notebook sees it: the plan, the Mac, what is shown and kept, the verdict, the gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from runbook_lib.audit.seal import describe, seal, unsealed_steps
from runbook_lib.checklist.order import MANAGED_FROM, STEPS
from runbook_lib.checklist.turn import run_for
from runbook_lib.errors import PlanError, StepFailed, StepInconclusive, StepNotReady
from runbook_lib.execution.redaction import guard_outputs
from runbook_lib.judging.actions import act
from runbook_lib.mac.actions import apply, release, send
from runbook_lib.mac.lease import is_short, propose_lease, propose_release
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, Sending
from runbook_lib.mac.switch import propose_drain
from runbook_lib.nginx.asking import Pulse, probe_pulse, pulse_facts
from runbook_lib.nginx.change import propose_weight
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records import manifest
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Cause, Kind
from runbook_lib.records.weights import drains
from runbook_lib.show import report
from runbook_lib.show.board import publish
from runbook_lib.show.proposed import proposed
from runbook_lib.show.report import Shown
from runbook_lib.steps.collect import collect_events, wait
from runbook_lib.verdict import Action, Answer, Check, Verdict


class Step:
    """An open step. Notebooks get it from open_step and only show, apply, conclude and pass the gate."""

    def __init__(self, name: str, run: Run, mac: Mac, opened_seq: int, sealed: str = "") -> None:
        self.name, self.run, self.mac, self.plan = name, run, mac, mac.plan
        self._opened_seq = opened_seq
        self.sealed = sealed
        """What was sealed when the step was opened: a step that the command did not run."""
        self._verdict: Verdict | None = None

    def settings(self) -> Shown:
        """Which run this is, and the effective plan, as the executed notebook records it."""
        plan = self.plan
        facts = {
            "region": plan.region,
            "run": self.run.name,
            **({"sealed now": self.sealed} if self.sealed else {}),
            **({"ssh": "; ".join(self.mac.host.notes)} if self.mac.host.notes else {}),
            "dry run": "yes: nothing is changed" if self.mac.dry_run else "no",
            "topology": plan.topology,
            "primary": f"{plan.primary.label} on {plan.primary.address}",
            "canary": f"{plan.canary.label} on {plan.canary.address}",
        }
        known = pd.DataFrame({"setting": facts.keys(), "value": facts.values()})
        return report.together(report.table(known, self.name), report.settings(plan.model_dump()))

    def keep(self, name: str, frame: pd.DataFrame, caption: str = "") -> Shown:
        """Keep a table with the run's evidence and show it; the bodies of answers are only kept."""
        self.run.keep_table(self.name, name, frame)
        return report.table(frame.drop(columns="body", errors="ignore"), caption)

    def keep_facts(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Keep what was found with the run's evidence."""
        self.run.keep_facts(self.name, name, facts)
        return facts

    def keep_pulse(self) -> Pulse:
        """Ask which configuration runs now, and keep the answer."""
        pulse = probe_pulse(self.mac)
        self.keep_facts("pulse", pulse_facts(pulse))
        return pulse

    def preview(self, *changes: Proposal | Sending) -> Shown:
        """What would be done, in order: the commands, the diffs, and how to undo each."""
        for change in changes:
            self.mac.ledger.append(Kind.PROPOSED, change.what, act=change.act, undo=change.undo, **change.facts)
        return report.together(*(part for change in changes for part in proposed(change, self.mac.vault.redact)))

    def apply(self, *proposals: Proposal) -> list[dict[str, Any]]:
        """Carry the proposals out, in order, and return what their proofs found.

        Raises StepNotReady once the step is judged, and where the canary was drained since the step was opened and
        would get traffic again.
        """
        found = []
        for proposal in proposals:
            self._refuse_late(gives_traffic=proposal.gives_traffic)
            if proposal.after_s and not self.mac.dry_run:
                wait(self.mac, proposal.after_s, self.stay)
            found += apply(self.mac, proposal)
        return found

    def send(self, sending: Sending) -> pd.DataFrame:
        """Send requests that a gateway executes, and return its answers. Raises StepNotReady once judged."""
        self._refuse_late()
        return send(self.mac, sending)

    def stay(self) -> None:
        """Keep the operator's lease while the step runs; when it dies, the sentinel drains the canary."""
        for_s = self.plan.lease.attended_s
        if is_short(self.mac.ledger, for_s):
            self.apply(propose_lease(self.mac, for_s))

    def drain(self, why: str) -> None:
        """Every new request to primary, at once and without a reload."""
        self.apply(propose_drain(self.plan, why))

    def _refuse_late(self, gives_traffic: bool = False) -> None:
        """The ledger decides: the verdict may be another process's, and so may the drain."""
        if self._verdict is not None or self._judged():
            raise StepNotReady(
                f"{self.name} in {self.plan.region} is judged; nothing was done again. Run the notebook from its top "
                f"to do the step anew. To drain the canary at any time: rollout drain {self.plan.region}"
            )
        drained = [e for e in drains(self.mac.ledger.events()) if e["seq"] > self._opened_seq]
        if gives_traffic and drained:
            raise StepNotReady(
                f"{self.name} in {self.plan.region}: the canary was drained since this step was opened "
                f"({drained[-1]['detail']['why']}, at {drained[-1]['at'][:19]}); it gets no traffic from here. Find "
                "out why, then run the notebook from its top"
            )

    def _judged(self) -> list[Event[Any]]:
        """The verdicts of this step since it was opened here."""
        return [e for e in self.mac.ledger.events(Kind.VERDICT, step=self.name) if e["seq"] > self._opened_seq]

    def _refuse_better(self, verdict: Verdict) -> None:
        """Whoever asks again without doing the step anew may find the canary drained, and well for that."""
        if verdict.answer is not Answer.FAIL and any(e["detail"]["answer"] == Answer.FAIL for e in self._judged()):
            raise StepNotReady(
                f"{self.name} in {self.plan.region} is judged fail; {verdict.answer} is not recorded over it. Run the "
                "notebook from its top to do the step anew"
            )

    def conclude(self, *checks: Iterable[Check]) -> Shown:
        """The verdict of all checks: recorded, and shown as a banner with the table of checks. It ends the acting.

        A verdict that asks for it drains the canary, once our configuration runs in nginx: by the drain file first,
        then by setting its weight to zero. Any other leaves the weight as it is, and is recorded when all that it
        implies for the Mac is done: whoever dies before that has said nothing.
        Raises StepNotReady for a better answer where this step, opened as it is, has failed.
        """
        verdict = act((check for group in checks for check in group), self.plan.thresholds)
        self._refuse_better(verdict)
        self._verdict = verdict
        if self.mac.dry_run:
            return report.together(
                report.banner(verdict, f"{self.name} in {self.plan.region}: dry run, nothing was changed")
            )
        detail = {
            "answer": str(verdict.answer),
            "action": str(verdict.action or ""),
            "hops": [str(hop) for hop in verdict.hops],
            "reasons": [self.mac.vault.redact(reason) for reason in verdict.reasons],
            "checks": verdict.table().to_dict("records"),
            "fetched": self.run.fetched(),
        }
        self.run.keep_table(self.name, "checks", verdict.table())
        is_drain = verdict.action is Action.DRAIN
        if not is_drain:
            self._hand_over(verdict.answer)
            release(self.mac)
        self.mac.ledger.append(Kind.VERDICT, f"{self.name}: {verdict.word}", **detail)
        if is_drain:
            if self.name in STEPS[MANAGED_FROM:]:
                self._withdraw("; ".join(verdict.reasons))
            release(self.mac)
        return report.together(
            report.banner(verdict, f"{self.name} in {self.plan.region}"), report.checks_table(verdict)
        )

    def _withdraw(self, why: str) -> None:
        """Canary to zero: at once by the drain file, then in the configuration."""
        apply(self.mac, propose_drain(self.plan, why, Cause.VERDICT))
        apply(self.mac, propose_weight(self.mac, 0))

    def gate(self) -> None:
        """Let the rollout go on after a pass. Raises StepFailed or StepInconclusive, after everything is recorded."""
        if self.mac.dry_run:
            return
        verdict = self._verdict or Verdict()
        where = f"{self.name} in {self.plan.region}"
        if verdict.answer is Answer.FAIL:
            hops, then = ", ".join(verdict.hops), ""
            if verdict.action is Action.PAUSE:
                then = f" (pause: the weight stays; rollout run {self.plan.region} judges again, "
                then += f"rollout drain {self.plan.region} takes the canary's traffic away)"
            raise StepFailed(f"{where} failed at {hops}: {'; '.join(verdict.reasons)}{then}")
        if verdict.answer is Answer.INCONCLUSIVE:
            raise StepInconclusive(f"{where} is inconclusive, nothing goes on: {'; '.join(verdict.reasons)}")
        asked = self.mac.host.round_trips_count
        self.mac.ledger.append(Kind.STEP_CLOSED, f"{self.name} passed", round_trips_count=asked)

    def _hand_over(self, answer: Answer) -> None:
        """Leave a canary that has traffic to the sentinel until somebody answers."""
        weight = self.run.ledger().last(Kind.WEIGHT)
        if self.name == STEPS[-1] and answer is Answer.PASS:
            apply(self.mac, propose_release(self.mac))
        elif self.name in STEPS and weight and weight["detail"]["weight_pct"]:
            apply(self.mac, propose_lease(self.mac, self.plan.unattended_s))


def open_step(name: str, namespace: Mapping[str, Any]) -> Step:
    """Open a step with the notebook's parameters: check them, find the run, refuse out of turn, connect.

    Raises PlanError before any connection is made, StepNotReady where the step before has not passed or this one has
    (unless `again` is set), GateWaiting where a person has not approved, HostError where the Mac cannot be reached.
    """
    plan = _plan_of(namespace)
    dry_run = bool(namespace.get("dry_run", False))
    again = bool(namespace.get("again", False))
    run = Run.dry_run(plan.region) if dry_run else run_for(name, plan, again)
    ledger = run.ledger(name)
    mac = Mac.connect(plan, ledger, dry_run)
    mac.vault.resolve_all(plan.secret_references)
    guard_outputs(mac.vault.redact)
    run = replace(run, redact=mac.vault.redact)
    sealed = _seal_before(run, mac)
    opened = ledger.append(Kind.STEP_OPENED, name, dry_run=dry_run, region=plan.region)
    if not dry_run:
        publish(run.directory)
    run.keep_facts(name, "plan", plan.model_dump(mode="json"))
    if name in STEPS[MANAGED_FROM + 1 :] and not dry_run and collect_events(mac, run):
        run_for(name, plan, again)  # the sentinel may have drained the canary since
    return Step(name, run, mac, opened["seq"], sealed)


def _plan_of(namespace: Mapping[str, Any]) -> Plan:
    try:
        return reading.from_notebook(namespace)
    except PlanError as refused:
        if not isinstance(namespace.get("step"), Step):
            raise
        again = "this kernel has run the notebook before and still has its variables: restart it, then run all cells"
        raise PlanError(refused.source, [*refused.mistakes, again]) from None


def _seal_before(run: Run, mac: Mac) -> str:
    """Seal what papermill alone has left unsealed, before this step adds to it; returns what was sealed."""
    newest = manifest.newest(run.directory)
    if run.is_dry_run or not unsealed_steps(run, newest):
        return ""
    made = seal(run, mac.vault, mac.plan.evidence.signing_key)
    return describe(made) if made else ""
