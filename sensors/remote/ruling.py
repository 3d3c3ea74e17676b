"""Which remote files are ours: the rules of local ones, and more where names can be what no folder allows."""

from sensors.config.admission_part import LONGEST_NAME, Admission, Ruling, admit
from sensors.config.inboxes import Inbox
from sensors.remote.store import RemoteFile

_NO_NAMES = frozenset({"", ".", ".."})


def rule(file: RemoteFile, inbox: Inbox) -> Ruling:
    """Decide by an entry's path below the inbox, its kind and its size."""
    ruling = admit(file.name, file.status, inbox)
    if file.is_claimed:
        return Ruling(Admission.LEFT_ALONE, "another sensor is taking it")
    if ruling.admission is Admission.ADMITTED and (reason := _no_file_of_ours(file.name)):
        return Ruling(Admission.REJECTED, reason)
    return ruling


def _no_file_of_ours(name: str) -> str:
    folders = name.split("/")[:-1]
    if not _NO_NAMES.isdisjoint(folders):
        return "the path has empty parts, `.` or `..`, which no folder can have; rename the file"
    if any(len(folder.encode()) > LONGEST_NAME for folder in folders):
        return f"a folder's name has more than {LONGEST_NAME} bytes; rename the file"
    if "?versionId=" in name:
        return "the name has ?versionId= in it, which names a version of another file; rename the file"
    return ""
