"""Compute how long a credential is valid, by two clocks that may each be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rxauth.credentials._credential import Credential

__all__ = ["Lifetimes", "same_tokens"]


class _Sighting(NamedTuple):
    credential: Credential
    at: float  # monotonic
    left: float  # s that it had then
    lifetime: float  # s that it had when it was issued; infinite if unknown


class Lifetimes:
    """Remember when the last credential was first seen, and compute what is left of it.

    Args:
        clock: returns the Unix time in seconds. It goes on while a laptop sleeps, and can be set back.
        monotonic: returns seconds that never go back, and stand still while a laptop sleeps.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._sighting: _Sighting | None = None

    def see(self, credential: Credential) -> None:
        """Start to measure a credential, unless it is measured already."""
        if self._sighting_of(credential) is not None:
            return
        left = math.inf if credential.expires_at is None else credential.expires_at - self._clock()
        lifetime = credential.extra.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
            # The first one may be of any age; a later one has just been issued.
            lifetime = math.inf if self._sighting is None else left
        self._sighting = _Sighting(credential, self._monotonic(), left, lifetime)

    def left(self, credential: Credential) -> float:
        """Return the seconds until it expires: the shorter time of the two clocks."""
        left = math.inf if credential.expires_at is None else credential.expires_at - self._clock()
        sighting = self._sighting_of(credential)
        return left if sighting is None else min(left, sighting.left - (self._monotonic() - sighting.at))

    def expired(self, credential: Credential) -> bool:
        """Return whether it is known to have expired."""
        return self.left(credential) <= 0

    def ends_within(self, credential: Credential, ahead: float) -> bool:
        """Return whether it ends within `ahead` seconds, or within half its lifetime where that is shorter."""
        sighting = self._sighting_of(credential)
        lifetime = math.inf if sighting is None else sighting.lifetime
        return self.left(credential) < min(ahead, lifetime / 2)

    def _sighting_of(self, credential: Credential) -> _Sighting | None:
        sighting = self._sighting
        if sighting is None or sighting.credential is credential:  # a store in memory returns the same object
            return sighting
        same = same_tokens(sighting.credential, credential)
        return sighting if same and sighting.credential.expires_at == credential.expires_at else None


def same_tokens(one: Credential, other: Credential) -> bool:
    """Return whether two credentials have the same tokens, whatever else is known of each."""
    return (one.access_token, one.refresh_token) == (other.access_token, other.refresh_token)
