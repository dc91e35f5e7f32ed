"""Several regions: side by side within a wave, wave after wave, and no further than the first that is not fine."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

from runbook_lib.checklist.order import STEPS
from runbook_lib.errors import PlanError, RunbookError
from runbook_lib.execution.execute import raise_if_stopped, stop_in, stoppable
from runbook_lib.execution.notebooks import check_notebooks
from runbook_lib.plan import reading
from runbook_lib.regions.rollout import Outcome, run_region
from runbook_lib.regions.workers import is_lost
from runbook_lib.verdict import Answer

NEXT = ":"
LOOK_EVERY_S = 0.5


def parse_waves(words: Sequence[str], first_bakes: bool = False) -> list[list[str]]:
    """Regions as waves: `hk : jp kr : sg us` is three; without a colon all are one, or two where the first bakes.

    Every plan is checked. Raises PlanError with the mistakes of all.
    """
    waves = [list(group) for is_next, group in groupby(words, NEXT.__eq__) if not is_next]
    regions = [region for wave in waves for region in wave]
    mistakes = [f"{region} stands there twice" for region in dict.fromkeys(regions) if regions.count(region) > 1]
    if not regions or len(waves) != words.count(NEXT) + 1:
        mistakes.append(f"a wave is empty; write e.g. hk {NEXT} jp kr")
    for region in dict.fromkeys(regions):
        try:
            reading.load(region)
        except PlanError as error:
            mistakes += [f"{error.source}: {mistake}" for mistake in error.mistakes]
    if mistakes:
        raise PlanError("regions", mistakes)
    return [regions[:1], regions[1:]] if first_bakes and len(waves) == 1 and len(regions) > 1 else waves


def run_waves(
    waves: list[list[str]],
    executor: Executor,
    show: Callable[[int], None],
    through: int = len(STEPS),
    dry_run: bool = False,
) -> list[Outcome]:
    """Run each wave until all its regions have stopped by themselves; the next one only after a pass of all.

    `show` is called with the number of the wave while one runs. The regions of the waves that were not begun are in
    the answer, too: held, and not touched. Raises KeyboardInterrupt or SystemExit when all runners have ended after
    a signal.
    """
    check_notebooks(STEPS[:through])
    outcomes: list[Outcome] = []
    with stoppable(), _wanted() as mark:
        for number, wave in enumerate(waves, start=1):
            futures = {region: executor.submit(run_safely, region, mark, through, dry_run) for region in wave}
            try:
                _wait_for(futures.values(), partial(show, number))
            except (KeyboardInterrupt, SystemExit):
                mark.unlink(missing_ok=True)
                wait(futures.values())
                raise
            raise_if_stopped()
            outcomes += [_outcome(region, future) for region, future in futures.items()]
            bad = [f"{o.region} is {o.answer}" for o in outcomes if o.answer is not Answer.PASS]
            if bad:
                why = f"held: {', '.join(bad)} in wave {number}; not touched"
                held = [region for later in waves[number:] for region in later]
                return outcomes + [Outcome(region, "", "", Answer.INCONCLUSIVE, why) for region in held]
    return outcomes


def run_safely(region: str, mark: Path, through: int = len(STEPS), dry_run: bool = False) -> Outcome:
    """Run a region as long as `mark` is there, wherever this is; whatever stops it is an Outcome."""

    def go_on(_step: str) -> None:
        if not mark.exists():
            raise SystemExit

    ended = threading.Event()
    watcher = threading.Thread(target=_stop_without, args=(mark, region, ended))
    watcher.start()
    try:
        return run_region(region, lambda text: None, through, dry_run, go_on)
    except RunbookError as error:
        answer = Answer.FAIL if error.exit_code == 1 else Answer.INCONCLUSIVE
        return Outcome(region, "", "", answer, str(error))
    except (KeyboardInterrupt, SystemExit):
        return Outcome(region, "", "", Answer.INCONCLUSIVE, "the runner was stopped")
    finally:
        ended.set()
        watcher.join()


def _stop_without(mark: Path, region: str, ended: threading.Event) -> None:
    while not ended.wait(LOOK_EVERY_S):
        if not mark.exists():
            stop_in(mark.parent / region)


@contextmanager
def _wanted() -> Iterator[Path]:
    """A file that is there as long as this rollout is wanted: runners on other machines look at it, too."""
    outputs = reading.project_root() / "outputs"
    outputs.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".wanted-", dir=outputs)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _wait_for(futures: Collection[Future[Outcome]], show: Callable[[], None]) -> None:
    while wait(futures, timeout=LOOK_EVERY_S).not_done:
        show()
    show()


def _outcome(region: str, future: Future[Outcome]) -> Outcome:
    error = future.exception()
    if error is not None and is_lost(error):
        return Outcome(region, "", "", Answer.INCONCLUSIVE, f"its workers died one after the other: {error}")
    return future.result()
