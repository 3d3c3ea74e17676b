"""Copy or upload a file into an inbox (`just drop`): the copy appears complete and never replaces another file."""

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

from sensors.config.admission import Admission, admit
from sensors.config.inboxes import Inbox, read_inboxes
from sensors.config.settings import Settings
from sensors.files.beneath import Place, copy_content, place_of
from sensors.files.durability import rename_without_replacing
from sensors.files.permissions import make_shared_folder, make_state_folder, umask_of_caller
from sensors.runtime.text import readable
from sensors.stack.errors import StackError, as_stack_error, checked_settings


def drop(file: Path, inbox_name: str) -> list[str]:
    """Copy a file into an inbox; return lines that say where it is and what happens next. Raises StackError."""
    settings = checked_settings()
    inbox = _inbox(settings, inbox_name)
    _check(file, inbox)
    if inbox.url:
        upload(file, inbox)
        return [f"uploaded {readable(file.name)} to {inbox.name}: {inbox.at(file.name)}", _what_next(settings, inbox)]
    make_state_folder(settings.state_dir)
    target = place(file, inbox.path)
    return [f"dropped {readable(file.name)} into {inbox.name}: {target}", _what_next(settings, inbox)]


def upload(file: Path, inbox: Inbox) -> None:
    """Upload a file into a remote inbox, where it appears complete and replaces no file. Raises StackError."""
    from sensors.remote.open import open_store
    from sensors.remote.store import StoreError

    try:
        store = open_store(inbox)
        try:
            store.put(str(file), file.name)
        finally:
            store.close()
    except FileExistsError as error:
        raise _taken(file.name, inbox.where) from error
    except (StoreError, OSError) as error:
        raise StackError(f"{readable(file.name)} cannot be uploaded: {error}") from error


def place(file: Path, folder: Path) -> Path:
    """Copy a file into a folder under its own name; return the path of the copy. Raises StackError.

    The copy is written under a hidden name, which the sensor ignores, synced to disk, and then renamed. If a file with
    the same name still waits in the folder, the call fails: replacing it would lose data, and under a generated name
    the new file would be loaded in addition, which the user did not ask for.
    """
    try:
        make_shared_folder(folder)
        with place_of(folder, file.name) as target:
            if target.exists():
                raise _taken(file.name, folder)
            _copy(file, target)
    except FileExistsError as error:
        raise _taken(file.name, folder) from error
    except OSError as error:
        raise StackError(f"{readable(file.name)} cannot be copied to {folder}: {error.strerror}") from error
    return folder / file.name


def _copy(file: Path, target: Place) -> None:
    # A random name: anyone with access to the inbox may have made a symlink with a name that can be guessed.
    partial = target.beside(f".{secrets.token_hex(8)}.part")
    try:
        with file.open("rb") as source, partial.create() as copy:
            copy_content(source, copy)
            # The same mode as with `cp`: the sensor may run as another user and must be able to read the file.
            os.fchmod(copy.fileno(), 0o666 & ~umask_of_caller())
            os.fsync(copy.fileno())
        rename_without_replacing(partial.name, target.name, src_dir_fd=partial.folder, dst_dir_fd=target.folder)
        target.sync_folder()  # the name survives a power cut once the command has reported success
    finally:
        partial.remove()


def _taken(name: str, where: Path | str) -> StackError:
    return StackError(
        f"{readable(name)} is in {where} already and has not been taken yet: wait until "
        "`just status` shows nothing waiting, or drop a copy under another name"
    )


def _inbox(settings: Settings, name: str) -> Inbox:
    with as_stack_error():
        inboxes = {inbox.name: inbox for inbox in read_inboxes(settings.inboxes_file, settings.inbox_dir)}
    if name not in inboxes:
        raise StackError(f"there is no inbox {name!r}; there are: {', '.join(inboxes)}")
    return inboxes[name]


def _check(file: Path, inbox: Inbox) -> None:
    """Raise StackError for a file that the sensor would not take; of a symlink, the target is checked and copied."""
    try:
        ruling = admit(file.name, file.stat(), inbox)
    except OSError as error:
        raise StackError(f"{readable(str(file))} cannot be read: {error.strerror}") from error
    if ruling.admission is not Admission.ADMITTED:
        raise StackError(f"{readable(str(file))} is not taken: {ruling.reason}")


def _what_next(settings: Settings, inbox: Inbox) -> str:
    if _answers(settings.sensor_url):
        soon = f"when it lists the inbox, every {inbox.rescan_seconds:g} s" if inbox.url else "within a second"
        return f"the sensor takes it {soon}; `just status` shows what becomes of it"
    return "the sensor is not running; it takes the file when it is started with `just up`"


def _answers(address: str) -> bool:
    at = urlsplit(address)
    try:
        socket.create_connection((at.hostname or "", at.port or 80), timeout=1).close()
    except OSError:
        return False
    return True
