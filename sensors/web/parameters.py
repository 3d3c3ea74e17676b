"""The parameters that a request may have, and within which limits."""

from datetime import UTC, date, datetime
from typing import Annotated

from annotated_types import Interval
from fastapi import Path as PathParameter
from fastapi import Query
from pydantic import AwareDatetime, Field

FileId = Annotated[int, Field(ge=0, le=2**63 - 1)]
RunKey = Annotated[str, PathParameter(pattern=r"^[0-9A-Za-z-]{1,64}$")]
"""The id of a run, or of a deployment whose run is missing."""
Limit = Annotated[int, Query(ge=1, le=500)]
MostFiles = Annotated[int, Query(ge=0, le=10_000)]
# Python knows no day after 9999-12-31, and a time zone may need one.
DayParameter = Annotated[date, Interval(ge=date(2000, 1, 1), le=date(2999, 12, 31))]
Moment = Annotated[AwareDatetime, Interval(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2999, 12, 31, tzinfo=UTC))]
