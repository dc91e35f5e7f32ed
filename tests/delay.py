"""A TCP proxy that holds everything back for a while, as a long way does: `with delayed(port, 0.075) as other_port`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK = 1 << 16


@contextmanager
def delayed(port: int, one_way_s: float) -> Iterator[int]:
    """A port on loopback that leads to `port`, later by `one_way_s` in each direction; bandwidth is not limited."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(connect, "127.0.0.1", 0)

    async def connect(near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * one_way_s)  # the handshake
        far_in, far_out = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError):  # the end of the proxy, which nobody else waits for
            await asyncio.gather(carry(near_in, far_out), carry(far_in, near_out))

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take() -> None:
            block = b"-"
            while block:
                try:
                    block = await source.read(BLOCK)
                except ConnectionError:
                    block = b""
                held.put_nowait((loop.time() + one_way_s, block))

        taking = loop.create_task(take())
        block = b"-"
        while block:
            due, block = await held.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            with suppress(ConnectionError, RuntimeError):
                target.write(block)
                await target.drain()
        await taking
        with suppress(ConnectionError, RuntimeError):
            target.close()

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    """Whoever is still connected is let go."""
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
