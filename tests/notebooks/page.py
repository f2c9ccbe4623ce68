"""Build a static page with the playground: Python runs in the page, in Pyodide, and no server is needed.

python -m tests.notebooks.page [build/playground] [--pyodide URL]

The folder can be served by anything that serves files. Pyodide is loaded from its CDN, or from the URL given, such as
that of a copy in a folder beside the page.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import zipfile
from pathlib import Path

from rxauth.marbles import _playground
from rxauth.marbles._playground import state_of
from rxauth.marbles._scene import OPERATORS

PACKAGES = ("rxauth", "reactivex", "typing_extensions", "tenacity")
PYODIDE = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>rxauth: a playground</title>
<link rel="stylesheet" href="playground.css">
<h1>A stream and its operators</h1>
<p>The first attempt ends in an error 401, because the access token has been revoked. A bare retry refreshes it and asks
again, and leaves an empty message on the screen. Clear <code>bare_retry</code>, tick <code>recover_auth</code>, and
drag the events.</p>
<div id="play">Python is loading ...</div>
<script type="module">
import { loadPyodide } from "PYODIDE/pyodide.mjs";
import playground from "./playground.js";

const python = await loadPyodide({ indexURL: "PYODIDE" });
const packages = await fetch("python.zip");
python.unpackArchive(await packages.arrayBuffer(), "zip", { extractDir: "/home/pyodide" });
const answer = python.runPython(`
import json, logging
from rxauth.marbles._playground import answer
logging.disable()
lambda scene: json.dumps(answer(json.loads(scene)))
`);
const values = { scene: SCENE, operators: OPERATORS };
const listeners = {};
const model = {
  get: (name) => values[name],
  set(name, value) { values[name] = value; (listeners[`change:${name}`] ?? []).forEach((each) => each()); },
  on(name, listener) { (listeners[name] ??= []).push(listener); },
  off(name, listener) { listeners[name] = (listeners[name] ?? []).filter((each) => each !== listener); },
  save_changes() { model.set("picture", JSON.parse(answer(JSON.stringify(values.scene)))); },
};
model.save_changes();
const el = document.getElementById("play");
el.textContent = "";
playground.render({ model, el });
</script>
</html>
"""


def build(folder: Path, pyodide: str = PYODIDE) -> None:
    """Write the page, its script and style, and the Python packages that it needs."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = state_of(("s--e", "s---a---b---|"), operators=["bare_retry"])
    page = _PAGE.replace("PYODIDE", pyodide).replace("SCENE", json.dumps(scene))
    (folder / "index.html").write_text(page.replace("OPERATORS", json.dumps(OPERATORS)))
    for name in ("playground.js", "playground.css"):
        (folder / name).write_bytes(Path(_playground.__file__).with_name(f"_{name}").read_bytes())
    with zipfile.ZipFile(folder / "python.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:
                raise ModuleNotFoundError(package)
            origin = Path(spec.origin)
            whole = origin.name == "__init__.py"
            for path in sorted(origin.parent.rglob("*.py*")) if whole else [origin]:
                if path.suffix in (".py", ".pyi"):  # rxauth reads its own stub
                    archive.write(path, path.relative_to(origin.parents[1 if whole else 0]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build a static page with the playground.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/playground"))
    parser.add_argument("--pyodide", default=PYODIDE, metavar="URL", help="the folder of Pyodide (default: its CDN)")
    arguments = parser.parse_args()
    build(arguments.folder, arguments.pyodide)
    print(arguments.folder / "index.html")
