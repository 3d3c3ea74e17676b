"""Where in a YAML file something stands, for messages about it."""

from collections.abc import Sequence

import yaml


class YamlLines:
    """The lines of a YAML text, by the path to what stands there; the text must be YAML."""

    def __init__(self, text: str) -> None:
        self._root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)  # pyright: ignore[reportUnknownMemberType]

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of a field; of one that is not there, that of what it is missing in.

        >>> YamlLines("inboxes:\\n  metrics:\\n    max_files: 0").line_of(["inboxes", "metrics", "max_files"])
        3
        """
        node, line = self._root, 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            named, node = found
            line = named.start_mark.line + 1
        return line


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the node that names a step, and the node that it leads to."""
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if str(pair[0].value) == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step], node.value[step]
    return None
