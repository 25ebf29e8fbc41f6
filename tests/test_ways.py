"""How a page finds its hub: which way wins, who is told the token, what is said when none leads there, coming back."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hosts import error_of, free_port, wait_for
from inside import hub_of
from pages import notice, numbered, texture, wait_until_notice
from playwright.sync_api import Page
from sites import LEAD, NOT_FOUND, SILENCE, Answer, Site, traits_of
from viewers import page_says
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

import pdum_rfb_widget as rfb
from pdum_rfb_widget.notebook import RfbCanvas, kernel_base

PIXELS = texture(48, 64, 3)


def site_of(display: rfb.Display, rule: Any = lambda _: NOT_FOUND, **traits: Any) -> Site:
    display.publish(PIXELS)
    return Site(traits_of(display, **traits), rule, display.port)


def wait_for_picture(page: Page, inside: str = "#one", pixels: Any = PIXELS) -> None:
    canvas = page.locator(f"{inside} .rfb-canvas")
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")


def tries(page: Page) -> dict[str, str]:
    """What came of each way at last, by its name; once the kernel was told."""
    told = page.evaluate("kernel.traits.diagnosis")
    return {tried["way"]: tried["outcome"] for tried in told}


def wait_for_outcome(page: Page, way: str, pattern: str) -> dict[str, str]:
    wait_for(lambda: re.search(pattern, tries(page).get(way, "")), f"{way}: {pattern}")
    return tries(page)


def routes(path: str) -> Answer:
    return LEAD if "/pdum-rfb/" in path else NOT_FOUND


def proxies(path: str) -> Answer:
    return LEAD if "/proxy/" in path else NOT_FOUND


# Which way wins -------------------------------------------------------------------------------------------------------


def test_a_local_page_takes_the_hubs_own_port_once_it_has_proved_itself(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page, "127.0.0.1")
        wait_for_picture(page)
        wait_for_outcome(page, "direct", r"^proved, first picture after \d+ ms$")
        assert site.paths == [], "and tried nothing else"


def test_a_page_from_elsewhere_goes_through_its_own_server(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        assert list(wait_for_outcome(page, "route", r"^answered, first picture")) == ["route"]
        assert site.paths == [f"/base/pdum-rfb/{display.server.hub_id}/default"]


def test_without_our_extension_a_proxy_leads_to_a_hub_that_proves_itself(page: Page, display: rfb.Display) -> None:
    with site_of(display, proxies) as site:
        site.show(page)
        wait_for_picture(page)
        assert wait_for_outcome(page, "proxy", "^proved, first picture")["route"] == "no connection"


def test_the_pages_token_opens_the_route_and_is_not_told_to_anyone(page: Page, display: rfb.Display) -> None:
    def guarded(path: str) -> Answer:
        return LEAD if "token=secret" in path else (403, "text/plain", "log in to this server first")

    with site_of(display, guarded) as site:
        site.show(page, query="?token=secret")
        wait_for_picture(page)
        wait_for_outcome(page, "token", "^answered, first picture")
        assert "secret" not in json.dumps(page.evaluate("[kernel.told, kernel.traits]"))


def test_a_way_that_is_silent_is_overtaken_and_left(page: Page, display: rfb.Display) -> None:
    def slow(path: str) -> Answer:
        return SILENCE if "/pdum-rfb/" in path else LEAD

    with site_of(display, slow) as site:
        site.show(page)
        wait_for_picture(page)
        assert wait_for_outcome(page, "proxy", "^proved")["route"] == "another way was faster"
        wait_for(lambda: site.open == 1, "the other connection to end")
        assert display.client_count == 1


def test_where_the_browser_refuses_the_hubs_port_the_servers_route_is_taken(page: Page, display: rfb.Display) -> None:
    refusal = 'throw new DOMException("The operation is insecure.", "SecurityError")'
    refuse = f"constructor(url) {{ if (url.includes(':{display.port}/')) {refusal}; super(url); }}"
    page.add_init_script(f"window.WebSocket = class extends WebSocket {{ {refuse} }}")
    with site_of(display, routes, main_thread_present=True) as site:
        site.show(page, "127.0.0.1")
        wait_for_picture(page)
        told = wait_for_outcome(page, "route", "^answered, first picture")
        assert told["direct"] == "not allowed here: The operation is insecure."
        assert not page.locator(".rfb-notice").is_visible()


def test_where_the_hubs_port_never_answers_the_servers_route_is_taken(page: Page, display: rfb.Display) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, site_of(display, routes, port=deaf.getsockname()[1]) as site:
        site.show(page, "127.0.0.1")
        wait_for_picture(page)
        told = wait_for_outcome(page, "route", "^answered, first picture")
        assert told["direct"] in ("another way was faster", "no answer in 5 s")
        assert not page.locator(".rfb-notice").is_visible()


def test_the_way_that_worked_is_the_first_of_the_next_view(page: Page, display: rfb.Display) -> None:
    with site_of(display, proxies) as site:
        site.show(page)
        wait_for_picture(page)
        site.paths.clear()
        page.evaluate("void render('two')")
        wait_for_picture(page, "#two")
        assert [path for path in site.paths if "/proxy/" not in path] == []


def test_a_hub_that_is_mounted_at_base_path_is_found(page: Page, display: rfb.Display) -> None:
    def mounted(path: str) -> Answer:
        return LEAD if path == "/mine/default" else NOT_FOUND

    with site_of(display, mounted, base_path="/mine") as site:
        site.show(page)
        wait_for_picture(page)
        wait_for_outcome(page, "path", "^proved")


def test_image_only_takes_no_video(page: Page) -> None:
    display = rfb.serve(64, 48, port=0, codec="h264")
    with site_of(display, image_only=True) as site:
        site.show(page, "127.0.0.1")
        wait_for_picture(page)
        (client,) = display.status()["clients"]
        assert (client["no_video"], client["codec"]) == ("image_only is set", None)


# Who is told the token ------------------------------------------------------------------------------------------------


@contextmanager
def impostor(*answers: str) -> Iterator[tuple[int, list[str]]]:
    """Who listens at the hub's port and isn't the hub; the port, and what it was told."""
    heard: list[str] = []

    def welcome(socket: ServerConnection) -> None:
        for text in socket:
            heard.append(str(text))
            for answer in answers:
                socket.send(answer)

    with serve_websocket(welcome, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.socket.getsockname()[1], heard
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    "answer",
    [
        '{"type":"proof","nonce":"00","mac":"00"}',
        '{"type":"config","transport":"image","width":8,"height":8}',
    ],
)
def test_who_does_not_prove_to_be_the_hub_is_not_told_the_token(page: Page, display: rfb.Display, answer: str) -> None:
    with impostor(answer) as (port, heard), site_of(display, port=port) as site:
        site.show(page, "127.0.0.1")
        wait_until_notice(page, "Another hub answers in its place.")
        assert "can't prove itself" in tries(page)["direct"]
        assert heard
        for text in heard:
            assert "token" not in json.loads(text)
            assert display.server.token not in text


def test_another_hub_on_the_route_is_not_shown(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes, hub_id="0" * 16) as site:
        site.show(page)
        wait_for_outcome(page, "route", "another hub answered")
        wait_for(lambda: display.client_count == 0, "no viewer")


def test_the_models_secrets_are_blanked_and_every_view_has_them(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        assert page.evaluate("[kernel.traits.token, kernel.traits.hub_key]") == ["", ""]
        page.evaluate("void render('two')")
        wait_for_picture(page, "#two")
        assert page.evaluate("kernel.told") == [], "in marimo that would run cells"
        assert page.evaluate("kernel.sent") == []


def test_a_reloaded_page_asks_the_kernel_for_the_secrets(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.traits |= {"token": "", "hub_key": ""}
        site.show(page)
        wait_until_notice(page, "Waiting for the kernel to say where the picture is")
        assert page.evaluate("kernel.sent") == [{"type": "where"}]
        page.evaluate("(said) => kernel.say(said)", answer_of(display.widget()))
        wait_for_picture(page)
        assert not page.locator(".rfb-notice").is_visible()


def answer_of(widget: RfbCanvas) -> dict[str, str]:
    said: list[dict[str, str]] = []
    widget.send = lambda content, buffers=None: said.append(content)
    page_says(widget, type="where")
    (answer,) = said
    return answer


def test_the_kernel_keeps_the_secrets_that_the_page_has_blanked(display: rfb.Display) -> None:
    widget = display.widget()
    widget.set_state({"token": "", "hub_key": ""})
    server = display.server
    assert (widget.token, widget.hub_key) == (server.token, hub_of(server).hub_key)
    assert widget.get_state()["token"] == widget.get_state()["hub_key"] == ""
    assert answer_of(widget) == {"type": "where", "token": server.token, "hub_key": hub_of(server).hub_key}


# What is said when none leads there -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ((403, "text/plain", "log in to this server first"), "Log in again, in another tab."),
        ((302, "text/html", ""), "Log in again, in another tab."),
        ((404, "text/plain", "this user has no such hub"), "doesn't know this kernel's hub"),
        ((502, "text/plain", "the kernel runs on a, this server on b: no way leads there"), "forward port"),
        ((502, "text/plain", "the process of this hub has ended"), "run the cell again"),
        ((426, "text/plain", "a proxy on the way has dropped it"), "have it forward the headers Upgrade"),
        ((200, "text/html", "<p>a page"), "have it forward the headers Upgrade"),
        (NOT_FOUND, "pip install pdum-rfb-widget"),
    ],
)
def test_a_server_that_does_not_lead_to_the_hub_is_said(
    page: Page, display: rfb.Display, route: Answer, words: str
) -> None:
    def refuse(path: str) -> Answer:
        return route if "/pdum-rfb/" in path else NOT_FOUND

    with site_of(display, refuse) as site:
        site.show(page)
        wait_for(lambda: words.lower() in page.locator(".rfb-words").inner_text().lower(), words)
        wait_for(lambda: page.evaluate("kernel.traits.last_error.toLowerCase()").find(words.lower()) >= 0, "the trait")


@pytest.mark.parametrize("proxy", ["refuses", "is silent"])
def test_colab_is_told_that_its_proxy_is_no_way_and_its_proxy_is_asked_once(
    page: Page, display: rfb.Display, proxy: str
) -> None:
    with site_of(display) as site, socket.create_server(("127.0.0.1", 0)) as deaf:
        port = site.port if proxy == "refuses" else deaf.getsockname()[1]
        address = f"Promise.resolve('http://127.0.0.1:{port}/')"
        page.add_init_script(f"window.google = {{ colab: {{ kernel: {{ proxyPort: () => {address} }} }} }};")
        site.show(page)
        wait_until_notice(page, "Colab's proxy carries no WebSockets")
        assert "display.snapshot()" in page.locator(".rfb-words").inner_text()
        wait_for(lambda: page.evaluate("kernel.traits.state") == "failed", "the end of it")
        assert [try_["way"] for try_ in page.evaluate("kernel.traits.diagnosis")].count("colab") == 1


def test_a_port_that_nobody_forwards_is_named_and_taken_once_somebody_does(page: Page, display: rfb.Display) -> None:
    def knows_none(path: str) -> Answer:
        return (404, "text/plain", "no such hub on gate: run the notebook again") if "/pdum-rfb/" in path else NOT_FOUND

    port = free_port()
    with site_of(display, knows_none, port=port, machine="faraway") as site:
        site.show(page, "127.0.0.1")
        words = wait_until_notice(page, "The kernel runs on faraway, and this page's server on gate")
        assert f"Forward port {port} of faraway to this computer" in words
        assert f"url='ws://127.0.0.1:{port}/default'" in words
        rfb.serve_server(port=port)
        wait_for_picture(page)


def test_an_address_that_is_none_is_said(page: Page, display: rfb.Display) -> None:
    with site_of(display, url="ws://[nowhere/default") as site:
        site.show(page)
        assert "ws://[nowhere/default is no address." in notice(page)


def test_a_wrong_token_is_said(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes, token="wrong") as site:
        site.show(page)
        assert "run the cell again" in wait_until_notice(page, "refused the token")


def test_a_page_without_a_way_is_said(page: Page, display: rfb.Display) -> None:
    with site_of(display, port=0, hub_id="") as site:
        site.show(page)
        assert "url=" in wait_until_notice(page, "knows no way to the kernel")


def test_a_url_behind_a_proxy_that_strips_upgrade_is_said(page: Page, display: rfb.Display) -> None:
    with site_of(display, lambda _: (400, "text/plain", "no"), url="/hub/default") as site:
        site.show(page)
        assert "Upgrade" in wait_until_notice(page, "opens no WebSocket: it answered 400")


def test_an_old_bundle_is_shown_and_told_of(page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdum_rfb_widget._hosts.discovery.package_version", lambda: "99.0")
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        assert "and the hub 99.0: save the notebook and reload the page" in page.locator(".rfb-status").inner_text()


def test_a_page_without_webcodecs_shows_pictures_and_says_so(page: Page, display: rfb.Display) -> None:
    page.add_init_script("delete window.VideoDecoder")
    with site_of(display, routes, main_thread_present=True, show_stats=True) as site:
        site.show(page)
        wait_for_picture(page)
        display.publish(numbered(1, 64, 48))
        wait_for(lambda: "no WebCodecs" in page.locator(".rfb-stats").inner_text(), "the figures to say so")


def test_figures_reach_the_kernel_once_a_second_where_they_are_asked_for(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        page.evaluate("void kernel.change({ sync_stats: true })")
        wait_for(lambda: page.evaluate("kernel.told.length") >= 2, "figures")
        told = page.evaluate("kernel.told")
        assert list(told[-1]) == ["stats"], "all else would run cells in marimo"
        assert {"fps", "decodeMs", "roundTripMs", "format"} <= told[-1]["stats"].keys()


def test_a_policy_that_forbids_workers_is_in_the_diagnosis(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.headers = "Content-Security-Policy: worker-src 'none'\r\n"
        site.show(page)
        wait_for_picture(page)
        assert "the page's own thread" in wait_for_outcome(page, "route", "first picture")["worker"]
        page.locator("#one").hover()
        page.get_by_role("button", name="Connection").click()
        assert "add 'worker-src blob:' to its Content-Security-Policy" in page.locator(".rfb-list").inner_text()


def test_what_was_tried_is_shown_on_demand(page: Page, display: rfb.Display) -> None:
    with site_of(display, proxies) as site:
        site.show(page)
        wait_for_outcome(page, "proxy", "first picture")
        assert not page.locator(".rfb-notice").is_visible()
        page.locator("#one").hover()
        page.get_by_role("button", name="Connection").click()
        listed = page.locator(".rfb-list").inner_text()
        assert re.search(rf"route ws://127.0.0.2:{site.port}/base/pdum-rfb/\w+/default: no connection", listed)
        assert re.search(r"proxy ws://.*: proved, first picture after \d+ ms", listed)
        page.get_by_role("button", name="Connection").click()
        assert not page.locator(".rfb-notice").is_visible()


def test_diagnose_gives_what_the_page_said_last(display: rfb.Display) -> None:
    widget = display.widget()
    assert widget.diagnose() == []
    tried = {"way": "direct", "url": "ws://127.0.0.1:1/x", "started": 1, "ended": None, "outcome": "proved"}
    widget.set_state({"diagnosis": [tried]})
    assert widget.diagnose() == [tried]


def test_the_kernel_knows_the_base_of_the_server_that_started_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "77")
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    assert kernel_base() == ""
    (tmp_path / "jpserver-77.json").write_text('{"base_url": "/lab/"}')
    assert kernel_base() == "/lab/"
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/a/")
    assert kernel_base() == "/user/a/"


# Posters ------------------------------------------------------------------------------------------------------------


def test_a_view_hides_the_poster_of_its_own_notebook_and_none_in_a_copy_beside_it(
    page: Page, display: rfb.Display
) -> None:
    with site_of(display, routes) as site:
        poster = site.traits["poster"]
        site.show(page)
        page.evaluate(
            """(name) => {
                for (const id of ["one", "two"]) {
                    const notebook = document.createElement("div");
                    notebook.className = "jp-MainAreaWidget";
                    const cell = document.getElementById(id);
                    cell.replaceWith(notebook);
                    notebook.innerHTML = `<div class="jp-OutputArea-child"><div class="${name}">poster</div></div>`;
                    notebook.append(cell);
                }
                cleanup();
                window.cleanup = render("one");
            }""",
            poster,
        )
        wait_for_picture(page)
        posters = page.locator(f".{poster}")
        wait_for(lambda: not posters.first.is_visible(), "the poster to hide")
        assert posters.last.is_visible()
        page.evaluate("void render('two')")
        wait_for(lambda: not posters.last.is_visible(), "the copy's too, once it has a view of its own")
        page.evaluate("cleanup()")
        assert posters.first.is_visible()
        assert not posters.last.is_visible()


# Coming back ----------------------------------------------------------------------------------------------------------


def test_a_restarted_kernel_is_said_and_its_new_hub_is_shown(page: Page, display: rfb.Display) -> None:
    with site_of(display) as site:
        site.show(page, "127.0.0.1")
        wait_for_picture(page)
        display.server.close()
        wait_until_notice(page, "The kernel was restarted or has ended: run the cell again.")
        again = rfb.serve(64, 48, port=0)
        again.publish(numbered(2, 64, 48))
        page.evaluate("(traits) => kernel.change(traits)", traits_of(again))
        wait_for_picture(page, pixels=numbered(2, 64, 48))
        assert page.evaluate("kernel.traits.token") == ""


def test_a_proxy_that_was_away_leads_to_the_newest_frame_again(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        site.rule = lambda _: (503, "text/html", "down")
        site.cut()
        wait_until_notice(page, "The hub is gone.")
        display.publish(numbered(3, 64, 48))
        site.rule = routes
        wait_for_picture(page, pixels=numbered(3, 64, 48))
        wait_for(lambda: display.client_count == 1, "one viewer")


def test_a_page_that_wakes_up_does_not_wait_for_its_next_attempt(page: Page, display: rfb.Display) -> None:
    page.clock.install()
    with site_of(display, routes, main_thread_present=True) as site:
        site.show(page)
        wait_for_picture(page)
        page.clock.pause_at(page.evaluate("Date.now() + 1000"))
        tried = len(site.paths)
        site.cut()
        wait_for(lambda: page.evaluate("kernel.traits.state") == "reconnecting", "the loss to be noticed")
        assert len(site.paths) == tried, "the next attempt's time never comes"
        page.evaluate("dispatchEvent(new Event('online'))")
        wait_for(lambda: page.evaluate("kernel.traits.state") == "live", "the connection")


def test_a_connection_that_died_in_the_pages_sleep_is_replaced(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        site.deaf = True
        asked = len(site.paths)
        display.publish(numbered(4, 64, 48))

        def replaced() -> bool:
            page.evaluate("dispatchEvent(new Event('online'))")
            return len(site.paths) > asked

        wait_for(replaced, "another connection")
        site.deaf = False
        wait_for_picture(page, pixels=numbered(4, 64, 48))


def test_a_connection_that_outlived_the_pages_sleep_is_kept(page: Page, display: rfb.Display) -> None:
    def frames_sent() -> int:
        (client,) = display.status()["clients"]
        return int(client["frames_sent"])

    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        sent, tried = frames_sent(), len(site.paths)

        def asked() -> bool:
            page.evaluate("dispatchEvent(new Event('online'))")
            return frames_sent() > sent

        wait_for(asked, "the picture that was asked for")
        assert len(site.paths) == tried


def test_a_hundred_renders_leave_nothing_behind(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        wait_for_picture(page)
        listening = page.evaluate("listening()")
        page.evaluate(
            """async () => {
                for (let round = 0; round < 100; round++) {
                    const aborted = new AbortController();
                    const end = render("two", aborted.signal);
                    if (round % 4) await new Promise((resolve) => setTimeout(resolve, 5 * (round % 7)));
                    if (round % 2) end(); else aborted.abort();
                }
            }"""
        )
        assert page.locator("#two > *").count() == 0
        assert page.evaluate("listening()") == listening
        wait_for(lambda: display.client_count == 1, "the viewers to be gone")
        wait_for(lambda: site.open == 1, "the connections to be gone")
        wait_for(lambda: page.evaluate("true") and len(page.workers) == 1, "the workers to be gone")
        page.evaluate("void render('two')")
        wait_for_picture(page, "#two")


def test_a_view_rendered_again_into_the_same_element_is_not_blank(page: Page, display: rfb.Display) -> None:
    with site_of(display, routes) as site:
        site.show(page)
        for step in range(3):
            wait_for_picture(page)
            page.evaluate("cleanup(); window.cleanup = render('one'); void 0")
            display.publish(PIXELS if step % 2 else numbered(step, 64, 48))
            wait_for_picture(page, pixels=PIXELS if step % 2 else numbered(step, 64, 48))
            display.publish(PIXELS)
        wait_for(lambda: display.client_count == 1, "one viewer")


def test_nothing_listens_at_a_port_that_was_given_up(page: Page, display: rfb.Display) -> None:
    with site_of(display, port=free_port()) as site:
        site.show(page, "127.0.0.1")
        assert "server has no way to the kernel" in wait_until_notice(page, "no way to the kernel")
        assert tries(page)["direct"] == "no connection"
