"""The error tree; each name says the next action of the caller.

    RxAuthError
    ├── NeverLiveError          end the pipe with flush_on_complete_or_error(), or switch to another stream
    ├── ConsumerTooSlow         read faster, or allow more than max_buffered
    ├── TranscriptNotSaved      repair the file and save again, or keep the messages elsewhere
    ├── TransientError          make the same call again later (after `retry_after` seconds, if the server asked)
    ├── CredentialError         no usable credential
    │   ├── LoginRequired       log in again
    │   ├── AccountChanged      choose: the stored credential belongs to another account
    │   ├── RefreshFailed       try again later; the stored credential is intact
    │   └── StoreError          repair the credential store
    └── ProviderError           the cause of a stream's error event
        ├── CredentialRejected  refresh the credential
        ├── RequestRejected     change the request
        ├── ProviderUnavailable (also TransientError) try again later
        │   ├── ConnectionFailed    no connection, or it broke
        │   └── StreamCut           the stream ended without its terminal event
        └── ProtocolError       not the provider you think: check the base URL and the protocol

No exception here holds a token in its text. One that knows the rejected credential keeps it in `credential`, whose
`repr` is safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

__all__ = [
    "RxAuthError",
    "NeverLiveError",
    "ConsumerTooSlow",
    "TranscriptNotSaved",
    "TransientError",
    "CredentialError",
    "LoginRequired",
    "AccountChanged",
    "RefreshFailed",
    "StoreError",
    "ProviderError",
    "CredentialRejected",
    "RequestRejected",
    "ProviderUnavailable",
    "ConnectionFailed",
    "StreamCut",
    "ProtocolError",
]


class RxAuthError(Exception):
    """The base of all exceptions that rxauth raises."""


class NeverLiveError(RxAuthError):
    """A stream ended before it was live; its prelude is in `held`.

    Never nested: one made of another holds the events of both, in order, and the failure of the inner one.

    Args:
        held: the prelude events, in order; none was delivered.
        failure: an error event, the exception, or `None` for a stream that completed.
    """

    held: tuple[Any, ...]
    failure: Any

    def __init__(self, held: tuple[Any, ...], failure: Any = None) -> None:
        if isinstance(failure, NeverLiveError):
            held, failure = (*held, *failure.held), failure.failure
        self.held = tuple(held)
        self.failure = failure
        super().__init__(self.held, failure)
        if isinstance(failure, BaseException):
            self.__cause__ = failure

    def __str__(self) -> str:
        return (
            f"The stream ended before it was live ({_name_and_status(self.failure)}). "
            "End the pipe with flush_on_complete_or_error() to deliver the held events."
        )

    def __repr__(self) -> str:
        # Without the repr of its events: asyncio logs the repr of an exception that was never retrieved.
        return f"NeverLiveError(held: {len(self.held)}, failure: {_name_and_status(self.failure)})"


class ConsumerTooSlow(RxAuthError):
    """More events arrived than `max_buffered` allows."""


class TranscriptNotSaved(RxAuthError):
    """The transcript's file could not be written; it is unchanged, and the transcript still has the messages."""


class TransientError(RxAuthError):
    """The same call may succeed later.

    Args:
        message: one sentence.
        retry_after: the seconds that the server asked to wait, if it asked.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialError(RxAuthError):
    """There is no usable credential."""


class LoginRequired(CredentialError):
    """No refresh can help: a person has to log in again."""


class AccountChanged(CredentialError):
    """The stored credential belongs to another account; it was not used, and its refresh token was not spent."""


class StoreError(CredentialError):
    """The credential store cannot be read or written."""


class RefreshFailed(CredentialError):
    """The credential could not be refreshed now; the stored one is intact.

    `OAuthCredentials.refresh` raises it with a sentence. `on_recovery` receives a new one without the sentence,
    the cause and the traceback: two with the same `type` and `status` are equal.

    Args:
        message: one sentence for a person.
        type: the OAuth error code, or the name of the exception's class.
        status: the HTTP status, if a server answered.
    """

    def __init__(self, message: str | None = None, *, type: str, status: int | None = None) -> None:
        self._type = type
        self._status = status
        super().__init__(message or f"The credential could not be refreshed ({_describe(type, status)}).")

    @property
    def type(self) -> str:
        """The OAuth error code, or the name of the exception's class."""
        return self._type

    @property
    def status(self) -> int | None:
        """The HTTP status, if a server answered."""
        return self._status

    def __reduce__(self) -> tuple[Any, ...]:
        return _facts_of(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RefreshFailed) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int | None, tuple[Any, ...]]:
        return self._type, self._status, self.args


