"""In a browser the playground works with mouse and keyboard, and every notebook shows its pictures."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests import peers_needed
from tests.notebooks import executing, paths
from tests.notebooks.page import PYODIDE, build

pytestmark = pytest.mark.notebook

selenium = peers_needed.package("selenium.webdriver")
Keys = peers_needed.package("selenium.webdriver.common.keys").Keys
peers_needed.package("anywidget")

CROWDED = """
from rxauth.marbles import playground
playground("s--e", "(s)" + "-a" * 28 + "-|")
"""
_CHROMIUM = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1300,1100"),
]

# JupyterLab draws only the cells in view, and asks whether it may fetch news.
_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
}


@contextmanager
def chromium(directory: Path, *, dark: bool = False) -> Iterator[Any]:
    """A driver of Debian's Chromium with an empty profile."""
    options = selenium.ChromeOptions()
    options.binary_location = peers_needed.program("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*_CHROMIUM, f"--user-data-dir={directory}"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--blink-settings=preferredColorScheme=0")
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(peers_needed.program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """A server of the files in a folder; its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run_all(driver: Any, address: str, name: str) -> None:
    """Open a notebook and run all its cells."""
    driver.get(f"{address}/lab/tree/{name}?reset")
    until(lambda: driver.execute_script("return window.jupyterapp?.shell.currentWidget?.sessionContext != null"), 60)
    driver.set_script_timeout(110)
    problem = driver.execute_async_script(
        """
        const done = arguments[0];
        const { commands, shell } = window.jupyterapp;
        shell.currentWidget.sessionContext.ready
            .then(() => commands.execute('notebook:run-all-cells'))
            .then(() => done(null), (error) => done(String(error)));
        """
    )
    assert problem is None, problem


def until(holds: Callable[[], Any], seconds: float) -> Any:
    """Wait for something in another process, which has no event to wait for."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.05)
    return value


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab server on copies of the notebooks; its address."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    for path in paths():
        (folder / path.name).write_bytes(path.read_bytes())
    crowded = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CROWDED)], metadata=executing.METADATA)  # type: ignore[no-untyped-call]
    executing.write(crowded, folder / "crowded.ipynb")
    for name, values in _SETTINGS.items():
        path = home / "config/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {"HOME": "", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    env = {**os.environ, **{name: str(home / place) for name, place in places.items()}}
    options = [f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]
    options += ["--ip=127.0.0.1", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _listens(port), 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser(lab: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class Playground:
    """One of the widgets in the page."""

    def __init__(self, browser: Any, index: int = 0, seconds: float = 30) -> None:
        self.browser = browser
        until(lambda: len(browser.find_elements("css selector", ".rxm-play svg [data-event]")) > 1, seconds)
        self.root = browser.find_elements("css selector", ".rxm-play")[index]
        browser.execute_script("arguments[0].scrollIntoView()", self.root)
        self.settle()

    def find(self, selector: str) -> Any:
        return self.root.find_element("css selector", selector)

    def click(self, *selectors: str) -> None:
        for selector in selectors:
            self.find(selector).click()

    def tick(self, event: str) -> int:
        self.settle()
        return int(self.find(f'[data-event="{event}"]').get_attribute("data-tick"))

    def settle(self) -> None:
        """Wait until the page has been the same for a while: an element that is about to be replaced cannot be used."""
        seen: list[str] = []

        def same() -> bool:
            seen.append(self.root.get_attribute("innerHTML"))
            return len(seen) > 3 and len(set(seen[-3:])) == 1

        until(same, 10)

    def drag(self, event: str, pixels: int) -> None:
        self.settle()
        chain = selenium.ActionChains(self.browser, duration=50)
        chain = chain.click_and_hold(self.find(f'[data-event="{event}"]'))
        for _ in range(5):
            chain = chain.move_by_offset(pixels // 5, 0)
        chain.release().perform()

    def shows(self, words: str) -> None:
        until(lambda: words in self.find(".rxm-view").text, 10)

    def describes(self, words: str) -> bool:
        return words in self.find(".rxm-result desc").get_attribute("textContent")


@pytest.fixture
def playground(lab: str, browser: Any) -> Callable[[int], Playground]:
    run_all(browser, lab, "0_playground.ipynb")
    return lambda index: Playground(browser, index)


def test_the_phantom_can_be_made_to_go_away(playground: Callable[[int], Playground]) -> None:
    phantom = playground(0)
    phantom.shows("s----s---a---b---|: 2 starts, 1 of them a message that stays empty (the phantom)")
    phantom.click('[data-operator="bare_retry"]', '[data-operator="recover_auth"]')
    phantom.shows("The consumer sees ---------(sa)b---|.")


def test_an_event_is_dragged_with_the_mouse(playground: Callable[[int], Playground]) -> None:
    edge = playground(1)
    edge.drag("0.1", 100)
    moved = edge.tick("0.1") - 3
    assert moved > 0
    edge.shows(f"The consumer sees {'-' * (9 + moved)}(sa)b---|.")
    edge.drag("refresh", 60)
    moved += edge.tick("refresh") - 2
    edge.shows(f"The consumer sees {'-' * (9 + moved)}(sa)b---|.")


def test_an_event_is_changed_with_the_keyboard(playground: Callable[[int], Playground]) -> None:
    edge = playground(1)
    cells = "return document.querySelectorAll('.jp-Cell').length"
    before = edge.browser.execute_script(cells)
    edge.click('[data-event="0.1"]')
    edge.settle()
    for keys, seen in (
        ([Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT], "----------(sa)b---|"),
        (["x"], "----(sx|)"),
        (["t"], "----(sc)"),
        (["e", Keys.ARROW_LEFT], "---------(sa)b---|"),
        (["+"], "---------(sa)b---|"),
        ([Keys.ARROW_LEFT, Keys.ARROW_LEFT], "s@2 c@2 e@3"),
        ([Keys.DELETE], "---------(sa)b---|"),
    ):
        selenium.ActionChains(edge.browser).send_keys(*keys).perform()
        edge.shows(f"The consumer sees {seen}.")
        edge.settle()
    assert edge.browser.execute_script(cells) == before, "JupyterLab took no key for a command of its own"


def test_kinds_and_options_are_changed_with_the_mouse(playground: Callable[[int], Playground]) -> None:
    edge = playground(1)
    edge.click('[data-event="0.1"]', '[data-kind="exception"]')
    edge.shows("The consumer sees ---------(sa)b---|.")
    timeout = edge.find('[data-option="recover_auth.timeout"]')
    for value, words in (("-1", "timeout is -1; it must be more than 0 seconds"), ("1", "The consumer sees ----(s#).")):
        timeout.clear()
        timeout.send_keys(value, Keys.TAB)
        edge.shows(words)
    edge.click('[data-option="recover_auth.discard_on_error"]')
    edge.shows("The consumer sees ----#.")
    edge.click('[data-refresh="outcome"] option[value="#"]', '[data-add="1"]', "[data-remove]")
    parts = playground(3)
    assert parts.describes("retry_never_live")
    parts.click("[data-stages]")
    until(lambda: not parts.describes("retry_never_live"), 10)


def test_the_scene_can_be_taken_along(playground: Callable[[int], Playground]) -> None:
    edge = playground(1)
    edge.click('[data-take="row"]')
    row = edge.find(".rxm-taken").get_attribute("value")
    assert row.startswith('pytest.param("s--e", "--r|", "s---a---b---|", "---------(sa)b---|", ("^--!", "')
    edge.click('[data-take="snippet"]')
    exec(edge.find(".rxm-taken").get_attribute("value"), {})


def test_a_drag_of_thirty_events_is_redrawn_in_50_ms(lab: str, browser: Any) -> None:
    run_all(browser, lab, "crowded.ipynb")
    crowded = Playground(browser)
    assert len(crowded.root.find_elements("css selector", '.rxm-stage [data-event^="1."]')) == 30
    for _ in range(8):
        crowded.drag("1.15", -120)
        crowded.drag("1.15", 120)
    script = "return performance.getEntriesByName('rxm-redraw').map((each) => each.duration)"
    times = browser.execute_script(script)
    assert len(times) >= 10
    print(f"redraw of 30 events: best {min(times):.0f} ms, median {statistics.median(times):.0f} ms")
    assert min(times) <= 50, "a busy machine only adds to it"


def test_a_static_page_runs_python_by_itself(tmp_path: Path) -> None:
    npm = peers_needed.program("npm")
    pack = [npm, "pack", f"pyodide@{PYODIDE.split('/v')[1].split('/')[0]}"]
    packed = subprocess.run(pack, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    if packed.returncode:
        peers_needed.missing(f"npm cannot get Pyodide: {packed.stderr.strip()[-200:]}")
    build(tmp_path / "page", "./package")
    (packed_file,) = tmp_path.glob("pyodide-*.tgz")
    subprocess.run(["tar", "-xzf", packed_file, "-C", tmp_path / "page"], check=True)
    with files(tmp_path / "page") as address, chromium(tmp_path / "profile", dark=True) as browser:
        browser.get(f"{address}/index.html")
        page = Playground(browser, seconds=90)
        page.click('[data-operator="bare_retry"]', '[data-operator="recover_auth"]')
        page.shows("The consumer sees ---------(sa)b---|.")
        page.drag("0.1", 100)
        assert page.tick("0.1") > 3
        ink, ground = (page.root.value_of_css_property(name) for name in ("color", "background-color"))
        assert _lightness(ink) > 0.8 > 0.3 > _lightness(ground)


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_a_stored_notebook_shows_its_pictures(path: Path, browser: Any, tmp_path: Path) -> None:
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_notebook_node(executing.read(path))  # type: ignore[no-untyped-call]
    (tmp_path / "stored.html").write_text(html)
    browser.get((tmp_path / "stored.html").as_uri())
    outputs = [output for cell in executing.read(path).cells for output in cell.get("outputs", ())]
    stored = len([output for output in outputs if "image/svg+xml" in output.get("data", {})])
    sizes = _sizes(browser, ".jp-OutputArea svg.rxm, .jp-OutputArea img[src^='data:image/svg']")
    assert len(sizes) == stored > 0
    assert min(min(size) for size in sizes) > 50


@pytest.mark.parametrize("path", paths()[1:], ids=lambda path: path.stem)
def test_a_notebook_that_was_run_shows_its_pictures(path: Path, lab: str, browser: Any) -> None:
    browser.get_log("browser")  # forget those of other pages
    run_all(browser, lab, path.name)
    sizes = until(lambda: _sizes(browser, ".jp-OutputArea svg.rxm, .jp-OutputArea img[src*='svg']"), 30)
    assert min(min(size) for size in sizes) > 50
    assert [entry for entry in browser.get_log("browser") if entry["source"] == "javascript"] == []


def _sizes(browser: Any, selector: str) -> list[list[float]]:
    script = """
        const boxes = [...document.querySelectorAll(arguments[0])].map((each) => each.getBoundingClientRect());
        return boxes.map((box) => [box.width, box.height]);
    """
    sizes: list[list[float]] = browser.execute_script(script, selector)
    return sizes


def _lightness(colour: str) -> float:
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3 / 255
