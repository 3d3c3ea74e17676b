"""The order in which automations are written."""

from automations.as_code.files import Definition, read_text
from automations.as_code.plan import in_order


def definition(name: str, *others: str) -> Definition:
    actions = "".join(f"\n  - {{type: pause-automation, automation: {other}}}" for other in others) or " []"
    read, problems = read_text(f"{name}.yaml", f"name: {name}\ntrigger: {{expect: [x]}}\nactions:{actions}\n")
    assert problems == []
    assert read
    return read


def test_each_comes_after_those_that_it_refers_to() -> None:
    ordered, problems = in_order([definition("a", "b", "c"), definition("b", "c"), definition("c"), definition("d")])
    assert problems == []
    names = [one.name for one in ordered]
    assert names.index("c") < names.index("b") < names.index("a")


def test_one_that_the_server_may_have_is_not_waited_for() -> None:
    ordered, problems = in_order([definition("a", "by hand")])
    assert ([one.name for one in ordered], problems) == (["a"], [])


def test_a_circle_is_reported_with_everybody_in_it() -> None:
    _, [problem] = in_order([definition("a", "b"), definition("b", "c"), definition("c", "a")])
    assert ".yaml:4: actions[0].automation: these refer to each other in a circle" in str(problem)
    assert all(f"{name} -> " in problem.message for name in "abc")


def test_one_that_refers_to_itself_is_reported() -> None:
    _, [problem] = in_order([definition("a", "a")])
    assert str(problem) == "a.yaml:4: actions[0].automation: expected another automation, got the name of this one"
