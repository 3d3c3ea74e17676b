"""The folders of the inboxes: made, and looked at before anything relies on them."""

import os
from collections.abc import Iterable
from pathlib import Path

from sensors.inbox import Inbox, InboxesError


def make_folders(file: Path, inboxes: Iterable[Inbox]) -> None:
    """Make the folders that do not exist; raises InboxesError with a line for each that cannot be used.

    `file` is where the inboxes are configured.
    """
    mistakes = [
        f"{file}: inboxes.{inbox.name}.path: expected a folder that can be read and written, {inbox.path} {problem};"
        " set another path or mend this one"
        for inbox in inboxes
        if (problem := _problem(inbox.path))
    ]
    if mistakes:
        raise InboxesError("\n".join(mistakes))


def _problem(path: Path) -> str | None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        return "is a file"
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    return None if os.access(path, os.R_OK | os.W_OK | os.X_OK) else "does not let us in"
