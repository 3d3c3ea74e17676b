"""The order in which automations can be written: each after those that it refers to."""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from automations.as_code.files import Definition
from automations.as_code.references import Kind, Reference, find_references
from automations.errors import Problem


def in_order(definitions: Sequence[Definition]) -> tuple[list[Definition], list[Problem]]:
    """Return the definitions so that none comes before one that it refers to, and what makes that impossible.

    Those that do not depend on each other stay in the order of their files.
    """
    by_name = {definition.name: definition for definition in definitions}
    needs = {one.name: [ref.name for ref in _automations(one) if ref.name in by_name] for one in definitions}
    problems = [
        definition.problem(reference.field, "expected another automation, got the name of this one")
        for definition in definitions
        for reference in _automations(definition)
        if reference.name == definition.name
    ]
    if problems:
        return list(definitions), problems
    try:
        return [by_name[name] for name in TopologicalSorter(needs).static_order()], []
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]
        definition = by_name[circle[0]]
        field = next(reference.field for reference in _automations(definition) if reference.name == circle[1])
        message = f"these refer to each other in a circle, none of them can be the first: {' -> '.join(circle)}"
        return list(definitions), [definition.problem(field, message)]


def _automations(definition: Definition) -> list[Reference]:
    return [one for one in find_references(definition.document) if one.kind is Kind.AUTOMATION]
