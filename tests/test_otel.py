"""Spans and the metric of a traced call, seen by the SDK's exporters in memory."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import reactivex as rx
import tenacity
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from reactivex import Observable

from rxauth import (
    MemoryStore,
    OAuthCredentials,
    RetryScheduled,
    anthropic_messages,
    buffer_until_live,
    flush_on_complete_or_error,
    otel,
    recover_auth,
    retry_never_live,
    retry_on_first_auth_error,
    to_async_iterable,
)
from rxauth.testing import FakeProvider, Reply

pytestmark = pytest.mark.peer

REQUEST = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}


class Telemetry:
    """Exporters in memory."""

    def __init__(self) -> None:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider(metric_readers=[self._metrics])
        self._seconds = iter(range(100))

    def trace(self, build: Any, **options: Any) -> Observable[Any]:
        return otel.trace_call(
            build,
            provider="anthropic",
            model="m",
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            clock=lambda: float(next(self._seconds)),
            **options,
        )

    def spans(self) -> list[tuple[str, dict[str, Any], str]]:
        """In the order of their beginnings: name, attributes, status."""
        spans = sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [(span.name, dict(span.attributes or {}), span.status.status_code.name) for span in spans]

    def raw(self) -> list[Any]:
        """In the order of their ends."""
        return list(self._spans.get_finished_spans())

    def time_to_first_chunk(self) -> list[tuple[dict[str, Any], int, float]]:
        data: Any = self._metrics.get_metrics_data()
        points: list[tuple[dict[str, Any], int, float]] = []
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    assert (metric.name, metric.unit) == ("gen_ai.client.operation.time_to_first_chunk", "s")
                    points += [(dict(each.attributes), each.count, each.sum) for each in metric.data.data_points]
        return points

    def everything(self) -> str:
        return "".join(span.to_json() for span in self.raw()) + str(self._metrics.get_metrics_data())


def signed_in(fake: FakeProvider) -> tuple[Observable[Any], OAuthCredentials]:
    store = MemoryStore(fake.credential())
    credentials = OAuthCredentials(store, token_url=fake.token_url, client_id=fake.client_id)
    return anthropic_messages(REQUEST, base_url=fake.url, credentials=credentials), credentials


CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "m"}
FAILED = {"error.type": "ProviderUnavailable", "http.response.status_code": 529}


async def test_a_recovered_call_is_one_span_with_two_attempts() -> None:
    seen = Telemetry()
    async with FakeProvider(answer="Hello.") as fake:
        source, credentials = signed_in(fake)
        secrets = [(await credentials.current()).access_token]
        fake.invalidate()
        stream = seen.trace(lambda listener: source.pipe(recover_auth(credentials.refresh, on_recovery=listener)))
        types = [event.type async for event in to_async_iterable(stream)]
        secrets += [(await credentials.current()).access_token, str((await credentials.current()).refresh_token)]
    assert types == ["start", "text_start", "text_delta", "text_end", "done"]
    rejected = {"rxauth.attempt": 1, "error.type": "CredentialRejected", "http.response.status_code": 401}
    assert seen.spans() == [
        ("chat m", CALL, "UNSET"),
        ("attempt 1", rejected, "ERROR"),
        ("attempt 2", {"rxauth.attempt": 2}, "UNSET"),
    ]
    call, *attempts = sorted(seen.raw(), key=lambda span: span.start_time)
    assert call.kind is SpanKind.CLIENT
    assert {span.parent.span_id for span in attempts} == {call.context.span_id}
    assert [event.name for event in call.events] == ["rxauth.AuthRejected", "rxauth.Refreshed", "rxauth.Resubscribed"]
    assert seen.time_to_first_chunk() == [(CALL, 1, 1.0)]
    assert not any(secret in seen.everything() for secret in secrets)


async def test_retries_are_attempts_and_failures_have_no_text() -> None:
    seen = Telemetry()
    async with FakeProvider(replies=[Reply(status=529, message="Bearer canary")] * 3) as fake:
        source, credentials = signed_in(fake)
        at_once = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))

        def build(listener: Any) -> Observable[Any]:
            steps: list[Any] = [
                buffer_until_live(),
                retry_on_first_auth_error(credentials.refresh, on_recovery=listener),
                retry_never_live(retrying=at_once, on_retry=listener),
                flush_on_complete_or_error(),
            ]
            return source.pipe(*steps)

        types = [event.type async for event in to_async_iterable(seen.trace(build))]
        assert types == ["start", "error"]
    assert seen.spans() == [
        ("chat m", CALL | FAILED, "ERROR"),
        *((f"attempt {number}", {"rxauth.attempt": number} | FAILED, "ERROR") for number in (1, 2, 3)),
    ]
    assert seen.time_to_first_chunk() == []
    assert "canary" not in seen.everything()


async def test_a_failed_refresh_is_an_event_without_its_text() -> None:
    seen = Telemetry()

    def refresh(failure: Any) -> Any:
        raise ValueError("canary")

    refused: Observable[Any] = rx.of({"type": "start"}, {"type": "error", "status": 401})
    seen.trace(lambda listener: refused.pipe(recover_auth(refresh, on_recovery=listener))).subscribe()
    [attempt, call] = seen.raw()
    assert [(event.name, dict(event.attributes)) for event in call.events][-1] == (
        "rxauth.RefreshFailed",
        {"rxauth.type": "ValueError"},
    )
    assert (attempt.name, attempt.status.status_code) == ("attempt 1", StatusCode.ERROR)
    assert "canary" not in seen.everything()


def test_an_exception_on_the_error_channel_ends_the_spans() -> None:
    seen, errors = Telemetry(), list[Any]()
    silent: Observable[Any] = rx.throw(TimeoutError("canary"))
    seen.trace(lambda _: silent).subscribe(on_error=errors.append)
    assert [type(error) for error in errors] == [TimeoutError]
    timed_out = {"error.type": "TimeoutError"}
    assert seen.spans() == [
        ("chat m", CALL | timed_out, "ERROR"),
        ("attempt 1", {"rxauth.attempt": 1} | timed_out, "ERROR"),
    ]
    assert "canary" not in seen.everything()


def test_dispose_ends_the_spans_without_an_error() -> None:
    seen = Telemetry()
    seen.trace(lambda _: rx.never()).subscribe().dispose()
    assert [(name, status) for name, _, status in seen.spans()] == [("chat m", "UNSET"), ("attempt 1", "UNSET")]


def test_an_attempt_disposed_before_it_began_has_no_length() -> None:
    seen, listeners = Telemetry(), list[Any]()

    def build(listener: Any) -> Observable[Any]:
        listeners.append(listener)
        return rx.never()

    subscription = seen.trace(build).subscribe()
    listeners[0](RetryScheduled(1, 60.0, "TimeoutError"))
    subscription.dispose()
    waited = next(span for span in seen.raw() if span.name == "attempt 2")
    assert waited.start_time == waited.end_time


def test_each_subscription_is_a_call_of_its_own() -> None:
    seen = Telemetry()
    stream = seen.trace(lambda _: rx.of({"type": "start"}, {"type": "text_delta"}))
    stream.subscribe()
    stream.subscribe()
    assert [name for name, _, _ in seen.spans()].count("chat m") == 2
    assert seen.time_to_first_chunk() == [(CALL, 2, 2.0)]


def test_the_example_runs_without_an_sdk() -> None:
    assert doctest.testmod(otel, optionflags=doctest.ELLIPSIS).failed == 0
