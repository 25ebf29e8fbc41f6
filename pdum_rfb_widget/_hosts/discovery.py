"""Where the hubs of this user are: one small file each, in a folder that only this user can open.

A hub writes its file, and the servers that lead pages to it (`jupyter`, `marimo`) read it. Both import this module, so
it is light. What a page says chooses among these files by a hub's id, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

log = logging.getLogger(__name__)

HUB_ID = re.compile(r"[0-9a-f]{16}")
STREAM_NAME = re.compile(r"[\w.~-]{1,64}")

PEER = "X-Forwarded-For"
"""The header by which those who lead pages to a hub say where they come from; believed on the unix socket only."""

NO_PROCESS = (
    "Python in a browser's page (Pyodide, JupyterLite, marimo's WebAssembly notebooks) has no threads and no ports, so "
    "nothing can be served from there: run the notebook in Jupyter or marimo with a Python process"
)

MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path that every system takes: Linux 107, macOS 103."""

_MAX_FILE = 4096
_SOCKET_FOLDER = "pdum-rfb-"
_UNIX = os.name == "posix"


@dataclass(frozen=True, slots=True)
class HubFile:
    """What is known of a hub without asking it. No secret is in it."""

    hub: str
    """Its id, 16 hex digits."""
    pid: int
    started: str
    """When that process started, in words of the system: a number that was given again has another."""
    machine: str
    """The name of the machine that it runs on: a folder may be shared by several."""
    socket: str
    """The path of its unix socket, empty where there is none."""
    host: str
    port: int
    """Of its TCP listener, 0 where there is none."""
    version: str
    """Of the package."""

    @property
    def here(self) -> bool:
        """It runs on this machine, or did."""
        return self.machine == machine()

    @property
    def alive(self) -> bool:
        """Its process lives, or in another container somebody listens at its socket. Holds for hubs of this machine."""
        return _is_listened_at(self.socket) if self.foreign else "" != started(self.pid) == self.started

    @property
    def foreign(self) -> bool:
        """It runs in another container of this machine, where numbers of processes mean others."""
        return self.started != "" and not self.started.endswith(_namespace())

    @property
    def gone(self) -> bool:
        """Its process has certainly ended. Holds for hubs of this machine."""
        return not self.alive and (not self.foreign or os.path.exists(self.socket))


def machine() -> str:
    """This machine's name."""
    return socket.gethostname()


def new_hub_id() -> str:
    return secrets.token_hex(8)


@cache
def package_version() -> str:
    """Of this package, as installed; "0" where it is not."""
    try:
        return version("pdum-rfb-widget")
    except PackageNotFoundError:
        return "0"


# Folders --------------------------------------------------------------------------------------------------------------


def folders() -> list[Path]:
    """Where hubs may have their files, the best first: a hub takes the first that it can use, readers look in all.

    ``PDUM_RFB_RUNTIME_DIR``; then ``pdum-rfb`` in ``JUPYTER_RUNTIME_DIR``, in Jupyter's own runtime folder, in
    ``XDG_RUNTIME_DIR``, and in the folder for temporary files with the user's number behind it.
    """
    found = [Path(own)] if (own := os.environ.get("PDUM_RFB_RUNTIME_DIR")) else []
    found += [Path(base) / "pdum-rfb" for base in _bases() if base]
    return list(dict.fromkeys([*found, Path(tempfile.gettempdir()) / f"pdum-rfb-{os.getuid() if _UNIX else 'hubs'}"]))


def _bases() -> Iterator[str | None]:
    yield os.environ.get("JUPYTER_RUNTIME_DIR")
    try:
        from jupyter_core.paths import jupyter_runtime_dir
    except ImportError:
        pass
    else:
        yield jupyter_runtime_dir()
    yield os.environ.get("XDG_RUNTIME_DIR")


def own_folder() -> Path:
    """The first of `folders` that can be made and is this user's alone. Raises `OSError` that says why none can."""
    reasons = []
    for folder in folders():
        made = not os.path.exists(folder)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_private(folder)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(f"{folder} can't be written to")
            return folder
        except OSError as error:
            reasons.append(str(error))
            if made:  # on a file system without modes
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if str(folder) == os.environ.get("PDUM_RFB_RUNTIME_DIR"):
                log.warning("PDUM_RFB_RUNTIME_DIR can't be used: %s", error)
    raise OSError(f"no folder for the hub's runtime file: {'; '.join(reasons)}")


