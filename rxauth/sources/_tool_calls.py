"""Assemble the tool calls of Chat Completions, however a server numbers their pieces. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rxauth.sources._message import Answer, OpenToolCall, is_complete, joined
from rxauth.sources._payload import string

_READ_FIELDS = frozenset({"index", "id", "type", "function", "custom"})
_READ_IN_FUNCTION = frozenset({"name", "arguments", "input"})


class ToolCalls:
    """Assemble the tool calls of one answer.

    A piece names its call by `index` and `id`, and servers leave out, repeat or renew either. These rules hold:

    - An id that is known names its call, an index that is known its last call; else a piece continues the last call.
    - Another name, or a further id after complete arguments, begins another call.
    - A new id in the middle of the arguments is the same call, renumbered.

    Args:
        answer: opens the blocks.
        before_call: called before a call is opened, to close the block that it ends.
    """

    def __init__(self, answer: Answer, before_call: Callable[[], None]) -> None:
        self._answer = answer
        self._before_call = before_call
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def on_tool_calls(self, pieces: object) -> list[Any]:
        """Handle the `tool_calls` of a delta; return those that call neither a function nor a custom tool."""
        others = []
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, Mapping):
                custom = isinstance(piece.get("custom"), Mapping)
                if not custom and piece.get("type") not in (None, "", "function", "custom"):
                    others.append(piece)
                    continue
                inside = piece.get("custom" if custom else "function")
                function = inside if isinstance(inside, Mapping) else {}
                extra = {field: value for field, value in piece.items() if field not in _READ_FIELDS and value}
                inner = {field: value for field, value in function.items() if field not in _READ_IN_FUNCTION and value}
                if inner:
                    extra["custom" if custom else "function"] = inner
                arguments = function.get("input" if custom else "arguments")
                call = self._call(piece.get("index"), string(piece.get("id")), string(function.get("name")), arguments)
                if call is not None:
                    call.custom = call.custom or custom
                    call.extra = joined(call.extra, extra)
                    self._add(call, arguments)
        return others

    def on_function_call(self, piece: object) -> None:
        """Handle the older `function_call` of a delta: one call, without an id."""
        if isinstance(piece, Mapping):
            call_id = f"{self._answer.id or 'call'}_function"
            call = self._by_id.get(call_id) or self._begin(None, call_id)
            call.name = call.name or string(piece.get("name")) or ""
            self._add(call, piece.get("arguments"))

    def settle(self) -> None:
        """Open the calls that still wait for an id or a name: the stream has ended."""
        for call in self._calls:
            if call.block is None and (call.name or call.arguments):
                self._before_call()
                call.open(self._answer)

    def _call(self, index: object, call_id: str | None, name: str | None, arguments: object) -> _Call | None:
        """Return the call that a piece belongs to; `None` for a piece that is empty and belongs to none."""
        place = index if isinstance(index, int) else None
        named = self._by_id.get(call_id) if call_id else None
        call = named
        if call is None and place is not None:
            call = self._by_index.get(place)
        elif call is None and self._calls:
            call = self._calls[-1]
        if call is not None and self._begins_another(call, place, call_id, name, arguments, named=named is not None):
            call = None
        if call is None:
            call = self._begin(place, call_id)
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
            return bool(name) and is_elsewhere and is_complete(call.arguments)
        if not (name and call.name) and not (call_id and call.id):
            return False
        if call.is_renumbered and not arguments:
            return False
        return bool(name) if call.custom else is_complete(call.arguments)

    def _begin(self, place: int | None, call_id: str | None) -> _Call:
        call = _Call()
        self._calls.append(call)
        if call_id:
            call.id = call_id
            self._by_id[call_id] = call
        return call

    def _add(self, call: _Call, arguments: object) -> None:
        if isinstance(arguments, dict | list):
            arguments = msgspec.json.encode(arguments).decode()
        call.add(arguments if isinstance(arguments, str) else "")
        if call.block is None and call.id and call.name:
            self._before_call()
            call.open(self._answer)


class _Call:
    """Hold a call until its id and its name are known; then open it."""

    __slots__ = ("block", "custom", "extra_held", "held", "id", "is_renumbered", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.custom = False
        self.is_renumbered = False
        self.held: list[str] = []
        self.extra_held: dict[str, Any] = {}
        self.block: OpenToolCall | None = None

    @property
    def arguments(self) -> str:
        return self.block.content if self.block is not None else "".join(self.held)

    @property
    def extra(self) -> dict[str, Any]:
        return (self.block.extra if self.block is not None else self.extra_held) or {}

    @extra.setter
    def extra(self, extra: dict[str, Any]) -> None:
        if self.block is not None:
            self.block.extra = extra
        else:
            self.extra_held = extra

    def add(self, arguments: str) -> None:
        if self.block is not None:
            self.block.add(arguments)
        else:
            self.held.append(arguments)

    def open(self, answer: Answer) -> None:
        self.block = answer.open_tool_call(self.id, self.name, self.custom)
        self.block.extra = self.extra_held
        self.block.add("".join(self.held))
