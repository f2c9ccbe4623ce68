"""The public surface: a name that comes or goes is a decision, not an accident."""

from __future__ import annotations

import subprocess
import sys

import rxauth

NAMES = """
    __version__
    buffer_until_live retry_on_first_auth_error flush_on_complete_or_error recover_auth switch_if_never_live
    limit_silence retry_never_live suppress_empty_response is_auth_error
    from_async_iterable to_async_iterable
    AssistantEvent AssistantMessage Transcript collect_message
    anthropic_messages openai_chat
    to_anthropic to_openai
    httpx_auth aiohttp_middleware
    Credential CredentialSource CredentialStore StaticCredentials OAuthCredentials
    MemoryStore FileStore PiStore KimiCodeStore KimiCliStore RedisStore
    AuthRejected AuthFailedAfterLive RetryScheduled RefreshRetryScheduled Refreshed RefreshUnchanged Resubscribed
    RxAuthError NeverLiveError ConsumerTooSlow TransientError TranscriptNotSaved
    CredentialError LoginRequired AccountChanged RefreshFailed StoreError
    ProviderError CredentialRejected RequestRejected ProviderUnavailable ConnectionFailed StreamCut ProtocolError
"""
HEAVY = "aiohttp tenacity msgspec filelock redis rxauth.credentials rxauth.sources argparse reactivex"


def test_these_are_the_public_names() -> None:
    assert sorted(rxauth.__all__) == sorted(NAMES.split())
    assert [name for name in rxauth.__all__ if not hasattr(rxauth, name)] == []
    assert set(rxauth.__all__) <= set(dir(rxauth))
    assert not hasattr(rxauth, "no_such_name")


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, rxauth; print([name for name in sys.argv[1:] if name in sys.modules]);"
        "print(rxauth.failures.status(401), rxauth.testing.__name__)"  # modules come without an import of their own
    )
    command = [sys.executable, "-c", code, *HEAVY.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "status(401) rxauth.testing"]
