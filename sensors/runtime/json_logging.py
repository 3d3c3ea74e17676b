"""Log lines as text or as JSON, one object a line, for log collectors."""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

TEXT = "%(asctime)s %(levelname)-7s %(message)s"
TEXT_TIME = "%Y-%m-%d %H:%M:%S%z"
ABOUT = ("arrival_id", "inbox")
"""Attributes of a log record that name the arrival or inbox it is about."""


class LogFormat(StrEnum):
    """The format of the sensor's log lines."""

    TEXT = "text"
    JSON = "json"


def about_arrival(arrival_id: str) -> dict[str, str]:
    """Return the `extra` of a log call about an arrival; the arrival's id begins with the name of its inbox.

    >>> about_arrival("metrics-20261124-140509-3f9a1c")
    {'arrival_id': 'metrics-20261124-140509-3f9a1c', 'inbox': 'metrics'}
    """
    return {"arrival_id": arrival_id, "inbox": arrival_id.rsplit("-", 3)[0]}


def about_inbox(inbox: str) -> dict[str, str]:
    """Return the `extra` of a log call about an inbox."""
    return {"inbox": inbox}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (UTC), level, logger, message, thread, arrival and inbox."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is in `exception`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        line |= {name: getattr(record, name) for name in ABOUT if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter of a log format."""
    return JsonFormatter() if log_format is LogFormat.JSON else logging.Formatter(TEXT, TEXT_TIME)