def check_private(folder: Path) -> None:
    """Raise `PermissionError` unless *folder* is a folder, no link to one, and this user's alone."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} is no folder, or a link to one")
    if _UNIX and found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if _UNIX and found.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others: chmod 700 it, or name another by PDUM_RFB_RUNTIME_DIR")


def socket_paths(folder: Path, hub: str) -> Iterator[Path]:
    """Where the *hub* may listen, the best first: in *folder*, then in new private folders for temporary files.

    Each path is short enough. Ask for the next one only when the last was of no use: its folder goes then.
    """
    if len(os.fsencode(path := folder / f"{hub}.sock")) <= MAX_SOCKET_PATH:
        yield path
    for base in dict.fromkeys([tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"]):
        with contextlib.suppress(OSError):
            if base and len(os.fsencode(base)) + len(f"/{_SOCKET_FOLDER}12345678/hub.sock") <= MAX_SOCKET_PATH:
                made = Path(tempfile.mkdtemp(prefix=_SOCKET_FOLDER, dir=base))
                yield made / "hub.sock"
                made.rmdir()


# Files ----------------------------------------------------------------------------------------------------------------


def write(folder: Path, file: HubFile) -> Path:
    """Put *file* into *folder* at once and whole, or instead of the one there; its path."""
    path = folder / f"{file.hub}.json"
    fresh = path.with_suffix(f".{secrets.token_hex(4)}.new")
    # 0600 from its first moment, and never through a link that somebody left there.
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as out:
            json.dump(asdict(file), out)
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return path


def find(hub: str) -> HubFile | None:
    """What the file of the *hub* says, whether it lives or not; None when this user has no such file."""
    if not HUB_ID.fullmatch(hub):
        return None
    for folder in folders():
        if found := _read(folder / f"{hub}.json"):
            return found
    return None


def forget(file: HubFile) -> None:
    """Remove what the hub left: its socket and its file."""
    if file.socket:
        path = Path(file.socket)
        with contextlib.suppress(OSError):
            path.unlink()
        if path.parent.name.startswith(_SOCKET_FOLDER):
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    for folder in folders():
        with contextlib.suppress(OSError):
            (folder / f"{file.hub}.json").unlink()


def sweep() -> None:
    """Remove what hubs of this machine left that are gone, as a kill or a crash leaves it."""
    for folder in folders():
        with contextlib.suppress(OSError):  # a name that is too long for a file system
            for path in folder.glob("*.json"):
                found = _read(path)
                if found and found.here and found.gone:
                    forget(found)


def _read(path: Path) -> HubFile | None:
    """The file, or None unless it is this user's alone, in a folder that is so, and holds what it should."""
    try:
        check_private(path.parent)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if _UNIX and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
                return None
            said = json.loads(file.read(_MAX_FILE))
        names = {field.name: int if field.type == "int" else str for field in fields(HubFile)}
        if any(type(said[name]) is not kind for name, kind in names.items()) or said["hub"] != path.stem:
            return None
        return HubFile(**{name: said[name] for name in names})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def redirect(folder: Path, name: str, url: str) -> Path:
    """A page in *folder*, for this user alone, that leads to *url*."""
    path = folder / f"{name}.html"
    target = json.dumps(url).replace("<", "\\u003c")
    text = f"<!doctype html><meta charset=utf-8><title>Opening</title><script>location.replace({target})</script>"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


# Processes ------------------------------------------------------------------------------------------------------------


def started(pid: int) -> str:
    """When the process *pid* of this machine started, in words that only compare; empty when there is none."""
    if sys.platform == "linux":
        try:
            fields_of_stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return ""
        # proc(5): the state, and the 22nd field, the start in ticks since the boot; a zombie answers nobody.
        return "" if fields_of_stat[0] in b"ZX" else f"{_boot()}-{int(fields_of_stat[19])}{_namespace()}"
    if sys.platform == "win32":
        return _started_on_windows(pid)
    listed = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True
    )
    return listed.stdout.strip()


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


@cache
def _namespace() -> str:
    """The namespace that numbers of processes hold in, where there are several, as with containers."""
    try:
        return f"@{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _is_listened_at(path: str) -> bool:
    if not path:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError as error:
            return isinstance(error, BlockingIOError)  # too many wait already
        return True


if sys.platform == "win32":

    def _started_on_windows(pid: int) -> str:
        import ctypes
        from ctypes import wintypes

        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.OpenProcess.restype = wintypes.HANDLE
        query_limited, still_active = 0x1000, 259
        if not (process := kernel32.OpenProcess(query_limited, False, pid)):
            return ""
        try:
            handle, code = wintypes.HANDLE(process), wintypes.DWORD()
            times = [wintypes.FILETIME() for _ in range(4)]
            kernel32.GetExitCodeProcess(handle, ctypes.byref(code))
            if code.value != still_active or not kernel32.GetProcessTimes(handle, *map(ctypes.byref, times)):
                return ""
            return f"{times[0].dwHighDateTime:x}{times[0].dwLowDateTime:08x}"
        finally:
            kernel32.CloseHandle(wintypes.HANDLE(process))

else:

    def _started_on_windows(pid: int) -> str:
        raise NotImplementedError
