"""The public names and the modules that hold them. rxauth/__init__.py reads them from here."""

from rxauth.operators import (
    buffer_until_live as buffer_until_live,
    retry_on_first_auth_error as retry_on_first_auth_error,
    flush_on_complete_or_error as flush_on_complete_or_error,
    recover_auth as recover_auth,
    switch_if_never_live as switch_if_never_live,
    limit_silence as limit_silence,
    retry_never_live as retry_never_live,
    suppress_empty_response as suppress_empty_response,
)
from rxauth.failures import (
    is_auth_error as is_auth_error,
)
from rxauth.bridge import (
    from_async_iterable as from_async_iterable,
    to_async_iterable as to_async_iterable,
)
from rxauth.events import (
    AssistantEvent as AssistantEvent,
    AssistantMessage as AssistantMessage,
)
from rxauth.messages import (
    to_anthropic as to_anthropic,
    to_openai as to_openai,
)
from rxauth.transcript import (
    Transcript as Transcript,
    collect_message as collect_message,
)
from rxauth.sources import (
    anthropic_messages as anthropic_messages,
    openai_chat as openai_chat,
)
from rxauth.credentials import (
    Credential as Credential,
    CredentialSource as CredentialSource,
    CredentialStore as CredentialStore,
    StaticCredentials as StaticCredentials,
    OAuthCredentials as OAuthCredentials,
    MemoryStore as MemoryStore,
    FileStore as FileStore,
    PiStore as PiStore,
    KimiCodeStore as KimiCodeStore,
    KimiCliStore as KimiCliStore,
    RedisStore as RedisStore,
)
from rxauth.clients import (
    httpx_auth as httpx_auth,
    aiohttp_middleware as aiohttp_middleware,
)
from rxauth.recovery import (
    AuthRejected as AuthRejected,
    AuthFailedAfterLive as AuthFailedAfterLive,
    RefreshRetryScheduled as RefreshRetryScheduled,
    Refreshed as Refreshed,
    RefreshUnchanged as RefreshUnchanged,
    Resubscribed as Resubscribed,
    RetryScheduled as RetryScheduled,
)
from rxauth.errors import (
    RxAuthError as RxAuthError,
    NeverLiveError as NeverLiveError,
    ConsumerTooSlow as ConsumerTooSlow,
    TransientError as TransientError,
    CredentialError as CredentialError,
    LoginRequired as LoginRequired,
    AccountChanged as AccountChanged,
    RefreshFailed as RefreshFailed,
    StoreError as StoreError,
    ProviderError as ProviderError,
    CredentialRejected as CredentialRejected,
    RequestRejected as RequestRejected,
    ProviderUnavailable as ProviderUnavailable,
    ConnectionFailed as ConnectionFailed,
    StreamCut as StreamCut,
    ProtocolError as ProtocolError,
    TranscriptNotSaved as TranscriptNotSaved,
)

__version__: str
__all__: list[str]
