"""Normalize column names for a table, and detect headers that are not names, or are followed by a second header."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from flows.errors import RejectionError

_FORMS = {
    form: re.compile(pattern)
    for form, pattern in {
        "a number": r"[-+]?(\d[\d.,\u00a0' ]*|[.,]\d+)([eE][-+]?\d+)?",
        "a percentage": r"[-+]?\d[\d.,]* ?%",
        "an amount of money": r"[-+(]*([$\u20ac\u00a3\u00a5] ?[-+]?\d[\d.,' ]*|\d[\d.,' ]* ?[$\u20ac\u00a3\u00a5])\)?",
        "a date": (
            r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}"
        ),
        "a time of day": r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?",
        "a time": r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})[T ]\d{1,2}:\d\d.*",
        "a web address": r"[a-z]{2,8}://\S+|www\.\S+",
        "a mail address": r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}",
        "a UUID": r"\{?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?",
        "an IP address": r"\d{1,3}(\.\d{1,3}){3}(/\d+)?",
    }.items()
}
"""Forms of text typical of values and rare in names; later entries take precedence."""
_YEARS = range(1900, 2101)
_YEAR = re.compile(r"(19|20)\d\d|")
_COUNTER = re.compile(r"\d{1,4}")
_NULL_WORDS = frozenset({"", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "nil", "-", "--", ".", "?", "unknown"})
_FEWEST_BELOW = 2
"""Number of values of one form that are needed below a word to take the word for a second name."""


def form_of(text: str) -> str | None:
    """Return what kind of value a text looks like; None for a word.

    >>> form_of("28/01/2018"), form_of("Price")
    ('a date', None)
    """
    text = text.strip()
    return next((form for form in reversed(_FORMS) if _FORMS[form].fullmatch(text)), None)


def table_names(names: Sequence[str], line: int) -> tuple[str, ...]:
    """Return the names as the table has them; an empty one becomes DuckDB's, `column0` and so on.

    Blanks around a name and invisible characters (a byte order mark, a zero-width space) are removed, and letters are
    normalized to NFC, so that no two columns look the same. Raises RejectionError for control characters.
    """
    return tuple(table_name(name, f"line {line}: ") or f"column{at}" for at, name in enumerate(names))


def table_name(name: str, place: str = "") -> str:
    """Return a name as a table has it, for any file format; see `table_names`."""
    if name.isascii() and name.isprintable():
        return name.strip()
    seen = "".join(letter for letter in name.replace("\r\n", "\n") if unicodedata.category(letter) != "Cf")
    seen = unicodedata.normalize("NFC", seen).strip()
    for letter in seen:
        if unicodedata.category(letter) == "Cc" and letter not in "\n\t":
            raise RejectionError(
                f"{place}the column name {seen!r} has the control character U+{ord(letter):04X}; remove it"
            )
    return seen


def why_no_names(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return why these cannot be the columns' names, judging by the first rows; None if they can."""
    empty = sum(not name.strip() for name in names)
    if len(names) > 1 and 2 * empty > len(names):
        return f"{empty} of {len(names)} are empty"
    forms = {at: form for at, name in enumerate(names) if (form := form_of(name))}
    if not forms or _are_counted(names, forms, rows):
        return None
    for at, form in forms.items():
        below = [row[at] for row in rows if at < len(row) and row[at].strip()]
        if all(form_of(value) == form for value in below) and (below or not rows):
            return f'"{names[at]}" is {form}' + (", like the values below it" if below else "")
    return None


@lru_cache(maxsize=1000)
def needs_rows(names: tuple[str, ...]) -> bool:
    """Whether `why_no_names` needs rows; not if all names are words."""
    return any(not name.strip() or form_of(name) for name in names)


def second_names(names: Sequence[str], rows: Sequence[Sequence[str]], columns: Collection[str]) -> str | None:
    """Return why the first row looks like a second line of names, such as units; None if it does not.

    It does if it has only words, one of them in one of these columns above values that all have one form.
    """
    if len(rows) <= _FEWEST_BELOW or len(rows[0]) != len(names) or any(map(form_of, rows[0])):
        return None
    for at, word in enumerate(rows[0]):
        below = [row[at] for row in rows[1:] if at < len(row) and row[at].strip()]
        forms = {form_of(value) for value in below}
        is_typed = len(below) >= _FEWEST_BELOW and len(forms) == 1 and None not in forms
        if names[at] in columns and is_typed and word.strip().lower() not in _NULL_WORDS:
            return f'"{word}" is a word, and each value below it in column "{names[at]}" is {forms.pop()}'
    return None


def _are_counted(names: Sequence[str], forms: Mapping[int, str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the numbers among the names count columns beside names in words: years, or 1, 2, 3."""
    numbers = [int(names[at]) for at in forms if _COUNTER.fullmatch(names[at].strip())]
    if len(numbers) < len(forms) or len(forms) == len(names):
        return False
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    if not all(number in _YEARS for number in numbers) and not (len(numbers) > 2 and steps == {1}):
        return False
    values = [row[at].strip() for row in rows for at in forms if at < len(row)]
    return len(steps) <= 1 and not (any(values) and all(map(_YEAR.fullmatch, values)))
