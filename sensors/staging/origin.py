"""Where an inbox's files are taken from: a local folder here, a remote store in sensors/remote/origin.py."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sensors.json_log import about_arrival
from sensors.ledger.arrivals import ArrivalFile
from sensors.ledger.files import WaitingFile
from sensors.loop import beat
from sensors.staging.duplicates import digest_of
from sensors.staging.take import Move, take

logger = logging.getLogger(__name__)

_NOT_THE_FILES_FAULT = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ESTALE}
)


class Origin(Protocol):
    """Takes the files of an inbox, each safe to repeat, and reads them before that."""

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]: ...
    def digest(self, file: WaitingFile) -> str | None: ...
    def folders_of(self, files: Sequence[ArrivalFile]) -> set[str]: ...


@dataclass
class LocalOrigin:
    """Folders of this machine."""

    _told: set[tuple[Path, int | None]] = field(default_factory=set[tuple[Path, int | None]])

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]:
        """Take one file after the other into an arrival's folder; raises OSError when the file system refuses."""
        for file in files:
            beat()
            yield file, self._take(file, folder, done_file, first=first)

    def _take(self, file: ArrivalFile, folder: Path, done_file: str | None, *, first: bool) -> Move:
        if not file.path.is_absolute():
            raise OSError(
                f"{file.name} was being taken from {file.path} when its inbox became a folder here;"
                " set the `url` back until `just status` shows nothing in flight"
            )
        try:
            return take(file, folder, done_file, first=first)
        except OSError as error:
            if error.errno in _NOT_THE_FILES_FAULT or not os.access(file.path.parent, os.W_OK):
                raise
            # One bad file must not hold up the good ones: it stays where it is and waits.
            if (file.path, error.errno) not in self._told:
                self._told.add((file.path, error.errno))
                logger.warning(
                    "arrival %s: %s cannot be taken, it waits: %s",
                    folder.name,
                    file.name,
                    error,
                    extra=about_arrival(folder.name),
                )
            return Move.CHANGED

    def digest(self, file: WaitingFile) -> str | None:
        """Return the SHA-256 of a file that has settled; None if it is not that file any more."""
        return digest_of(file.path, file.identity)

    def folders_of(self, files: Sequence[ArrivalFile]) -> set[str]:
        """Return the folders that the files were taken from."""
        return {os.path.dirname(file.path) for file in files}  # noqa: PTH120 - a Path for each costs more than the move
