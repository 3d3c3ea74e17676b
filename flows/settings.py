"""Settings of the flows, read from the environment and the `.env` file.

`python -m flows.settings` checks them.
"""

import grp
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import PermanentError
from flows.readers.guard import MEGABYTE, FileLimits, HttpLimits
from flows.warehouse.address import CATALOG, DuckDbFile, WarehouseAddress, warehouse_address
from flows.warehouse.duckdb import DEFAULT_LIMIT
from flows.warehouse.open import OpenOptions

PROJECT_ROOT = Path(__file__).resolve().parent.parent
RUN_ITSELF = 200 * MEGABYTE
"""Memory of a run besides DuckDB's buffers, in bytes."""
_SIZE = re.compile(r"([1-9]\d*(?:\.\d+)?) ?([MGT])(i?)B", re.IGNORECASE)
_POWERS = {"M": 2, "G": 3, "T": 4}
_SECRET = frozenset({"warehouse_url"})
"""Settings that may contain a password: never shown, even if invalid."""


class PipelineSettings(BaseSettings):
    """Each field is an environment variable of the same name in capitals, which overrides the `.env` file.

    docs/settings.md is generated from the fields and their docstrings: `just docs`.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, frozen=True)

    state_dir: Path = Path("data")
    """The folder for all data; a relative path starts at the project's root."""
    warehouse_url: SecretStr | None = None
    """The warehouse: the path of a DuckDB file, relative to the project's root, or postgresql://...; not set:
    `warehouse.duckdb` in STATE_DIR."""
    warehouse_wait_seconds: float = Field(default=600.0, ge=0)
    """How long a run waits while another has the warehouse open."""
    warehouse_memory_limit: str = DEFAULT_LIMIT
    """How much memory DuckDB may use for its buffers before it spills to a file next to the warehouse."""
    warehouse_readers: str = ""
    """The group whose members may read the DuckDB file, such as analysts; empty: only the stack's own user."""
    run_memory_limit: str = ""
    """How much memory a run may use in all: a file that needs more is rejected; empty: WAREHOUSE_MEMORY_LIMIT plus 200
    MB, or nine tenths of the container's memory, if that is less."""
    max_file_seconds: float = Field(default=FileLimits.max_file_seconds, gt=0)
    """A file that takes longer to load is rejected."""
    max_columns: int = Field(default=FileLimits.max_columns, ge=1)
    """A file with more columns is rejected, as is a file that would give its table more."""
    max_rows: int = Field(default=FileLimits.max_rows, ge=1)
    """A file with more rows is rejected."""
    max_unpacked_bytes: int = Field(default=FileLimits.max_unpacked_bytes, ge=1)
    """A file that unpacks to more bytes, compressed as a whole, as Parquet or as a workbook, is rejected."""
    http_allowed_hosts: str = ""
    """Hosts, separated by spaces, that an http source may lead to by redirects and links to next pages, besides its
    own: `cdn.example.com`, or `10.0.0.5:8080`."""
    http_max_pages: int = Field(default=HttpLimits.max_pages, ge=1)
    """An http source with more pages fails."""
    http_max_bytes: int = Field(default=HttpLimits.max_bytes, ge=1)
    """An http source that sends more bytes, in all its pages and after decompression, fails."""
    http_max_seconds: float = Field(default=HttpLimits.max_seconds, gt=0)
    """An http source that takes longer to download fails."""
    http_max_redirects: int = Field(default=HttpLimits.max_redirects, ge=0)
    """A page of an http source with more redirects fails."""
    arrival_page_url: str = ""
    """The URL of an arrival's page without the arrival's id at its end; empty: runs have no link to one."""

    @field_validator("state_dir")
    @classmethod
    def _from_project_root(cls, path: Path) -> Path:
        return (PROJECT_ROOT / path.expanduser()).resolve()

    @field_validator("warehouse_url")
    @classmethod
    def _is_address(cls, url: SecretStr | None) -> SecretStr | None:
        try:
            if url is not None:
                warehouse_address(url.get_secret_value().strip(), PROJECT_ROOT)
        except ValueError as error:
            raise PydanticCustomError("warehouse_url", "{problem}", {"problem": str(error)}) from None
        return url

    @field_validator("warehouse_memory_limit", "run_memory_limit")
    @classmethod
    def _is_size(cls, size: str) -> str:
        if size and not _SIZE.fullmatch(size):
            raise PydanticCustomError("size", "expected a size such as 512MB or 4GB")
        return size

    @field_validator("warehouse_readers")
    @classmethod
    def _is_group(cls, name: str) -> str:
        try:
            if name:
                grp.getgrnam(name)
        except (KeyError, ValueError):
            raise PydanticCustomError("group", "expected the name of a group of this machine") from None
        return name

    @property
    def readers(self) -> int | None:
        """The id of the group that may read the DuckDB file, or None."""
        return grp.getgrnam(self.warehouse_readers).gr_gid if self.warehouse_readers else None

    @property
    def spool_dir(self) -> Path:
        """The folder in which runs keep their temporary files."""
        return self.state_dir / "spool"

    @property
    def open_options(self) -> OpenOptions:
        """Options for opening the warehouse."""
        return OpenOptions(self.warehouse_wait_seconds, self.warehouse_memory_limit, self.readers, self.spool_dir)

    @property
    def file_limits(self) -> FileLimits:
        """The limits on each file."""
        if self.run_memory_limit:
            memory, source = bytes_of(self.run_memory_limit), "RUN_MEMORY_LIMIT"
        else:
            memory, source = bytes_of(self.warehouse_memory_limit) + RUN_ITSELF, "WAREHOUSE_MEMORY_LIMIT"
        container = container_memory()
        if container is not None and container * 9 // 10 < memory:
            memory, source = container * 9 // 10, "the container's limit on memory"
        return FileLimits(
            self.max_columns, self.max_rows, self.max_unpacked_bytes, self.max_file_seconds, memory, source
        )

    @property
    def http_limits(self) -> HttpLimits:
        """The limits on http sources."""
        return HttpLimits(
            frozenset(self.http_allowed_hosts.lower().split()),
            self.http_max_pages,
            self.http_max_bytes,
            self.http_max_seconds,
            self.http_max_redirects,
        )

    def arrival_page(self, arrival_id: str | None) -> str | None:
        """Return the URL of an arrival's page, or None if there is none."""
        return f"{self.arrival_page_url}{arrival_id}" if self.arrival_page_url and arrival_id else None

    def warehouse(self, catalog: str = CATALOG) -> WarehouseAddress:
        """Return the address of the warehouse for a target table of this catalog.

        Without WAREHOUSE_URL it is `warehouse.duckdb` in the state folder. A file there that an earlier version named
        after another catalog stays in use.
        """
        if self.warehouse_url is not None:
            return warehouse_address(self.warehouse_url.get_secret_value().strip(), PROJECT_ROOT)
        own = self.state_dir / f"{catalog}.duckdb"
        return DuckDbFile(own if own.is_file() else self.state_dir / f"{CATALOG}.duckdb")


