"""Discovery of this user's hubs: one small file per hub, in a folder that only this user can open.

A hub writes its file, and the hub proxies (`jupyter`, `marimo`) read it. Both import this module, so it is light. A
page can only choose among these files by a hub's id.
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
"""The header in which a hub proxy sends the address of the page; trusted on the unix socket only."""

NO_PROCESS = (
    "Python in a browser's page (Pyodide, JupyterLite, marimo's WebAssembly notebooks) has no threads and no ports, so "
    "nothing can be served from there: run the notebook in Jupyter or marimo with a Python process"
)

MAX_SOCKET_PATH = 103
"""Longest path of a unix socket that every system accepts, in bytes: Linux 107, macOS 103."""

_MAX_FILE = 4096
_SOCKET_FOLDER = "pdum-rfb-"
_UNIX = os.name == "posix"


@dataclass(frozen=True, slots=True)
class HubFile:
    """The content of a hub's file. It holds no secret."""

    hub: str
    """Id of the hub, 16 hex digits."""
    pid: int
    started: str
    """Start time of the process, as the system states it: distinguishes processes that reuse a number."""
    machine: str
    """Name of the machine that the hub runs on: several machines may share the folder."""
    socket: str
    """Path of its unix socket; empty if there is none."""
    host: str
    port: int
    """Port of its TCP listener; 0 if there is none."""
    version: str
    """Version of the package."""

    @property
    def here(self) -> bool:
        """True if it runs, or ran, on this machine."""
        return self.machine == machine()

    @property
    def alive(self) -> bool:
        """True if its process runs, or for another container, its socket accepts connections. Valid for hubs of this
        machine."""
        return _is_listened_at(self.socket) if self.foreign else "" != started(self.pid) == self.started

    @property
    def foreign(self) -> bool:
        """True if it runs in another container of this machine, whose process numbers have no meaning here."""
        return self.started != "" and not self.started.endswith(_namespace())

    @property
    def gone(self) -> bool:
        """True if its process has certainly ended. Valid for hubs of this machine."""
        return not self.alive and (not self.foreign or os.path.exists(self.socket))


def machine() -> str:
    """Name of this machine."""
    return socket.gethostname()


def new_hub_id() -> str:
    return secrets.token_hex(8)


@cache
def package_version() -> str:
    """Version of this package as installed; "0" if it is not."""
    try:
        return version("pdum-rfb-widget")
    except PackageNotFoundError:
        return "0"


# Folders --------------------------------------------------------------------------------------------------------------


def folders() -> list[Path]:
    """The folders for hub files, best first: a hub uses the first that it can, readers search all.

    ``PDUM_RFB_RUNTIME_DIR``; then ``pdum-rfb`` in ``JUPYTER_RUNTIME_DIR``, in Jupyter's own runtime folder, in
    ``XDG_RUNTIME_DIR``, and in the folder for temporary files with the user's number appended.
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
    """The first of `folders` that can be created and is private to this user. Raises `OSError` with the reasons if
    there is none."""
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
    """Raise `PermissionError` unless *folder* is a real folder, not a link, and private to this user."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} is no folder, or a link to one")
    if _UNIX and found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if _UNIX and found.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others: chmod 700 it, or name another by PDUM_RFB_RUNTIME_DIR")


def socket_paths(folder: Path, hub: str) -> Iterator[Path]:
    """The socket paths for *hub*, best first: in *folder*, then in new private folders for temporary files.

    Each path is short enough. Ask for the next one only if the last is unusable: its folder is then deleted.
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
    """Write *file* into *folder* atomically, replacing an earlier one. Returns its path."""
    path = folder / f"{file.hub}.json"
    fresh = path.with_suffix(f".{secrets.token_hex(4)}.new")
    # Mode 0600 from the start, and never through a link that someone left there.
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
    """The content of the *hub*'s file, whether or not the hub still runs; None if this user has no such file."""
    if not HUB_ID.fullmatch(hub):
        return None
    for folder in folders():
        if found := _read(folder / f"{hub}.json"):
            return found
    return None


def forget(file: HubFile) -> None:
    """Delete the hub's socket and its file."""
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
    """Delete the files of this machine's hubs that were killed or crashed."""
    for folder in folders():
        with contextlib.suppress(OSError):  # a name that is too long for a file system
            for path in folder.glob("*.json"):
                found = _read(path)
                if found and found.here and found.gone:
                    forget(found)


def _read(path: Path) -> HubFile | None:
    """The content of a file; None unless file and folder are private to this user and the content is valid."""
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
    """Write a page into *folder*, private to this user, that redirects to *url*."""
    path = folder / f"{name}.html"
    target = json.dumps(url).replace("<", "\\u003c")
    text = f"<!doctype html><meta charset=utf-8><title>Opening</title><script>location.replace({target})</script>"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


# Processes ------------------------------------------------------------------------------------------------------------


def started(pid: int) -> str:
    """Start time of the process *pid* of this machine, as text that is only good for comparison; empty if there is no
    such process."""
    if sys.platform == "linux":
        try:
            fields_of_stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return ""
        # proc(5): the state, and as 22nd field the start in ticks since the boot; a zombie counts as ended.
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
    """The namespace of process numbers; containers have one each."""
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
            return isinstance(error, BlockingIOError)  # its queue of connections is full
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
