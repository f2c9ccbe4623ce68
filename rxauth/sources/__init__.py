"""Streams of assistant events from a provider's HTTP API, on aiohttp.

anthropic_messages      Anthropic Messages, and what speaks like it
openai_chat             OpenAI Chat Completions, and what speaks like it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxauth.sources._anthropic import anthropic_messages
    from rxauth.sources._openai import openai_chat

__all__ = ["anthropic_messages", "openai_chat"]

_homes = {"anthropic_messages": "rxauth.sources._anthropic", "openai_chat": "rxauth.sources._openai"}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): importing the package costs nothing until a source is used.
    if name not in _homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_homes[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
