"""The exceptions of real packages, made as the packages make them from an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rxauth.failures import is_auth_error, is_transient, rejected_credential, retry_after_of

from ..peers_needed import package

pytestmark = pytest.mark.peer


def of_sdk(name: str, status: int, body: Any, **headers: str) -> Callable[[], Any]:
    """The exception that the anthropic or openai client raises for an answer."""

    def make() -> Any:
        sdk, http = package(name), package("httpx2")
        client = sdk.Anthropic(api_key="k") if name == "anthropic" else sdk.OpenAI(api_key="k")
        request = http.Request("POST", "https://h/v1", headers={"Authorization": "Bearer rejected"})
        response = http.Response(status, json=body, headers=headers, request=request)
        return client._make_status_error_from_response(response)

    return make


def bedrock(error: str) -> Callable[[], Any]:
    return of_sdk("anthropic", 403, {}, **{"x-amzn-errortype": error})


def broken(name: str) -> Callable[[], Any]:
    """The exception that the anthropic or openai client raises where there is no answer."""
    return lambda: package(name).APIConnectionError(request=package("httpx2").Request("POST", "https://h/"))


def boto(code: str, status: int) -> Callable[[], Any]:
    parsed = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return lambda: package("botocore.exceptions").ClientError(parsed, "Converse")


def boto_unreachable() -> Any:
    return package("botocore.exceptions").EndpointConnectionError(endpoint_url="x")


def genai(status: int, word: str, *reasons: str) -> Callable[[], Any]:
    error = {"code": status, "message": "m", "status": word, "details": [{"reason": each} for each in reasons]}
    return lambda: package("google.genai.errors").APIError(status, {"error": error}, None)


def databricks(name: str, message: str = "m", code: str | None = None) -> Callable[[], Any]:
    return lambda: getattr(package("databricks.sdk.errors"), name)(message, error_code=code)


def grpc(status: str, details: str) -> Callable[[], Any]:
    def make() -> Any:
        aio = package("grpc.aio")
        return aio.AioRpcError(getattr(package("grpc").StatusCode, status), aio.Metadata(), aio.Metadata(), details)

    return make


def model_error(status: int, body: Any) -> Callable[[], Any]:
    return lambda: package("pydantic_ai.exceptions").ModelHTTPError(status, "m", body)


def fallback(*failures: Callable[[], Any]) -> Callable[[], Any]:
    module = "pydantic_ai.exceptions"
    return lambda: package(module).FallbackExceptionGroup("All models failed", [make() for make in failures])


OAUTH = {"type": "error", "error": {"type": "authentication_error", "message": "m"}}
KEY = {"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}}
BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}
REGION = {"error": {"message": "m", "type": "request_forbidden", "code": "unsupported_country_region_territory"}}


@pytest.mark.parametrize(
    ("make", "auth", "transient"),
    [
        pytest.param(of_sdk("anthropic", 401, OAUTH), True, False, id="anthropic 401"),
        pytest.param(of_sdk("anthropic", 529, BUSY), False, True, id="anthropic 529"),
        pytest.param(of_sdk("anthropic", 200, OAUTH), True, False, id="anthropic in-band"),
        pytest.param(of_sdk("anthropic", 403, OAUTH), True, False, id="anthropic 403 with an auth code"),
        pytest.param(bedrock("ExpiredTokenException:http://x"), True, False, id="bedrock header"),
        pytest.param(bedrock("AccessDeniedException"), False, False, id="bedrock denied"),
        pytest.param(broken("anthropic"), False, True, id="anthropic APIConnectionError"),
        pytest.param(of_sdk("openai", 401, KEY), True, False, id="openai 401"),
        pytest.param(of_sdk("openai", 403, REGION), False, False, id="openai region"),
        pytest.param(of_sdk("openai", 429, {"error": {"code": "insufficient_quota"}}), False, False, id="openai quota"),
        pytest.param(of_sdk("openai", 500, {}), False, True, id="openai 500"),
        pytest.param(broken("openai"), False, True, id="openai APIConnectionError"),
        *(
            pytest.param(lambda name=name: package("httpx2").__dict__[name]("m"), False, True, id=f"httpx2 {name}")
            for name in ("ConnectError", "ReadTimeout", "RemoteProtocolError")
        ),
        pytest.param(model_error(401, OAUTH), True, False, id="pydantic-ai 401"),
        pytest.param(model_error(429, BUSY), False, True, id="pydantic-ai 429"),
        pytest.param(fallback(model_error(401, OAUTH), model_error(401, KEY)), True, False, id="pydantic-ai fallback"),
        pytest.param(fallback(model_error(401, OAUTH), model_error(503, BUSY)), False, False, id="no agreement"),
        pytest.param(boto("ExpiredTokenException", 403), True, False, id="botocore expired"),
        pytest.param(boto("AccessDeniedException", 403), False, False, id="botocore denied"),
        pytest.param(boto("ThrottlingException", 429), False, True, id="botocore throttled"),
        pytest.param(boto_unreachable, False, True, id="botocore connect"),
        pytest.param(genai(400, "INVALID_ARGUMENT", "API_KEY_INVALID"), True, False, id="google-genai key"),
        pytest.param(genai(400, "INVALID_ARGUMENT"), False, False, id="google-genai argument"),
        pytest.param(genai(503, "UNAVAILABLE"), False, True, id="google-genai 503"),
        pytest.param(databricks("Unauthenticated"), True, False, id="databricks Unauthenticated"),
        pytest.param(databricks("PermissionDenied", "Invalid access token.", "403"), True, False, id="databricks: 403"),
        pytest.param(databricks("PermissionDenied"), False, False, id="databricks denied"),
        pytest.param(databricks("TemporarilyUnavailable"), False, True, id="databricks unavailable"),
        pytest.param(grpc("UNAUTHENTICATED", "m"), True, False, id="gRPC unauthenticated"),
        pytest.param(grpc("PERMISSION_DENIED", "m"), False, False, id="gRPC denied"),
        pytest.param(grpc("UNAVAILABLE", "Token has been expired or revoked."), False, True, id="gRPC quotes a token"),
    ],
)
def test_exception_of_a_real_package_is_judged(make: Callable[[], Any], auth: bool, transient: bool) -> None:
    failure = make()
    assert (is_auth_error(failure), is_transient(failure)) == (auth, transient)


@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_sdk_exception_names_credential_and_wait(name: str) -> None:
    failure = of_sdk(name, 429, BUSY, **{"retry-after": "7"})()
    rejected = rejected_credential(failure)
    assert rejected is not None
    assert (rejected.access_token, retry_after_of(failure)) == ("rejected", 7.0)
