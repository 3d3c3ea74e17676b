"""What goes wrong with a pipeline, sorted by whether trying again can help."""

from typing import Any


class PipelineError(Exception):
    """The pipeline cannot go on; the message says what was expected, what was got, and what to do."""


class TemporaryError(PipelineError):
    """Trying again may help: a source that does not answer, a warehouse that is in use."""


class PermanentError(PipelineError):
    """Trying again cannot help: a mistyped parameter, a page that is not JSON."""


class RejectionError(Exception):
    """One file cannot be loaded; the message is the reason, in one line and without the file's name."""


class RefusedError(RejectionError):
    """The database refuses a row; it may say which value of which column it was that it does not take."""

    def __init__(self, reason: str, column: str | None = None, value: str | None = None) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        """As the database quotes it, so it may be cut short; without a column a piece of whatever text holds it."""


def may_help_to_retry(task: object, task_run: object, state: Any) -> bool:
    """Tell Prefect whether to retry a failed task: everything but a PermanentError (a `retry_condition_fn`)."""
    return not isinstance(state.result(raise_on_failure=False), PermanentError)
