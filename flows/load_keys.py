"""Load keys: what has been loaded already, written in the same transaction as the rows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LoadKey:
    """One file of one arrival; it goes into one table once."""

    arrival_id: str
    file_name: str
    target_table: str
