"""Assemble the tool calls of Chat Completions, however a server numbers their pieces. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rxauth.sources._json import is_complete, joined, mapping, string
from rxauth.sources._message import OpenToolCall

_READ_FIELDS = frozenset({"index", "id", "type", "function", "custom"})
_READ_IN_FUNCTION = frozenset({"name", "arguments", "input"})


class _Call(OpenToolCall):
    is_renumbered = False  # its pieces came with several ids


class ToolCalls:
    """Assemble the tool calls of one answer; each is opened when its id and its name are known.

    A piece names its call by `index` and `id`, and servers leave out, repeat or renew either. These rules hold:

    - An id that is known names its call, an index that is known its last call; else a piece continues the last call.
    - Another name, or a further id after complete arguments, begins another call.
    - A new id in the middle of the arguments is the same call, renumbered.

    Args:
        open_call: opens a call.
    """

    def __init__(self, open_call: Callable[[OpenToolCall], object]) -> None:
        self._open = open_call
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def on_piece(self, piece: dict[str, Any]) -> None:
        """Handle a piece of a call of a function or a custom tool."""
        kind, words = ("custom", "input") if isinstance(piece.get("custom"), dict) else ("function", "arguments")
        function = mapping(piece.get(kind))
        arguments = function.get(words)
        call = self._call(piece.get("index"), string(piece.get("id")), string(function.get("name")), arguments)
        call.custom = call.custom or kind == "custom"
        extra = {field: value for field, value in piece.items() if field not in _READ_FIELDS and value}
        inner = {field: value for field, value in function.items() if field not in _READ_IN_FUNCTION and value}
        call.extra = joined(call.extra, extra | ({kind: inner} if inner else {}))
        if isinstance(arguments, dict | list):
            arguments = msgspec.json.encode(arguments).decode()
        call.add(string(arguments) or "")
        if call.index < 0 and call.id and call.name:
            self._open(call)

    def settle(self) -> None:
        """Open the calls that still wait for an id or a name: the stream has ended."""
        for call in self._calls:
            if call.index < 0 and (call.name or call.content):
                self._open(call)

    def _call(self, index: object, call_id: str | None, name: str | None, arguments: object) -> _Call:
        """Return the call that a piece belongs to."""
        place = index if isinstance(index, int) else None
        call = named = self._by_id.get(call_id or "")
        if named is None:
            last = self._calls[-1] if self._calls else None
            call = last if place is None else self._by_index.get(place)
        if call is None or self._begins_another(call, place, call_id, name, arguments, named=named is not None):
            call = _Call()
            self._calls.append(call)
        elif call_id and call.id and call.id != call_id:
            call.is_renumbered = True
        call.id = call.id or call_id or ""
        call.name = call.name or name or ""
        if place is not None:
            self._by_index[place] = call
        if call_id:
            self._by_id[call_id] = call
        return call

    def _begins_another(
        self, call: _Call, place: int | None, call_id: str | None, name: str | None, arguments: object, *, named: bool
    ) -> bool:
        if name and call.name and name != call.name:
            return True
        if named:  # a known id: another call only if the server gives all calls one id, each under an index of its own
            is_elsewhere = place is not None and self._by_index.get(place) is not call
            return bool(name) and is_elsewhere and is_complete(call.content)
        if not (name and call.name) and not (call_id and call.id):
            return False
        if call.is_renumbered and not arguments:
            return False
        return bool(name) if call.custom else is_complete(call.content)
