"""Create the folders of local inboxes, and check that they can be used."""

import os
from collections.abc import Iterable
from pathlib import Path

from sensors.config.inboxes import Inbox, InboxesError
from sensors.files.permissions import make_shared_folder


def make_folders(file: Path, inboxes: Iterable[Inbox], *, for_now: bool = False) -> None:
    """Create the local folders that do not exist; raises InboxesError with a line for each that cannot be used.

    `file` is the file in which the inboxes are configured. With `for_now`, only a path that cannot be a folder is a
    mistake: other errors, such as a read-only mount, may be temporary.
    """
    mistakes = [
        f"{file}: inboxes.{inbox.name}.path: expected a folder that can be read and written, {inbox.path} {problem};"
        " set another path or mend this one"
        for inbox in inboxes
        if inbox.url is None and (problem := _problem(inbox.path, for_now=for_now))
    ]
    if mistakes:
        raise InboxesError("\n".join(mistakes))


def _problem(path: Path, *, for_now: bool) -> str | None:
    try:
        make_shared_folder(path)
    except FileExistsError:
        return "is a file"
    except OSError as error:
        is_mistake = isinstance(error, NotADirectoryError) or not for_now
        return f"cannot be made: {error.strerror}" if is_mistake else None
    return None if for_now or os.access(path, os.R_OK | os.W_OK | os.X_OK) else "does not let us in"
