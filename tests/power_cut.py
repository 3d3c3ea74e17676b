"""What a power cut leaves: a file system that forgets what was not synced, replayed from a program's system calls.

It is stricter than any real one. A name lasts once its folder was synced, a content once its file was, and a rename
from one folder to another is two changes, each of which lasts with its own folder.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = (
    "openat,open,creat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,write,pwrite64,"
    "writev,pwritev,ftruncate,truncate,fsync,fdatasync,syncfs,sync,utimensat,copy_file_range,sendfile,symlink,symlinkat"
)
_OF_A_DESCRIPTOR = frozenset({"write", "pwrite64", "ftruncate", "fsync", "fdatasync"})
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (\d+)")
_TOKEN = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?|(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?|([\w|]+)')
_TIME = re.compile(r"\{tv_sec=(\d+), tv_nsec=(\d+)\}")


def traced(command: list[str], log: Path, cwd: Path) -> list[str]:
    """Run a program under strace and return its system calls on files, a line each."""
    strace = ["strace", "-f", "-y", "-xx", "-s", "10000000", "--seccomp-bpf", "-e", f"trace={_CALLS}", "-o", str(log)]
    done = subprocess.run([*strace, *command], cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return list(_joined(log.read_text().splitlines()))


def _joined(lines: list[str]) -> Iterator[str]:
    """Yield whole calls: one that another thread's interrupts comes when it ends."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, said = line.partition(" ")
        if said.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif said.lstrip().startswith("<... "):
            yield begun.pop(thread, "") + said.partition(" resumed>")[2]
        else:
            yield line


