"""The predicates of streams that the defaults do not know: data for `buffer_until_live` and `recover_auth`.

    stream.pipe(recover_auth(refresh, **presets.OPENAI_CHAT))

    OPENAI_CHAT         chunks of Chat Completions have no type: the first ones name the role and say nothing
    OPENAI_RESPONSES    Responses ends a failed answer with `response.failed`, beside `error`; its openers are defaults

Events may be an SDK's objects or mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rxauth.errors import field
from rxauth.failures import type_of

__all__ = ["OPENAI_CHAT", "OPENAI_RESPONSES"]

_ANSWERS = ("content", "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content")


def _says_nothing(chunk: Any) -> bool:
    for choice in field(chunk, "choices") or ():
        delta = field(choice, "delta")
        if field(choice, "finish_reason") or any(field(delta, name) for name in _ANSWERS):
            return False
    return field(chunk, "error") is None


OPENAI_CHAT: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {"is_prelude": _says_nothing, "is_error": lambda chunk: field(chunk, "error") is not None}
)

OPENAI_RESPONSES: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {"is_error": lambda event: type_of(event) in {"error", "response.failed"}}
)
