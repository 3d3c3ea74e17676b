"""Which arrival is meant: by its id, by a unique beginning of that, or by the name of a file that it has."""

from sensors.config.admission_part import readable
from sensors.ledger import Ledger
from sensors.stack.errors import StackError

TOLD = 5
"""How many arrivals are named when a beginning is that of several."""


def find_arrival(ledger: Ledger, wanted: str) -> str:
    """Return the id of the arrival that is meant; of a file's name the latest one that has it.

    Raises StackError when there is none, or when the beginning of an id is that of several.
    """
    if ledger.rows("SELECT 1 FROM arrivals WHERE id = ?", (wanted,)):
        return wanted
    by_name = ledger.rows(
        "SELECT arrival_id FROM files WHERE name = ? AND arrival_id IS NOT NULL ORDER BY id DESC LIMIT 1", (wanted,)
    )
    if by_name:
        return by_name[0]["arrival_id"]
    begun = [
        row["id"]
        for row in ledger.rows(
            # A range, so that the index of ids is used: LIKE would read all of them.
            "SELECT id FROM arrivals WHERE id >= ? AND id < ? || char(1114111) ORDER BY id DESC LIMIT ?",
            (wanted, wanted, TOLD + 1),
        )
    ]
    if len(begun) == 1 and wanted:
        return begun[0]
    raise StackError(_several(wanted, begun) if begun and wanted else _without_arrival(ledger, wanted))


def _several(wanted: str, begun: list[str]) -> str:
    more = " and more" if len(begun) > TOLD else ""
    return f"several arrivals begin with {readable(wanted)}: {', '.join(begun[:TOLD])}{more}; give more of the id"


def _without_arrival(ledger: Ledger, wanted: str) -> str:
    """Say what is known of a file that no arrival has, or that there is nothing of that name."""
    files = ledger.rows("SELECT state, inbox, reason FROM files WHERE name = ? ORDER BY id DESC LIMIT 1", (wanted,))
    if not files:
        return f"there is no arrival {readable(wanted)}, and no file of that name; `just history` lists the latest"
    file = files[0]
    why = f": {readable(file['reason'])}" if file["reason"] else ""
    return f"{readable(wanted)} is in no arrival: it is {file['state']} in inbox {file['inbox']}{why}"
