"""What an event is, unless the caller says otherwise: its `type`, an attribute or the key of a mapping."""

from __future__ import annotations

from typing import Any

from rxauth.failures import type_of


def is_start(event: Any) -> bool:
    """The prelude of rxauth's own vocabulary."""
    return bool(type_of(event) == "start")


def is_error_event(event: Any) -> bool:
    """A failure told in-band."""
    return bool(type_of(event) == "error")


def is_ping_event(event: Any) -> bool:
    """A sign that the connection is alive, and nothing else."""
    return bool(type_of(event) == "ping")
