"""Define the operators. They share only Rx's error channel, so Rx's own operators fit between them.

Several subscriptions and threads:

- State belongs to a subscription. Two subscribers of one piped Observable never meet, on whatever threads; if they use
  one `OAuthCredentials`, they share its refresh.
- Events are delivered on the thread on which the source emits them. `ops.observe_on` may stand anywhere. Nothing is
  locked: a source that emits from several threads at once, which Rx forbids, needs `ops.observe_on` in front.
- A `refresh` that is a coroutine function runs on the loop that was running at `subscribe`, a plain function on the
  thread of the failure. The second subscription is made on that loop, if there was one. Both see the subscriber's
  context variables.
- `ops.subscribe_on` in front of an operator moves the source alone. After an operator it moves the operator too, to a
  thread without a loop: give that operator a plain function as its `refresh`.
- rxauth's own sources and `from_async_iterable` need a loop where they are subscribed to: put no `ops.subscribe_on`
  after them.
- A second subscription does not start a hot source again. A Subject that has failed repeats its failure, and the events
  that it emits during a refresh are missed. `rx.defer` makes a source cold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rxauth.operators._buffer_until_live import buffer_until_live
from rxauth.operators._flush_on_complete_or_error import flush_on_complete_or_error
from rxauth.operators._limit_silence import limit_silence
from rxauth.operators._recover_auth import recover_auth
from rxauth.operators._retry_never_live import retry_never_live
from rxauth.operators._retry_on_first_auth_error import retry_on_first_auth_error
from rxauth.operators._switch_if_never_live import switch_if_never_live

if TYPE_CHECKING:
    from rxauth.operators._suppress_empty_response import suppress_empty_response

__all__ = [
    "buffer_until_live",
    "flush_on_complete_or_error",
    "limit_silence",
    "recover_auth",
    "retry_never_live",
    "retry_on_first_auth_error",
    "switch_if_never_live",
    "suppress_empty_response",
]


def __getattr__(name: str) -> Any:
    # The one operator that knows rxauth's own events; the others do not pay for their import.
    if name == "suppress_empty_response":
        from rxauth.operators._suppress_empty_response import suppress_empty_response

        return suppress_empty_response
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
