"""Write a scene as a row of a marble table, or as code that a notebook cell or pytest runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rxauth.marbles._scene import LIMITED, OPERATORS, WITH_REFRESH, Run, Scene, bare_retry
from rxauth.marbles._strings import write

__all__ = ["snippet", "table_row"]

_SNIPPET = """{imports}

EVENTS = {events}


{helper}def test_the_consumer_sees():
    time = TestScheduler()
{source}
    refresh = marbles.cold(time, "{refresh}", EVENTS)
    stream = source.pipe({operators})
    seen = marbles.draw(marbles.observe(time, stream), EVENTS)
    assert seen == "{seen}"


test_the_consumer_sees()
"""


def table_row(scene: Scene, run: Run) -> str:
    """Return attempts and refresh, the consumer's view, and the subscriptions in one line."""
    first, *others = map(write, scene.lettered)
    row = ", ".join(f'"{cell}"' for cell in (first, write(scene.refreshing), *others, run.seen))
    subscriptions = repr(run.subscriptions).replace("'", '"')
    return f'pytest.param({row}, {subscriptions}, id="{", ".join(scene.operators) or "no operator"}"),'


def snippet(scene: Scene, run: Run) -> str:
    """Return a test function and its call."""
    limited = any(letter == "x" for events in scene.lettered for _, letter in events)
    return _SNIPPET.format(
        imports=_imports(scene),
        events={"r": "new token", "n": None} | ({"x": LIMITED} if limited else {}),
        helper=_bare_retry() if "bare_retry" in scene.operators else "",
        source=_source(scene),
        refresh=write(scene.refreshing),
        operators="".join(f"\n        {_call(name, given)}," for name, given in scene.operators.items()) + "\n    "
        if scene.operators
        else "",
        seen=run.seen,
    )


def _imports(scene: Scene) -> str:
    bare = "bare_retry" in scene.operators
    names = sorted(set(scene.operators) - {"bare_retry"})
    lines = ["import reactivex as rx"] if bare else []
    lines += ["import tenacity"] if "retry_never_live" in names else []
    lines += ["from reactivex import operators as ops"] if bare else []
    lines += ["from reactivex.testing import TestScheduler", ""]
    lines += [f"from rxauth import {name}" for name in names]
    lines += ["from rxauth.failures import type_of"] if bare else []
    return "\n".join([*lines, "from rxauth.testing import marbles"])


def _bare_retry() -> str:
    source = inspect.getsource(bare_retry).replace("(refresh: Refresh) -> Operator", "(refresh)")
    for annotation in (": Observable[Any]", ": Any", ": Exception", " -> Observable[Any]"):
        source = source.replace(annotation, "")
    return f"{source}\n\n"


def _source(scene: Scene) -> str:
    diagrams = [write(events) for events in scene.lettered]
    if not any("@" in diagram for diagram in diagrams):
        arguments = "".join(f'        "{diagram}",\n' for diagram in diagrams)
        return f"    source = marbles.attempts(\n        time,\n{arguments}        events=EVENTS,\n    )"
    attempts = ""  # two events lie so close together that no diagram has a column for both
    for events in scene.lettered:
        attempts += "            time.create_cold_observable(\n"
        for at in sorted({at for at, _ in events}):
            together = write((0, letter) for tick, letter in events if tick == at)
            attempts += f'                *marbles.messages("{together}", EVENTS, start={at}),\n'
        attempts += "            ),\n"
    return f"    source = marbles.Attempts(\n        [\n{attempts}        ]\n    )"


def _call(name: str, options: Mapping[str, Any]) -> str:
    if name == "retry_never_live":
        wait = f"tenacity.wait_fixed({options.get('wait', 2)})"
        return f"{name}(retrying=tenacity.Retrying(wait={wait}, stop=tenacity.stop_after_attempt(3)))"
    arguments = ["lambda failure: refresh"] if name in WITH_REFRESH else []
    arguments += [f"{each}={value!r}" for each, value in options.items() if value != OPERATORS[name][each]]
    return f"{name}({', '.join(arguments)})"
