"""A JupyterLab on this machine, and a headless Chromium that looks at it."""

from __future__ import annotations

import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import peers_needed

_CHROMIUM = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1300,1100"),
]

# JupyterLab draws only the cells in view, and asks whether it may fetch news.
_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@contextmanager
def chromium(directory: Path, *, dark: bool = False) -> Iterator[Any]:
    """A driver of Debian's Chromium with an empty profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = peers_needed.program("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*_CHROMIUM, f"--user-data-dir={directory}"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--blink-settings=preferredColorScheme=0")
    driver = webdriver.Chrome(options=options, service=Service(peers_needed.program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def jupyterlab(notebooks: Path, home: Path, *, theme: str = "JupyterLab Light") -> Iterator[str]:
    """A JupyterLab server on the notebooks of a folder; its address."""
    settings = {**_SETTINGS, "apputils-extension/themes": {"theme": theme, "adaptive-theme": False}}
    for name, values in settings.items():
        path = home / "config/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {"HOME": "", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    env = {**os.environ, **{name: str(home / place) for name, place in places.items()}}
    options = [f"--ServerApp.port={port}", f"--ServerApp.root_dir={notebooks}", "--IdentityProvider.token="]
    options += ["--ip=127.0.0.1", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: _listens(port), 60)
        yield address
    finally:
        server.terminate()
        server.wait(30)


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