def bytes_of(size: str) -> int:
    """Return the number of bytes of a size such as 512MB or 4GiB.

    >>> bytes_of("1.5GB"), bytes_of("1 MiB")
    (1500000000, 1048576)
    """
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ValueError(f"expected a size such as 512MB or 4GB, got {size}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].upper()])


def container_memory(group: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory limit of this process's cgroup in bytes; None if there is none."""
    limits: list[int] = []
    with suppress(OSError, ValueError):
        lines = group.read_text().splitlines()
        own = next((line for line in lines if line.startswith("0::")), "").partition("::")[2]
        folder = root / own.lstrip("/")
        for one in [folder, *folder.parents]:
            if not one.is_relative_to(root):
                break
            with suppress(OSError, ValueError):  # no such file, or "max"
                limits.append(int((one / "memory.max").read_text()))
    return min(limits, default=None)


def read_settings() -> PipelineSettings:
    """Read the settings. Raises PermanentError that lists every invalid value."""
    env_file = Path(os.environ.get("ENV_FILE") or PROJECT_ROOT / ".env")
    try:
        return PipelineSettings(_env_file=env_file)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        problems = [
            f"{str(name).upper()}: {one['msg']}" + ("" if name in _SECRET else f", got {one['input']!r:.80}")
            for one in error.errors()
            for name in one["loc"][:1]
        ]
        raise PermanentError("check the environment and .env: " + "; ".join(problems)) from None


def main() -> None:
    """Exit with a one-line message if a setting is invalid: `python -m flows.settings`."""
    try:
        read_settings()
    except PermanentError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
