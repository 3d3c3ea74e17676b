"""Writers that drop files into an inbox in all the ways that people and programs do, until they are told to stop."""

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sensors.files.durability import rename_without_replacing


@dataclass
class Dropped:
    """What was dropped: the numbers that stand in the files, each once in all of them, and how many files."""

    numbers: set[int] = field(default_factory=set[int])
    files: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: int = 0

    def rows(self, count: int) -> list[int]:
        """Return numbers that stand nowhere else."""
        with self._lock:
            first = self._next
            self._next += count
        return list(range(first, first + count))

    def done(self, rows: list[int]) -> None:
        """Take note that a file with these numbers lies in the inbox, whole."""
        with self._lock:
            self.numbers.update(rows)
            self.files += 1


Write = Callable[[Path, str, list[int], random.Random], None]


def _text(rows: list[int]) -> str:
    return "".join(f"{row}\n" for row in rows)


def fast(inbox: Path, name: str, rows: list[int], _: random.Random) -> None:
    """Write it all at once."""
    with (inbox / name).open("x") as file:
        file.write("n\n" + _text(rows))


def slow(inbox: Path, name: str, rows: list[int], chance: random.Random) -> None:
    """Keep it open for longer than any quiet period of the test."""
    with (inbox / name).open("x") as file:
        file.write("n\n")
        for row in rows:
            file.write(f"{row}\n")
            file.flush()
            time.sleep(chance.uniform(0, 3.0 / len(rows)))


def renaming(inbox: Path, name: str, rows: list[int], chance: random.Random) -> None:
    """Write it under a temporary name and rename it."""
    part = inbox / f"{name}.{chance.randrange(10**9)}.part"
    part.write_text("n\n" + _text(rows))
    try:
        rename_without_replacing(part, inbox / name)
    finally:
        part.unlink(missing_ok=True)


def appending(inbox: Path, name: str, rows: list[int], chance: random.Random) -> None:
    """Open, append and close it many times."""
    with (inbox / name).open("x") as file:
        file.write("n\n")
    for row in rows:
        time.sleep(chance.uniform(0, 0.03))
        with (inbox / name).open("a") as file:
            file.write(f"{row}\n")


def linking(inbox: Path, name: str, rows: list[int], chance: random.Random) -> None:
    """Write it elsewhere and link it in; the other name stays."""
    elsewhere = inbox.parent.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    original = elsewhere / f"{name}.{chance.randrange(10**9)}"
    original.write_text("n\n" + _text(rows))
    os.link(original, inbox / name)


WAYS: tuple[Write, ...] = (fast, slow, renaming, appending, linking)


@dataclass
class Writer:
    """One writer in a thread of its own; the seed tells what it writes, and how."""

    inbox: Path
    seed: int
    dropped: Dropped
    pause: float
    names: int = 6
    """From how few names it takes one: the same come again and again, as soon as they are free."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._write, name=f"writer {self.seed}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the file that is being written, and no other."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _write(self) -> None:
        chance = random.Random(self.seed)
        while not self._stop.wait(chance.uniform(0, 2 * self.pause)):
            name = f"w{self.seed}-{chance.randrange(self.names)}.csv"
            rows = self.dropped.rows(chance.randrange(1, 20))
            try:
                chance.choice(WAYS)(self.inbox, name, rows, chance)
            except FileExistsError:
                continue  # the last one of that name is still waiting: nobody may replace it
            self.dropped.done(rows)