class _Credential(Protocol):
    """As much of a `rxauth.Credential` as an error needs to know."""

    @property
    def access_token(self) -> str: ...


class ProviderError(RxAuthError):
    """A provider's stream failed: the `cause` of an error event.

    Args:
        message: one sentence, free of secrets.
        status: the HTTP status of the response; 200 for an error that came in-band.
        code: the provider's own code, if it sent one.
        type: the provider's own error type, e.g. `authentication_error`.
        retry_after: seconds, from the response's headers.
        request_id: the provider's id of the request.
        credential: the credential that the request was made with.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | int | None = None,
        type: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        credential: _Credential | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.retry_after = retry_after
        self.request_id = request_id
        self.credential = credential

    def __reduce__(self) -> tuple[Any, ...]:
        return _facts_of(self)


class CredentialRejected(ProviderError):
    """The provider does not accept the credential."""


class RequestRejected(ProviderError):
    """The provider does not accept the request, or the account may not make it."""


class ProviderUnavailable(ProviderError, TransientError):
    """The provider cannot answer now."""


class ConnectionFailed(ProviderUnavailable):
    """No connection to the provider, or it broke."""


class StreamCut(ProviderUnavailable):
    """The stream ended before its terminal event."""


class ProtocolError(ProviderError):
    """The answer is not of this protocol."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and all that its `__cause__` leads to, each once.

    >>> error = ValueError("outer"); error.__cause__ = KeyError("inner"); error.__cause__.__cause__ = error
    >>> [type(each).__name__ for each in causes(error)]
    ['ValueError', 'KeyError']
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "__cause__", None)


def _facts_of(error: Exception) -> tuple[Any, ...]:
    """Reduce an error whose arguments are keywords. A credential does not pickle; the rest is worth carrying."""
    state = {name: None if name == "credential" else value for name, value in vars(error).items()}
    return BaseException.__new__, (type(error), *error.args), state


def _describe(name: str, status: object) -> str:
    return name if status is None else f"{name}, status {status}"


def name_of(failure: Any) -> str:
    """Return the name of a failure's class, or of its cause's: a name from code, never a server's text.

    >>> name_of(ValueError("a secret")), name_of({"type": "error", "cause": TimeoutError()})
    ('ValueError', 'TimeoutError')
    """
    if isinstance(failure, RefreshFailed):
        return failure.type
    cause = failure if isinstance(failure, BaseException) else field(failure, "cause")
    return type(cause if isinstance(cause, BaseException) else failure).__name__


def field(value: Any, name: str) -> Any:
    """Return the attribute of that name, or a mapping's value; `None` if there is none or if it cannot be had."""
    if value is None:
        return None
    try:
        # `dict` first: to ask an abstract class costs more than all the rest, and thousands may fail together.
        return value.get(name) if isinstance(value, (dict, Mapping)) else getattr(value, name, None)
    except Exception:  # a foreign property may raise anything
        return None


def _name_and_status(failure: Any) -> str:
    if failure is None:
        return "it completed without an event that counts"
    cause = field(failure, "cause")
    kind = None if isinstance(failure, BaseException) or isinstance(cause, BaseException) else field(failure, "type")
    name = kind if isinstance(kind, str) and kind.replace(".", "_").isidentifier() else name_of(failure)
    parts = (failure, cause, field(failure, "error"), field(failure, "response"))
    found = (field(part, word) for part in parts for word in ("status", "status_code", "code"))
    return _describe(name, next((each for each in found if isinstance(each, int) and 400 <= each <= 599), None))