def can_trace() -> bool:
    """Return whether there is a strace that may trace a program here."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


@dataclass(eq=False)
class File:
    """A file: what it holds, and what it would hold after a power cut."""

    content: bytes = b""
    kept: bytes = b""
    mtime_ns: int = 0


@dataclass(eq=False)
class Folder:
    """A folder: its names, and those it would have after a power cut."""

    names: dict[str, "File | Folder"] = field(default_factory=dict)
    kept: dict[str, "File | Folder"] = field(default_factory=dict)


@dataclass
class ForgetfulDisk:
    """Everything below one folder, whose names last and whose contents do not."""

    root: Path
    top: Folder = field(default_factory=Folder)

    def __post_init__(self) -> None:
        found: dict[tuple[int, int], File] = {}
        for above, _, files in os.walk(self.root):
            folder = self._made(Path(above))
            for name in files:
                path = Path(above) / name
                status = path.stat()
                file = found.setdefault((status.st_dev, status.st_ino), File(path.read_bytes()))
                file.mtime_ns = status.st_mtime_ns
                folder.names[name] = folder.kept[name] = file

    def keep(self, path: Path) -> None:
        """Take a file for one that was synced before."""
        folder, name = self._at(str(path))
        file = folder.names[name]
        assert isinstance(file, File)
        file.kept = file.content

    def _made(self, path: Path) -> Folder:
        folder = self.top
        for part in path.relative_to(self.root).parts:
            folder = folder.kept.setdefault(part, Folder())  # pyright: ignore[reportAssignmentType]
            assert isinstance(folder, Folder)
        above, name = self._at(str(path)) if path != self.root else (None, "")
        if above is not None:
            above.names[name] = folder
        return folder

    def _at(self, path: str) -> tuple[Folder, str]:
        folder: File | Folder = self.top
        *above, name = Path(path).relative_to(self.root).parts
        for part in above:
            assert isinstance(folder, Folder)
            folder = folder.names[part]
        assert isinstance(folder, Folder)
        return folder, name

    def _node(self, path: str) -> File | Folder:
        if path == str(self.root):
            return self.top
        folder, name = self._at(path)
        return folder.names[name]

    def replay(self, line: str) -> bool:
        """Do what a line of strace says, and return whether it was about anything here."""
        if (match := _LINE.match(line)) is None:
            return False
        call, said, result = match[1], match[2], int(match[3])
        if call in {"sync", "syncfs"}:
            self._sync_all(self.top)
            return True
        tokens = list(_TOKEN.finditer(said))
        if not tokens or (tokens[0][3] and tokens[0][4]):
            return False  # of a deleted file
        paths = [_text_of(tokens[0][3])] if call in _OF_A_DESCRIPTOR else list(_paths(tokens))
        if not paths or not all(self._is_here(path) for path in paths):
            assert call not in {"rename", "renameat", "renameat2"} or not any(map(self._is_here, paths)), line
            return False
        self._do(call, paths, tokens, said, result)
        return True

    def _is_here(self, path: str) -> bool:
        return path == str(self.root) or path.startswith(f"{self.root}/")

    def _do(self, call: str, paths: list[str], tokens: list[re.Match[str]], said: str, result: int) -> None:
        match call:
            case "openat" | "open" | "creat":
                self._open(paths[0], said)
            case "write" | "pwrite64":
                self._write(self._file(paths[0]), tokens, call, result)
            case "ftruncate" | "truncate":
                file, size = self._file(paths[0]), int(tokens[-1][5])
                file.content = file.content[:size].ljust(size, b"\0")
            case "utimensat":
                if times := _TIME.findall(said):
                    self._file(paths[0]).mtime_ns = int(times[1][0]) * 10**9 + int(times[1][1])
            case "fsync" | "fdatasync":
                self._sync(self._node(paths[0]))
            case _:
                self._change_names(call, paths)

    def _change_names(self, call: str, paths: list[str]) -> None:
        match call:
            case "rename" | "renameat" | "renameat2":
                (old, name), (new, other) = self._at(paths[0]), self._at(paths[1])
                new.names[other] = old.names.pop(name)
            case "link" | "linkat":
                folder, name = self._at(paths[1])
                folder.names[name] = self._node(paths[0])
            case "unlink" | "unlinkat" | "rmdir":
                folder, name = self._at(paths[0])
                del folder.names[name]
            case "mkdir" | "mkdirat":
                folder, name = self._at(paths[0])
                folder.names[name] = Folder()
            case _:
                raise AssertionError(f"{call} is not known here")

    def _open(self, path: str, said: str) -> None:
        if path == str(self.root):
            return
        folder, name = self._at(path)
        if "O_CREAT" in said and name not in folder.names:
            folder.names[name] = File()
        if "O_TRUNC" in said:
            self._file(path).content = b""

    def _file(self, path: str) -> File:
        found = self._node(path)
        assert isinstance(found, File), path
        return found

    @staticmethod
    def _write(file: File, tokens: list[re.Match[str]], call: str, result: int) -> None:
        assert not tokens[1][2], "strace has cut what was written"
        written = _bytes_of(tokens[1][1])[:result]
        at = int(tokens[3][5]) if call == "pwrite64" else len(file.content)
        file.content = file.content[:at].ljust(at, b"\0") + written + file.content[at + len(written) :]

    @staticmethod
    def _sync(node: File | Folder) -> None:
        if isinstance(node, File):
            node.kept = node.content
        else:
            node.kept = dict(node.names)

    def _sync_all(self, folder: Folder) -> None:
        self._sync(folder)
        for node in folder.names.values():
            if isinstance(node, Folder):
                self._sync_all(node)
            else:
                self._sync(node)

    def kept(self, *, with_names: bool = False) -> dict[str, File]:
        """Return the files that a power cut leaves now, by their paths; `with_names`, if all names happen to last."""
        return dict(_files(self.top, "", with_names=with_names))

    def lay_out(self, folder: Path, *, with_names: bool = False) -> dict[File, os.stat_result]:
        """Make in a folder what a power cut leaves, and return what each file is there."""
        made: dict[File, Path] = {}
        _make_folders(self.top, folder, with_names=with_names)
        for path, file in self.kept(with_names=with_names).items():
            if file in made:
                os.link(made[file], folder / path)
                continue
            made[file] = folder / path
            (folder / path).write_bytes(file.kept)
            os.utime(folder / path, ns=(file.mtime_ns, file.mtime_ns))
        return {file: path.stat() for file, path in made.items()}


def _files(folder: Folder, above: str, *, with_names: bool) -> Iterator[tuple[str, File]]:
    for name, node in (folder.names if with_names else folder.kept).items():
        if isinstance(node, File):
            yield above + name, node
        else:
            yield from _files(node, f"{above}{name}/", with_names=with_names)


def _make_folders(folder: Folder, path: Path, *, with_names: bool) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, node in (folder.names if with_names else folder.kept).items():
        if isinstance(node, Folder):
            _make_folders(node, path / name, with_names=with_names)


def _paths(tokens: list[re.Match[str]]) -> Iterator[str]:
    """Yield the paths that a call is about: of a descriptor, or of a name in the folder of the descriptor before it."""
    above = None
    for token in tokens:
        if token[3] is not None:
            if above is not None:
                yield above
            above = _text_of(token[3])
        elif token[1] is not None:
            name = _text_of(token[1])
            if "\0" in name or len(name) > 4096:
                break
            yield str(Path(above or "/", name))
            above = None
    if above is not None:
        yield above


def _bytes_of(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text_of(escaped: str) -> str:
    return os.fsdecode(_bytes_of("".join(re.findall(r"\\x[0-9a-f]{2}", escaped))))
