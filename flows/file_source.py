"""A `file://` source: one file, or an arrival's folder."""

import stat
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flows.failures import PermanentError, TemporaryError
from flows.source_file import SUFFIXES, Rejected, SourceFile, format_of


def files_of(source_url: str) -> tuple[SourceFile | Rejected, ...]:
    """Return the file that a `file://` URL names, or the regular files of the folder it names, by name.

    In a folder hidden files, symlinks and whatever is not a file are passed over. Raises TemporaryError when
    there is nothing to read (it may be a mount that is not there yet), PermanentError when it is neither file
    nor folder.
    """
    path = Path(url2pathname(urlsplit(source_url).path))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            found = [entry for entry in sorted(path.iterdir()) if _is_input(entry)]
        elif stat.S_ISREG(mode):
            found = [path]
        else:
            raise PermanentError(f"expected a file or a folder of files, {path} is neither")
        files = tuple(_examined(entry) for entry in found)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise TemporaryError(f"expected a file or a folder of files at {path}: {problem}") from None
    if not files:
        raise TemporaryError(f"expected at least one file in the folder {path}, there is none")
    return files


def _is_input(path: Path) -> bool:
    return not path.name.startswith(".") and stat.S_ISREG(path.lstat().st_mode)


def _examined(path: Path) -> SourceFile | Rejected:
    size = path.stat().st_size
    if not _is_utf8(path.name):
        # Neither the warehouse nor Prefect can store such a name.
        shown = path.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return Rejected(shown, size, "the file's name is not UTF-8; rename it")
    known = format_of(path.name)
    if known is None:
        return Rejected(path.name, size, f"unknown suffix; expected one of {' '.join(SUFFIXES)}, text also with .gz")
    if not size:
        return Rejected(path.name, size, "empty file")
    return SourceFile(path, path.name, size, *known)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
