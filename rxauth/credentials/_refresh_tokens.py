"""Remember which refresh tokens are dead, and until when the server asked not to be sent one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["TokenMemory", "fingerprint"]

_DEAD_FOR = 300.0  # s for which a dead refresh token is not sent again
_LONGEST_WAIT = 86_400.0  # s; a server that asks for years would lock its users out for ever


class _Wait(NamedTuple):
    until: float  # Unix time
    monotonic: float  # the same moment on the other clock


class TokenMemory:
    """Keep facts about refresh tokens without the tokens, in this process.

    Args:
        clock: returns the Unix time in seconds.
        monotonic: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._dead: dict[str, float] = {}
        self._waits: dict[str, _Wait] = {}

    def mark_dead(self, refresh_token: str) -> None:
        """Remember that the server refused the token."""
        now = self._monotonic()
        self._dead = {mark: until for mark, until in self._dead.items() if until > now}
        self._dead[fingerprint(refresh_token)] = now + _DEAD_FOR

    def is_dead(self, refresh_token: str) -> bool:
        """Return whether the server refused the token in the last five minutes."""
        return self._dead.get(fingerprint(refresh_token), -math.inf) > self._monotonic()

    def wait(self, refresh_token: str, seconds: float) -> float:
        """Remember that the server asked to wait; return the Unix time until when."""
        seconds = min(seconds, _LONGEST_WAIT)
        now = self._monotonic()
        self._waits = {mark: wait for mark, wait in self._waits.items() if wait.monotonic > now}
        wait = self._waits[fingerprint(refresh_token)] = _Wait(self._clock() + seconds, now + seconds)
        return wait.until

    def seconds_to_wait(self, refresh_token: str, stored: float | None) -> float:
        """Return how long not to send the token: as this process remembers, or until the Unix time `stored`."""
        known = self._waits.get(fingerprint(refresh_token))
        if known is not None and stored in (None, known.until):
            # The shorter of the two: a clock may be set back, a laptop may sleep.
            return max(0.0, min(known.until - self._clock(), known.monotonic - self._monotonic()))
        left = 0.0 if stored is None else stored - self._clock()
        return left if 0 < left <= _LONGEST_WAIT else 0.0


def fingerprint(token: str) -> str:
    """Return the hash that stands for a token in memory."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
