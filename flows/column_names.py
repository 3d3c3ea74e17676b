"""Which names the columns of a file may have."""

from collections import Counter
from collections.abc import Iterable

from flows.failures import RejectionError
from flows.target_table import RESERVED_COLUMNS


def check_names(names: Iterable[str]) -> None:
    """Raise RejectionError for names that the target table cannot have side by side."""
    counts = Counter(name.lower() for name in names)
    taken = [name for name in counts if name in RESERVED_COLUMNS]
    twice = [name for name, count in counts.items() if count > 1]
    if taken:
        raise RejectionError(f"column {_listed(taken)}: the pipeline's own name; rename it in the file")
    if twice:
        raise RejectionError(f"column {_listed(twice)}: there more than once; case makes no difference")


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
