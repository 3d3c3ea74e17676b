"""How far a long query is: DuckDB is asked from a thread of its own, while the load waits for the query."""

import contextvars
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import duckdb

PAUSE = 1.0
LARGE = 20 * 2**20
"""Bytes from which on it is worth it: less is loaded in a second."""


@contextmanager
def watched(
    connection: duckdb.DuckDBPyConnection, size: int, glimpse: Callable[[float, float], None]
) -> Generator[None, None, None]:
    """Call `glimpse`, while the block lasts, with how much of the query at hand is done and the monotonic time.

    `size` is what is to be loaded, in bytes; where it is small nothing is done. The share is from 0 to 1, and DuckDB's
    estimate: by the bytes that it has read.
    """
    if size < LARGE:
        yield
        return
    connection.execute("SET enable_progress_bar = true")
    connection.execute("SET enable_progress_bar_print = false")
    over = threading.Event()

    def watch() -> None:
        while not over.wait(PAUSE):
            share = connection.query_progress() / 100
            if 0 <= share <= 1:
                glimpse(share, time.monotonic())

    # Prefect finds the run, to which an artifact belongs, in the context.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
