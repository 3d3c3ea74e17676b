"""The machine that was measured on."""

import os
import platform
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict


class Machine(BaseModel):
    """What figures depend on besides the code."""

    model_config = ConfigDict(frozen=True)

    measured: str
    """When, UTC."""
    cpu: str
    cores: int
    memory_gb: float
    filesystem: str
    """Of the folder that the systems kept their state in, with its kind of disk."""
    free_gb: float
    kernel: str
    python: str
    prefect: str
    duckdb: str
    load_average: float
    """Of the minute before the start: what else the machine was doing."""

    @property
    def kind(self) -> tuple[str, int]:
        """What has to be the same for figures to be comparable."""
        return self.cpu, self.cores

    def describe(self) -> str:
        """Return it in one line."""
        return (
            f"{self.cores} cores {self.cpu}, {self.memory_gb:.0f} GB, {self.filesystem}, {self.kernel}, "
            f"Python {self.python}, Prefect {self.prefect}, DuckDB {self.duckdb}; "
            f"{self.measured}, load {self.load_average:.2f}"
        )


def describe_machine(folder: Path) -> Machine:
    """Describe this machine now; `folder` is where the systems keep their state."""
    return Machine(
        measured=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        cpu=_cpu(),
        cores=os.cpu_count() or 0,
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        filesystem=_filesystem(folder),
        free_gb=round(shutil.disk_usage(folder).free / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        prefect=version("prefect"),
        duckdb=version("duckdb"),
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """Return the kind of file system and of disk, `ext4 on an SSD` for instance."""
    path = str(folder.resolve())
    mounts = [one for one in psutil.disk_partitions(all=True) if Path(path).is_relative_to(one.mountpoint)]
    if not mounts:
        return "unknown file system"
    mount = max(mounts, key=lambda one: len(one.mountpoint))
    name = Path(mount.device).name
    disks = [block for block in Path("/sys/block").glob("*") if name.startswith(block.name)]
    rotates = [(block / "queue" / "rotational").read_text().strip() for block in disks]
    if not rotates:
        return mount.fstype
    kind = "a virtual disk" if name.startswith(("vd", "xvd")) else "a hard disk" if rotates[0] == "1" else "an SSD"
    return f"{mount.fstype} on {kind}"
