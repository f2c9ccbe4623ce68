"""Write a scene as a row of a marble table, or as code that a notebook cell or pytest runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from rxauth.marbles._scene import LIMITED, OPERATORS, TOKENS, WITH_REFRESH, Run, Scene, bare_retry, diagram

__all__ = ["snippet", "table_row"]

_SNIPPET = """{imports}

EVENTS = {events}


{helper}def test_the_consumer_sees():
    time = TestScheduler()
    source = marbles.attempts(
        time,
        {attempts},
        events=EVENTS,
    )
    refresh = marbles.cold(time, "{refresh}", {tokens})
    stream = source.pipe({operators})
    seen = marbles.draw(marbles.observe(time, stream), EVENTS)
    assert seen == "{seen}"


test_the_consumer_sees()
"""


def table_row(scene: Scene, run: Run) -> str:
    """Return attempts and refresh, the consumer's view, and the subscriptions in one line."""
    first, *others = map(diagram, scene.attempts)
    row = ", ".join(f'"{cell}"' for cell in (first, diagram(scene.refreshing), *others, run.seen))
    subscriptions = repr(run.subscriptions).replace("'", '"')
    return f'pytest.param({row}, {subscriptions}, id="{", ".join(scene.pipe) or "no operator"}"),'


def snippet(scene: Scene, run: Run) -> str:
    """Return a test function and its call."""
    bare = "bare_retry" in scene.pipe
    names = sorted(set(scene.pipe) - {"bare_retry"})
    imports = [
        *(["import reactivex as rx"] if bare else []),
        *(["import tenacity"] if "retry_never_live" in names else []),
        *(["from reactivex import operators as ops"] if bare else []),
        "from reactivex.testing import TestScheduler\n",
        *(f"from rxauth import {name}" for name in names),
        *(["from rxauth.failures import type_of"] if bare else []),
        "from rxauth.testing import marbles",
    ]
    types = r"(: | -> )(Any|Exception|Refresh|Operator|Observable\[Any\])(?=[,)=:])"
    calls = "".join(f"\n        {_call(name, given)}," for name, given in scene.pipe.items())
    return _SNIPPET.format(
        imports="\n".join(imports),
        events={"x": LIMITED},
        helper=re.sub(types, "", inspect.getsource(bare_retry)) + "\n\n" if bare else "",
        attempts=",\n        ".join(f'"{diagram(events)}"' for events in scene.attempts),
        refresh=diagram(scene.refreshing),
        tokens=TOKENS,
        operators=f"{calls}\n    " if calls else "",
        seen=run.seen,
    )


def _call(name: str, options: Mapping[str, Any]) -> str:
    if name == "retry_never_live":
        wait = f"tenacity.wait_fixed({options.get('wait', 2)})"
        return f"{name}(retrying=tenacity.Retrying(wait={wait}, stop=tenacity.stop_after_attempt(3)))"
    arguments = ["lambda failure: refresh"] if name in WITH_REFRESH else []
    arguments += [f"{each}={value!r}" for each, value in options.items() if value != OPERATORS[name][each]]
    return f"{name}({', '.join(arguments)})"
