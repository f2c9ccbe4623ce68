"""OpenTelemetry for recovered streams: a span for the call, its attempts as children, the time to the first chunk.

    stream = trace_call(
        lambda listener: source.pipe(recover_auth(refresh, on_recovery=listener)), provider="anthropic", model="claude"
    )

    chat claude     |----------------------------|      gen_ai.provider.name, gen_ai.request.model
      attempt 1     |-----|                             error.type CredentialRejected, status 401
      attempt 2               |------------------|

Install the extra: `pip install 'rxauth[otel]'`. Only this module imports opentelemetry.

Names follow the GenAI conventions of OpenTelemetry's semantic conventions 1.41.1, status *development*. From 1.42 on
they are kept in a repository of their own, semantic-conventions-genai, whose first release (0.1.0) calls the metric
`gen_ai.client.inference.time_to_first_chunk`.

Neither spans nor metrics hold an error's text, a prompt, an answer or a token: only names of classes and statuses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeAlias, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxauth._version import __version__
from rxauth.errors import RefreshFailed
from rxauth.failures import name_of, status_of, type_of
from rxauth.recovery import AuthRejected, RecoveryEvent, Resubscribed, RetryScheduled

__all__ = ["trace_call"]

E = TypeVar("E")

Listener: TypeAlias = Callable[[RecoveryEvent | RetryScheduled], None]

_SCHEMA = "https://opentelemetry.io/schemas/1.41.1"
_TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_NO_CHUNK = frozenset({"start", "ping", "error"})


def trace_call(
    build: Callable[[Listener], Observable[E]],
    *,
    provider: str,
    model: str | None = None,
    operation: str = "chat",
    is_chunk: Callable[[E], bool] = lambda event: type_of(event) not in _NO_CHUNK,
    is_error: Callable[[E], bool] = lambda event: type_of(event) == "error",
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Observable[E]:
    """Trace each subscription of a recovered stream as one call.

    Args:
        build: makes the stream; it is given a function for `on_recovery` of the recovery and `on_retry` of
            `retry_never_live`.
        provider: the `gen_ai.provider.name`, such as `anthropic` or `openai`.
        model: the `gen_ai.request.model`.
        operation: the `gen_ai.operation.name`.
        is_chunk: whether an event is a part of the answer: the first one is timed.
        is_error: whether an event is a failure.
        tracer_provider: by default the global one.
        meter_provider: by default the global one.
        clock: seconds, for the metric.

    Returns:
        The stream, unchanged. Its span ends with the stream, and on dispose.

    >>> import reactivex as rx
    >>> answer = rx.of({"type": "start"}, {"type": "text_delta", "delta": "hi"})
    >>> _ = trace_call(lambda listener: answer, provider="openai", model="m").subscribe(print)
    {'type': 'start'}
    {'type': 'text_delta', 'delta': 'hi'}
    """
    tracer = trace.get_tracer("rxauth", __version__, tracer_provider, schema_url=_SCHEMA)
    meter = metrics.get_meter("rxauth", __version__, meter_provider, schema_url=_SCHEMA)
    histogram = meter.create_histogram(
        _TIME_TO_FIRST_CHUNK,
        unit="s",
        description="Seconds from the request to the first chunk of a streamed response, recoveries included.",
        explicit_bucket_boundaries_advisory=_SECONDS,
    )
    attributes = {"gen_ai.operation.name": operation, "gen_ai.provider.name": provider}
    if model is not None:
        attributes["gen_ai.request.model"] = model

    def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        name = f"{operation} {model}" if model is not None else operation
        call = _Call(tracer, tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes))
        began = clock()

        def on_next(event: E) -> None:
            if is_error(event):
                call.fail(event)
            elif not call.answered and is_chunk(event):
                call.answered = True
                histogram.record(clock() - began, attributes)
            observer.on_next(event)

        def on_error(error: Exception) -> None:
            call.fail(error)
            call.end()
            observer.on_error(error)

        def on_completed() -> None:
            call.end()
            observer.on_completed()

        try:
            subscription = build(call.listen).subscribe(on_next, on_error, on_completed, scheduler=scheduler)
        except BaseException:
            call.end()
            raise
        return CompositeDisposable(subscription, Disposable(call.end))

    return Observable(subscribe)


class _Call:
    """The spans of one subscription."""

    def __init__(self, tracer: trace.Tracer, span: Span) -> None:
        self.answered = False
        self._tracer = tracer
        self._span = span
        self._count = 0
        self._attempt: Span
        self._starts_at = 0
        self._begin_attempt()

    def listen(self, value: RecoveryEvent | RetryScheduled) -> None:
        """Receive what the operators report."""
        fields = {"type": value.type, "status": value.status} if isinstance(value, RefreshFailed) else asdict(value)
        attributes = {f"rxauth.{name}": each for name, each in fields.items() if each is not None}
        self._span.add_event(f"rxauth.{type(value).__name__}", attributes)
        if isinstance(value, AuthRejected | RetryScheduled):
            self._end_attempt(value.type, value.status)
        if isinstance(value, RetryScheduled | Resubscribed):
            self._begin_attempt(after=getattr(value, "delay", 0.0))

    def fail(self, failure: Any) -> None:
        """Mark the call, and the attempt under way, as failed."""
        self._mark(self._span, name_of(failure), status_of(failure))
        self._end_attempt(name_of(failure), status_of(failure))

    def end(self) -> None:
        self._end_attempt()
        if self._span.is_recording():
            self._span.end()

    def _begin_attempt(self, after: float = 0.0) -> None:
        self._count += 1
        self._starts_at = time.time_ns() + int(after * 1e9)
        self._attempt = self._tracer.start_span(
            f"attempt {self._count}",
            trace.set_span_in_context(self._span),
            attributes={"rxauth.attempt": self._count},
            start_time=self._starts_at,
        )

    def _end_attempt(self, type: str | None = None, status: int | None = None) -> None:
        if not self._attempt.is_recording():
            return
        if type is not None:
            self._mark(self._attempt, type, status)
        self._attempt.end(max(time.time_ns(), self._starts_at))  # disposed while it waited, it had not begun

    @staticmethod
    def _mark(span: Span, type: str, status: int | None) -> None:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", type)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
