"""One YAML text: what it says, on which line each field stands, and how such a text is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml


class YamlTextError(Exception):
    """The text is not usable YAML; `line` is where, as far as that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True)
class YamlText:
    """What a text says, and the lines of its fields by their paths, such as `actions[0].body`."""

    content: Any
    lines: Mapping[str, int]
    repeated: tuple[tuple[str, int], ...]
    """The fields that stand twice in the same place, of which YAML would take the last; with their lines."""

    def line_of(self, field: str) -> int:
        """Return the line of a field; of one that is not there, that of what it is missing in."""
        while field not in self.lines and field:
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        return self.lines.get(field, 1)


def parse(text: str) -> YamlText:
    """Read one document; a list of one entry, as Prefect prints it, is that entry. Raises YamlTextError.

    >>> parse("name: one\\nactions:\\n  - type: do-nothing").lines
    {'': 1, 'name': 1, 'actions': 2, 'actions[0]': 3, 'actions[0].type': 3}
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()  # pyright: ignore[reportUnknownMemberType]
        if isinstance(node, yaml.SequenceNode) and len(node.value) == 1:
            node = node.value[0]
        # Before it is constructed, which merges `<<` into the nodes.
        fields = list(_fields(node, "", node.start_mark.line + 1, set(), set())) if node else []
        content = cast("Any", loader.construct_document(node) if node else None)  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlTextError(f"not valid YAML: {error.problem}", line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise YamlTextError(f"not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()  # pyright: ignore[reportUnknownMemberType]
    lines: dict[str, int] = {}
    repeated: list[tuple[str, int]] = []
    for field, line in fields:
        if field in lines:
            repeated.append((field, line))
        lines.setdefault(field, line)
    return YamlText(content, lines, tuple(repeated))


def _fields(node: yaml.Node, path: str, line: int, above: set[int], done: set[int]) -> Iterator[tuple[str, int]]:
    """Yield each field of a node with its line; what an alias repeats is found where it stands first."""
    yield path, line
    if id(node) in above:
        raise YamlTextError("an alias stands inside of what it repeats", line)
    if id(node) in done:
        return
    done.add(id(node))
    inside = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            field = f"{path}.{key.value}".removeprefix(".")
            yield from _fields(value, field, key.start_mark.line + 1, inside, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _fields(value, f"{path}[{index}]", value.start_mark.line + 1, inside, done)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and lists set in from their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)  # pyright: ignore[reportUnknownMemberType]


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    if not all(letter.isprintable() or letter in "\n\t" for letter in text):
        style = '"'  # PyYAML writes some of them as they are and reads them as something else
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _represent_text)  # pyright: ignore[reportUnknownMemberType]


def render(content: Mapping[str, Any]) -> str:
    """Return a document as YAML, its fields in the order in which they are given."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
