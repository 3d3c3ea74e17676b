"""The picture of a load: a bar for each file, in the Markdown that Prefect's page renders above the report's table."""

import re
from collections.abc import Sequence

from flows.verdict import Outcome, Verdict

SHOWN = 12
"""How many files get a bar; the table below names all of them."""
WIDTH = 20
"""How many characters the longest bar has."""
_NAME_LIMIT = 60
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#+\-.!|~&:@$]")


def chart(verdicts: Sequence[Verdict]) -> str:
    """Return the rows of each file as bars, the largest first and rejected files before them; "" for a single file.

    >>> print(chart([Verdict("a.csv", Outcome.LOADED, 40, 9, 0.1), Verdict("b.csv", Outcome.REJECTED, 0, 9, 0.0, "x")]))
    | file | rows | |
    |:--|--:|:--|
    | b\\.csv | | &ensp;✗ rejected |
    | a\\.csv | 40 | &ensp;▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇ |
    """
    if len(verdicts) < 2:
        return ""
    ordered = sorted(verdicts, key=lambda one: (one.outcome is not Outcome.REJECTED, -one.rows))
    longest = max(one.rows for one in verdicts)
    lines = ["| file | rows | |", "|:--|--:|:--|", *(_line(one, longest) for one in ordered[:SHOWN])]
    if rest := ordered[SHOWN:]:
        lines.append(f"| and {len(rest):,} more | {sum(one.rows for one in rest):,} | |")
    return "\n".join(lines)


def plain(text: str) -> str:
    r"""Return a text of somebody's as Markdown that shows it as it is, in one line and not too long.

    >>> plain("[x](http://bad) <b>|")
    '\\[x\\]\\(http\\://bad\\) \\<b\\>\\|'
    """
    one_line = " ".join(text.split())
    cut = one_line if len(one_line) <= _NAME_LIMIT else f"{one_line[: _NAME_LIMIT - 1]}…"
    return _MARKUP.sub(r"\\\g<0>", cut)


def bar(value: int, longest: int) -> str:
    """Return a bar of block characters, a thin one at least for what is not nothing.

    >>> bar(1, 1000), bar(500, 1000)
    ('▏', '▇▇▇▇▇▇▇▇▇▇')
    """
    if not value or not longest:
        return ""
    return "▇" * round(value / longest * WIDTH) or "▏"


def _line(verdict: Verdict, longest: int) -> str:
    if verdict.outcome is Outcome.REJECTED:
        return f"| {plain(verdict.file)} | | &ensp;✗ rejected |"
    skipped = " ↷ skipped, it was loaded before" if verdict.outcome is Outcome.SKIPPED else ""
    return f"| {plain(verdict.file)} | {verdict.rows:,} | &ensp;{bar(verdict.rows, longest)}{skipped} |"
