"""The files by which hubs are found: whose they are, when they count, and when they go."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hosts import wait_for
from inside import hub_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hosts import discovery, hub_proxy
from pdum_rfb_widget._hub import listeners

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and sockets of POSIX")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that there is for runtime files."""
    monkeypatch.setenv("PDUM_RFB_RUNTIME_DIR", str(tmp_path / "rfb"))
    for name in ("JUPYTER_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "jupyter_core.paths", None)  # as if it were not installed
    monkeypatch.setattr(discovery.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / "rfb"


def some_file(**known: object) -> discovery.HubFile:
    pid = os.getpid()
    fields = dict(hub="0123456789abcdef", pid=pid, started=discovery.started(pid), machine=discovery.machine())
    return discovery.HubFile(**fields | dict(socket="", host="127.0.0.1", port=1, version="1") | known)  # type: ignore[arg-type]


def test_a_hub_leaves_a_file_for_this_user_alone_and_takes_it_away(folder: Path) -> None:
    server = rfb.serve(8, 8, port=0).server
    path = folder / f"{server.hub_id}.json"
    said = json.loads(path.read_text())
    assert said["pid"] == os.getpid()
    assert (said["host"], said["port"]) == ("127.0.0.1", server.port)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert not {server.token, hub_of(server).hub_key} & {str(value) for value in said.values()}
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(said["socket"])
    server.close()
    assert not list(folder.iterdir())


def test_a_process_that_ends_takes_its_file_away(folder: Path) -> None:
    code = "import pdum_rfb_widget as rfb; rfb.serve(8, 8, tcp=False)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True, timeout=300)
    assert not list(folder.iterdir())


def test_a_forked_child_leaves_its_parents_file_alone(folder: Path) -> None:
    code = """
import os, warnings
import pdum_rfb_widget as rfb
warnings.simplefilter("ignore")
parents = rfb.serve(8, 8, tcp=False).server
if (child := os.fork()) == 0:
    own = rfb.serve(8, 8, tcp=False).server
    print(own.hub_id != parents.hub_id, flush=True)
    parents.close()
    own.close()
    os._exit(0)
os.waitpid(child, 0)
from pdum_rfb_widget._hosts import discovery
print(discovery.find(parents.hub_id) is not None, len(list(discovery.own_folder().glob("*.json"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        check=True,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "True", "1"]


def test_what_a_dead_hub_left_goes_when_the_next_starts(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    sock = folder / "dead.sock"
    sock.touch()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    discovery.write(folder, some_file(pid=process.pid, started="then", socket=str(sock)))
    discovery.write(folder, some_file(hub="f" * 16, machine="another", pid=process.pid))
    server = rfb.serve(8, 8, tcp=False).server
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{server.hub_id}.json", f"{server.hub_id}.sock", "ffffffffffffffff.json"}


def test_a_number_that_another_process_has_now_counts_as_dead() -> None:
    assert some_file().alive
    assert not replace(some_file(), started="long ago").alive
    assert not replace(some_file(), pid=2**22 + 1, started="").alive


@pytest.mark.parametrize("fault", ["link", "mode", "kind"])
def test_a_folder_that_others_could_reach_is_refused_in_words_and_not_used(
    folder: Path, fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if fault == "link":
        (tmp_path / "real").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "real")
    elif fault == "mode":
        folder.mkdir()
        folder.chmod(0o755)
    else:
        folder.touch()
    found = discovery.own_folder()
    assert found == tmp_path / f"pdum-rfb-{os.getuid()}"
    assert "PDUM_RFB_RUNTIME_DIR can't be used" in caplog.text


def test_a_hub_starts_without_any_folder_and_says_that_only_tcp_leads_to_it(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for blocked in (folder, tmp_path / f"pdum-rfb-{os.getuid()}"):
        blocked.touch()
    display = rfb.serve(8, 8, port=0)
    assert display.port
    assert "only its TCP port can" in caplog.text
    with pytest.raises(RuntimeError, match="it has no unix socket"):
        rfb.serve(8, 8, tcp=False)


def test_a_long_path_moves_the_socket_to_a_short_private_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDUM_RFB_RUNTIME_DIR", str(folder / ("long" * 25)))
    server = rfb.serve(8, 8, tcp=False).server
    found = discovery.find(server.hub_id)
    assert found
    path = Path(found.socket)
    assert len(os.fsencode(path)) <= discovery.MAX_SOCKET_PATH
    assert path.parent.stat().st_mode & 0o777 == 0o700
    server.close()
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["r" * 60, "é" * 60, "r" * 300], ids=["fits", "not ASCII", "too long for a name"])
def test_a_runtime_folder_of_any_length_gives_a_hub_that_the_route_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.delenv("PDUM_RFB_RUNTIME_DIR")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder.parent / name))
    hub = rfb.serve(8, 8, tcp=False).server
    assert hub_proxy.look_up(hub.hub_id, "default").hub == hub.hub_id
    assert not caplog.records


@pytest.mark.parametrize("length", [0, 120], ids=["short", "long"])
def test_a_folder_without_unix_sockets_leaves_the_socket_to_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    """*length*: of the folder for temporary files, in which then is no short enough path either."""
    temporary = folder.parent / "t".ljust(length, "t")
    temporary.mkdir()
    monkeypatch.setattr(discovery.tempfile, "gettempdir", lambda: str(temporary))
    listen = listeners.listen_on_socket

    async def refuse(welcome: object, path: str, **settings: object) -> object:
        if Path(path).parent == folder:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return await listen(welcome, path, **settings)

    monkeypatch.setattr(listeners, "listen_on_socket", refuse)
    display = rfb.serve(8, 8, tcp=False)
    hub = display.server
    found = discovery.find(hub.hub_id)
    assert found
    assert display.status()["unix_socket"]
    assert found.alive
    path = Path(found.socket)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not caplog.records
    hub.close()
    assert not path.parent.exists()
    assert not [*folder.iterdir(), *temporary.iterdir()]


def test_where_no_place_takes_a_socket_the_warning_says_what_to_do_and_no_folder_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Path] = []

    async def refuse(welcome: object, path: str, **settings: object) -> None:
        made.append(Path(path).parent)
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(listeners, "listen_on_socket", refuse)
    hub = rfb.serve(8, 8, port=0).server
    assert [record.message for record in caplog.records] == [caplog.records[0].message]
    assert "Set PDUM_RFB_RUNTIME_DIR to a folder" in caplog.text
    assert len(made) > 1
    assert [path.exists() for path in made] == [True] + [False] * (len(made) - 1)
    assert [path.name for path in folder.iterdir()] == [f"{hub.hub_id}.json"]
    with pytest.raises(RuntimeError, match="Set PDUM_RFB_RUNTIME_DIR"):
        rfb.serve(8, 8, tcp=False)


def test_a_folder_on_a_file_system_without_modes_is_passed_over_and_not_left_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check = discovery.check_private

    def modeless(tried: Path) -> None:
        if tried == folder:
            tried.chmod(0o777)
        check(tried)

    monkeypatch.setattr(discovery, "check_private", modeless)
    assert discovery.own_folder() == tmp_path / f"pdum-rfb-{os.getuid()}"
    assert not folder.exists()


SIGHT = """
import sys, threading
import pdum_rfb_widget as rfb
display = rfb.serve(8, 8, tcp=False)
print(display.server.hub_id, display.status()["unix_socket"], flush=True)
sys.stdin.read()
"""


def in_a_container(code: str) -> subprocess.Popen[str]:
    """The code in a namespace of processes of its own, as in a container with this machine's network and home."""
    command = [*("unshare", "-Urpf", "--mount-proc", "--kill-child"), sys.executable, "-c", code]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=Path(__file__).parent.parent, **pipes)  # type: ignore[call-overload]


def has_namespaces() -> bool:
    command = ["unshare", "-Urpf", "--mount-proc", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="no namespaces without more rights")
def test_a_hub_in_another_container_keeps_its_files_while_it_lives(folder: Path) -> None:
    with in_a_container(SIGHT) as first, in_a_container(SIGHT) as second:
        assert first.stdout
        assert second.stdout
        hubs = [process.stdout.readline().split()[0] for process in (first, second)]
        own = rfb.serve(8, 8, tcp=False).server
        assert {path.stem for path in folder.glob("*.json")} == {*hubs, own.hub_id}
        assert [hub_proxy.look_up(hub, "default").hub for hub in hubs] == hubs
        first.kill()

        def swept() -> bool:
            discovery.sweep()
            return {path.stem for path in folder.glob("*.json")} == {hubs[1], own.hub_id}

        wait_for(swept, "the file of the hub that was killed to go")
        second.communicate()


def test_a_hub_in_a_container_whose_socket_is_not_reached_is_said_and_kept(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(mode=0o700)
    there = some_file(started="then@1", socket=str(tmp_path / "only-there" / "hub.sock"))
    discovery.write(folder, there)
    if os.path.exists("/proc/self/ns/pid"):
        with pytest.raises(hub_proxy.Refusal, match=r"another container.*PDUM_RFB_RUNTIME_DIR"):
            hub_proxy.look_up(there.hub, "default")
        assert discovery.find(there.hub) == there


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hub": 1}', "{", "x" * 5000])
def test_a_file_that_holds_something_else_is_no_hub(folder: Path, text: str) -> None:
    folder.mkdir(mode=0o700)
    path = folder / "0123456789abcdef.json"
    path.write_text(text)
    path.chmod(0o600)
    assert discovery.find("0123456789abcdef") is None
    discovery.sweep()


@pytest.mark.parametrize("hub", ["", "../../etc/passwd", "0123456789ABCDEF", "0123456789abcdef0", "0123456789abcdef\n"])
def test_only_ids_name_files(folder: Path, hub: str) -> None:
    assert discovery.find(hub) is None


def test_no_port_is_opened_where_none_is_wanted(folder: Path) -> None:
    display = rfb.serve(8, 8, tcp=False)
    assert display.server.port == 0
    assert display.widget().port == 0
    for address in ("port", "ws_url", "url"):
        with pytest.raises(RuntimeError, match="tcp=False"):
            getattr(display, address)
    with pytest.raises(ValueError, match="asks for one"):
        rfb.serve(8, 8, tcp=False, port=8765)
    assert rfb.serve(8, 8, port=0).port == display.port != 0


def test_what_servers_import_to_lead_pages_here_is_light() -> None:
    heavy = ("numpy", "PIL", "websockets", "anywidget", "av", "pdum_rfb_widget.server")
    code = (
        f"import sys, pdum_rfb_widget.jupyter, pdum_rfb_widget.marimo; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"


def test_the_main_path_imports_no_notebook_server() -> None:
    code = (
        "import sys, pdum_rfb_widget as rfb; rfb.serve(8, 8, port=0).widget();"
        "print([m for m in ('tornado', 'jupyter_server', 'marimo', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"
