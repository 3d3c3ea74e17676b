"""What goes wrong in front of a person."""


class StackError(Exception):
    """Something that a person has to put right.

    Each argument is one line that says what was expected, what was got and what to do.
    """

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, line by line."""
        return tuple(str(line) for line in self.args)
