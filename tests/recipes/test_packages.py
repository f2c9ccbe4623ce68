"""The operators on the streams of other packages, each against a server that refuses a token as its provider does.

    source     o--#                       o: the package's first events, if it has some before the answer
    refresh       --r|
    source          o--a--b--|
    result     --------(oa)--b--|         one answer

`tests/recipes/README.md` lists what each package needs, and its trap.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from reactivex import operators as ops

from rxauth import LoginRequired, from_async_iterable, recover_auth, to_async_iterable
from rxauth.testing import FakeProvider, Gate, Reply

from .answers import FRESH, STALE, Answer, serving
from .packages import RECIPES, Recipe

pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def no_warnings_of_the_packages() -> Iterator[None]:
    """Ignore deprecations, and the connections that a client leaves open which was made for one request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


@pytest.mark.parametrize(
    ("recipe", "refusal"),
    [
        pytest.param(recipe, refusal, id=f"{name}: {form}")
        for name, recipe in RECIPES.items()
        for form, refusal in recipe.refusals.items()
    ],
)
async def test_a_stale_token_costs_one_refresh(recipe: Recipe, refusal: Answer) -> None:
    async with serving(refusal, recipe.answer) as (url, accepted):
        tokens, failures = [STALE], []

        def refresh(failure: Any) -> bool:
            failures.append(failure)
            tokens.append(FRESH)
            return True

        recovered = from_async_iterable(recipe.open(url, lambda: tokens[-1])).pipe(
            recover_auth(refresh, **recipe.options)
        )
        events = [event async for event in to_async_iterable(recovered)]
        assert (accepted, len(failures)) == ([False, True], 1)
        # Nothing of the first attempt is seen: the same events come with a token that is accepted at once.
        plain = from_async_iterable(recipe.open(url, lambda: FRESH))
        assert list(map(type, events)) == [type(event) async for event in to_async_iterable(plain)]
        assert "Hel" in repr(events)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
async def test_a_failed_refresh_raises_the_own_exception(recipe: Recipe) -> None:
    async def refresh(failure: Any) -> None:
        raise LoginRequired("Log in again.")

    refusal = next(iter(recipe.refusals.values()))
    async with serving(refusal, recipe.answer) as (url, accepted):
        recovered = from_async_iterable(recipe.open(url, lambda: STALE)).pipe(recover_auth(refresh, **recipe.options))
        with pytest.raises(Exception) as raised:  # each package has its own
            _ = [event async for event in to_async_iterable(recovered)]
        assert not type(raised.value).__module__.startswith("rxauth")
        assert "LoginRequired" in f"{raised.value.__cause__!r} {getattr(raised.value, '__notes__', '')}"
        assert accepted == [False]


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if len(recipe.refusals) > 1])
async def test_a_consumer_that_leaves_closes_the_connection(name: str) -> None:
    async with FakeProvider(api_keys=[FRESH], replies=[Reply.hang(Gate(), after=5)]) as fake:
        stream = from_async_iterable(RECIPES[name].open(fake.url, lambda: FRESH))
        first = stream.pipe(recover_auth(lambda failure: None, **RECIPES[name].options), ops.take(2))
        assert len([event async for event in to_async_iterable(first)]) == 2
        await fake.served()
        assert fake.api_requests[0].client_closed
