"""The public surface: a name that comes or goes is a decision, not an accident."""

from __future__ import annotations

import subprocess
import sys

import rxauth

OPERATORS = {
    "buffer_until_live",
    "retry_on_first_auth_error",
    "flush_on_complete_or_error",
    "recover_auth",
    "switch_if_never_live",
    "limit_silence",
    "retry_never_live",
    "suppress_empty_response",
    "is_auth_error",
}
BRIDGE = {"from_async_iterable", "to_async_iterable"}
EVENTS = {"AssistantEvent", "AssistantMessage", "Transcript", "collect_message"}
SOURCES = {"anthropic_messages", "openai_chat"}
MESSAGES = {"to_anthropic", "to_openai"}
CLIENTS = {"httpx_auth", "aiohttp_middleware"}
CREDENTIALS = {
    "Credential",
    "CredentialSource",
    "CredentialStore",
    "StaticCredentials",
    "OAuthCredentials",
    "MemoryStore",
    "FileStore",
    "PiStore",
    "KimiCodeStore",
    "KimiCliStore",
    "RedisStore",
}
RECOVERY = {
    "AuthRejected",
    "AuthFailedAfterLive",
    "RetryScheduled",
    "RefreshRetryScheduled",
    "Refreshed",
    "RefreshUnchanged",
    "RefreshFailed",
    "Resubscribed",
}
ERRORS = {
    "RxAuthError",
    "NeverLiveError",
    "ConsumerTooSlow",
    "TransientError",
    "CredentialError",
    "LoginRequired",
    "AccountChanged",
    "StoreError",
    "ProviderError",
    "CredentialRejected",
    "RequestRejected",
    "ProviderUnavailable",
    "ConnectionFailed",
    "StreamCut",
    "ProtocolError",
    "TranscriptNotSaved",
}


def test_these_are_the_public_names() -> None:
    assert set(rxauth.__all__) == (
        {"__version__"} | OPERATORS | BRIDGE | EVENTS | SOURCES | MESSAGES | CLIENTS | CREDENTIALS | RECOVERY | ERRORS
    )


def test_every_public_name_is_there() -> None:
    missing = [name for name in rxauth.__all__ if not hasattr(rxauth, name)]
    assert missing == []
    assert set(rxauth.__all__) <= set(dir(rxauth))


def test_the_modules_are_there_without_an_import_of_their_own() -> None:
    code = "import rxauth; print(rxauth.failures.status(401), rxauth.testing.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "status(401) rxauth.testing"


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(rxauth, "no_such_name")


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, rxauth; print([name for name in sys.argv[1:] if name in sys.modules])"
    heavy = [
        "aiohttp",
        "tenacity",
        "msgspec",
        "filelock",
        "redis",
        "rxauth.credentials",
        "rxauth.sources",
        "argparse",
        "reactivex",
    ]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
