"""Where work is done: in this process, or on an existing Dask cluster; both as a concurrent.futures.Executor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from runbook_lib.errors import WorkersUnreachable
from runbook_lib.plan.reading import project_root

MOST_THREADS = 16  # regions mostly wait: for traffic, for an observation
CONNECT_LIMIT_S = 20


@contextmanager
def workers(dask: str | None = None) -> Iterator[Executor]:
    """An executor: threads here, or the workers of the Dask scheduler at an address such as tcp://10.0.0.5:8786.

    Dask gives the work of a worker that has died to another. Raises WorkersUnreachable where there is no scheduler,
    no worker, or one that does not see the same project folder.
    """
    if dask is None:
        with ThreadPoolExecutor(MOST_THREADS) as threads:
            yield threads
        return
    try:
        from distributed import Client
    except ImportError:
        raise WorkersUnreachable('--dask needs the extra: pip install "openclaw-rollout-runbook[dask]"') from None
    try:
        client = Client(dask, timeout=CONNECT_LIMIT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkersUnreachable(f"no Dask scheduler answers at {dask}: {error}") from None
    with client:
        _refuse_strangers(dask, client.run(_place))
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)


def is_lost(error: BaseException) -> bool:
    """Whether Dask gave the work up because every worker that had it died."""
    return type(error).__name__ == "KilledWorker"


def _refuse_strangers(dask: str, places: dict[str, str]) -> None:
    here = _place()
    if not places:
        raise WorkersUnreachable(f"the Dask scheduler at {dask} has no workers; start some in {here}")
    strange = [f"{worker} works in {place}" for worker, place in sorted(places.items()) if place != here]
    if strange:
        raise WorkersUnreachable(
            f"every worker needs this project folder, {here}, shared and as its working directory: {'; '.join(strange)}"
        )


def _place() -> str:
    return str(project_root())
