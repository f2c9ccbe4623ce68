"""Everything that can happen to a stream, as hypothesis strategies."""

from __future__ import annotations

import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

from .generated_world import AGAIN, BUSY, DONE, PING, REJECTED, START, TEXT, Attempt, Case, Ends, Item, Try

_events = st.sampled_from([START, START, PING, TEXT, DONE, REJECTED, REJECTED, BUSY])
_failures = ["auth", "auth", "other", "held, completed", "held, event", "held, auth", "held, other", "held, nested"]
_ends = st.one_of(st.just(Ends()), st.sampled_from(_failures).map(Ends))
_items: st.SearchStrategy[Item] = st.one_of(_events, _events, _ends)


REFUSED: list[list[Item]] = [[REJECTED], [Ends("auth")], [Ends("held, auth")]]
ALIVE: list[list[Item]] = [[TEXT], [TEXT, TEXT], [TEXT, Ends()]]


@st.composite
def attempts(draw: st.DrawFn, turns: list[list[Item]]) -> Attempt:
    """Grammar-breaking ones too: events after a terminal, several terminals, none at all."""
    opening = draw(st.lists(st.sampled_from([START, PING]), max_size=3))
    turn = draw(st.sampled_from(turns))
    script = [*opening, *turn, *draw(st.lists(_items, max_size=6))]
    cut = draw(st.sampled_from([0, 0, 0, len(opening), len(script)]))
    inside = tuple(script[:cut])
    later = tuple((draw(st.integers(1, 9)), item) for item in script[cut:])
    raises = draw(st.sampled_from([None] * 40 + _failures))
    return Attempt(inside, raises, later, deaf=draw(st.booleans()))


_tries = st.one_of(
    st.builds(
        Try,
        how=st.sampled_from(["now", "stream"]),
        delay=st.sampled_from([0, 0, 1, 3, 7, 50]),
        value=st.sampled_from(["fresh", "fresh", "fresh", None, 0]),
        error=st.sampled_from([None, None, None, None, "transient", "transient", "final", "auth"]),
    ),
    st.builds(Try, how=st.sampled_from(["now", "stream", "never"])),
)

CALLBACKS = ["is_error", "is_prelude", "is_auth_error", "error_event", "on_recovery", "refresh", "on_next"]
_callbacks = st.sampled_from(CALLBACKS)
_emitted = st.one_of(st.just(AGAIN), _items)
_calls = st.integers(1, 4)


@st.composite
def cases(draw: st.DrawFn, *, troubles: int = 5) -> Case:
    """With so many of: a dispose by the clock, one inside a callback, a consumer that throws, a predicate that raises,
    a consumer that emits into the source."""
    picked = set(draw(st.lists(st.integers(0, 4), max_size=troubles, unique=True)))
    return Case(
        attempts=(draw(attempts([[], *REFUSED, *REFUSED, *ALIVE])), draw(attempts([[], *REFUSED[:1], *ALIVE, *ALIVE]))),
        tries=tuple(draw(st.lists(_tries, min_size=1, max_size=4))),
        limit=draw(st.integers(1, 4)),
        wait=draw(st.sampled_from([0, 1, 2, 5])),
        timeout=draw(st.sampled_from([None, 1, 3, 8, 40, 40])),
        max_held=draw(st.sampled_from([0, 1, 2, 3, 64])),
        discard_on_error=draw(st.booleans()),
        error_event=draw(st.sampled_from([None, None, "made", "raises"])),
        dispose_at=draw(st.integers(0, 40)) if 0 in picked else None,
        dispose_in=draw(st.tuples(_callbacks, _calls)) if 1 in picked else None,
        throw_in=frozenset(draw(st.sets(_calls, min_size=1, max_size=2))) if 2 in picked else frozenset(),
        raise_in=draw(st.tuples(_callbacks.filter(lambda name: name != "on_next"), _calls)) if 3 in picked else None,
        emit_in=draw(st.dictionaries(_calls, _emitted, min_size=1, max_size=2)) if 4 in picked else {},
    )


def share(count: int) -> settings:
    """How many cases: the same ones at every run, unless `RXAUTH_CASES` says how many new ones."""
    wanted = os.environ.get("RXAUTH_CASES")
    return settings(
        max_examples=int(wanted) if wanted else count,
        derandomize=wanted is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
