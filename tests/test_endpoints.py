"""Where a command asks, and with which credential."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rxauth import CredentialSource, FileStore, LoginRequired, StaticCredentials, StoreError, recover_auth
from rxauth import __version__ as version
from rxauth.endpoints import Endpoint, find_credential, identity, oauth_app, real_endpoint, statuses
from rxauth.events import AssistantEvent, Block, Done, Text, Thinking
from rxauth.providers import ANTHROPIC, KIMI, OPENAI, PROVIDERS, Provider
from rxauth.testing import FakeProvider, Reply

from .recipes.dead_token import ANSWER, everything

KIMI_APP = KIMI.oauth
assert KIMI_APP is not None
CLIENT_ID = KIMI_APP.client_id

KIMI_401 = {
    "error": {
        "type": "authentication_error",
        "message": "The API Key appears to be invalid or may have expired. "
        "Please verify your credentials and try again.",
    },
    "type": "error",
}

PLAN_LIMITS = [
    "Your current subscription does not have access to K3",
    "current plan supports only kimi-k3 up to 256k context",
]

both_formats = pytest.mark.parametrize("protocol", ["anthropic-messages", "openai-chat"])


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a person who has nothing yet."""
    return {"HOME": str(tmp_path), "RXAUTH_HOME": str(tmp_path / "rxauth")}


async def endpoint(environ: Mapping[str, str], provider: str | None = "kimi", **flags: Any) -> Endpoint:
    given = {"base_url": None, "protocol": None, "model": None, "credentials": None} | flags
    return await real_endpoint(environ, provider=provider, **given)


async def token(endpoint: Endpoint) -> str:
    return (await endpoint.credentials.current()).access_token


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return path


def ours(home: Mapping[str, str], access: str = "ours", refresh: str = "r", **more: Any) -> Path:
    entry = {"access_token": access, "refresh_token": refresh, **more}
    return write(Path(home["RXAUTH_HOME"]) / "credentials.json", {"kimi": entry})


def of_pi(home: Mapping[str, str], access: str = "of pi", refresh: str = "r", **more: Any) -> Path:
    entry = {"type": "oauth", "access": access, "refresh": refresh, "expires": (time.time() + 900) * 1000, **more}
    return write(
        Path(home["HOME"]) / ".pi/agent/auth.json", {"other": {"type": "api_key", "key": "k"}, "kimi-coding": entry}
    )


def of_kimi_code(home: Mapping[str, str], access: str = "of kimi-code", refresh: str = "r", **more: Any) -> Path:
    return write(Path(home["HOME"]) / ".kimi-code/credentials/kimi-code.json", kimi_file(access, refresh, **more))


def of_kimi_cli(home: Mapping[str, str], access: str = "of kimi-cli", refresh: str = "r", **more: Any) -> Path:
    return write(Path(home["HOME"]) / ".kimi/credentials/kimi-code.json", kimi_file(access, refresh, **more))


def kimi_file(access: str, refresh: str, **more: Any) -> dict[str, Any]:
    times = {"expires_at": time.time() + 900, "expires_in": 900}
    return {"access_token": access, "refresh_token": refresh, "scope": "", "token_type": "Bearer", **times, **more}


class TestWhere:
    @pytest.mark.parametrize(
        ("provider", "flags", "says"),
        [
            pytest.param("kimmi", {}, "choose anthropic, fake, kimi, openai", id="an unknown provider names the known"),
            pytest.param(None, {}, "--provider anthropic|fake|kimi|openai, or --base-url", id="nothing at all"),
            pytest.param(None, {"base_url": "ftp://a"}, "not an http(s) URL", id="a URL of something else"),
            pytest.param(
                "anthropic", {"protocol": "openai-chat"}, "speaks anthropic-messages", id="a format it does not speak"
            ),
        ],
    )
    async def test_flags_that_do_not_say_it_are_refused(
        self, home: dict[str, str], provider: str | None, flags: Any, says: str
    ) -> None:
        with pytest.raises(ValueError, match=says.replace("(", r"\(").replace(")", r"\)").replace("|", r"\|")):
            await endpoint(home, provider, **flags)

    @pytest.mark.parametrize(
        ("variable", "anthropic", "openai"),
        [
            (None, "https://api.kimi.com/coding", "https://api.kimi.com/coding/v1"),
            ("", "https://api.kimi.com/coding", "https://api.kimi.com/coding/v1"),
            ("https://proxy/coding/v1", "https://proxy/coding", "https://proxy/coding/v1"),
            ("https://proxy/coding/v1/", "https://proxy/coding", "https://proxy/coding/v1"),
            ("https://proxy/coding", "https://proxy/coding", "https://proxy/coding/v1"),
            (" https://proxy ", "https://proxy", "https://proxy/v1"),
        ],
    )
    async def test_one_variable_moves_both_formats_of_kimi(
        self, home: dict[str, str], variable: str | None, anthropic: str, openai: str
    ) -> None:
        environ = home | {"KIMI_API_KEY": "k"} | ({} if variable is None else {"KIMI_CODE_BASE_URL": variable})
        assert (await endpoint(environ)).base_url == anthropic
        assert (await endpoint(environ, protocol="openai-chat")).base_url == openai

    @pytest.mark.parametrize("url", ["api.kimi.com", "http://api.kimi.com", "https://", "https://me:secret@host"])
    async def test_a_variable_that_holds_no_url_for_tokens_is_named(self, home: dict[str, str], url: str) -> None:
        with pytest.raises(ValueError, match="KIMI_CODE_BASE_URL"):
            await endpoint(home | {"KIMI_API_KEY": "k", "KIMI_CODE_BASE_URL": url})
        with pytest.raises(ValueError, match="KIMI_OAUTH_HOST"):
            oauth_app({"KIMI_OAUTH_HOST": url}, KIMI)

    async def test_a_flag_moves_it_before_the_variable(self, home: dict[str, str]) -> None:
        environ = home | {"KIMI_API_KEY": "k", "KIMI_CODE_BASE_URL": "https://variable"}
        assert (await endpoint(environ, base_url="https://flag")).base_url == "https://flag"

    @pytest.mark.parametrize(
        ("environ", "host"),
        [
            ({}, "https://auth.kimi.com"),
            ({"KIMI_CODE_OAUTH_HOST": "https://one/"}, "https://one"),
            ({"KIMI_OAUTH_HOST": "https://two"}, "https://two"),
            ({"KIMI_CODE_OAUTH_HOST": "https://one", "KIMI_OAUTH_HOST": "https://two"}, "https://one"),
            ({"KIMI_CODE_OAUTH_HOST": " ", "KIMI_OAUTH_HOST": "https://two"}, "https://two"),
        ],
        ids=str,
    )
    def test_one_variable_moves_both_endpoints_of_the_login(self, environ: dict[str, str], host: str) -> None:
        app = oauth_app(environ, KIMI)
        assert app is not None
        assert app.device_url == f"{host}/api/oauth/device_authorization"
        assert app.token_url == f"{host}/api/oauth/token"
        assert app.client_id == CLIENT_ID

    def test_there_is_no_login_where_there_are_only_keys(self) -> None:
        assert oauth_app({}, ANTHROPIC) is None
        assert oauth_app({}, OPENAI) is None

    @pytest.mark.parametrize(
        ("url", "protocol", "preset", "spoken"),
        [
            ("https://api.anthropic.com", None, ANTHROPIC, "anthropic-messages"),
            ("https://api.openai.com/v1/", None, OPENAI, "openai-chat"),
            ("https://api.kimi.com/coding/v1", "openai-chat", KIMI, "openai-chat"),
        ],
    )
    async def test_a_url_that_a_preset_knows_is_that_preset(
        self, home: dict[str, str], url: str, protocol: Any, preset: Provider, spoken: str
    ) -> None:
        found = await endpoint(home | {"RXAUTH_TOKEN": "t"}, None, base_url=url, protocol=protocol)
        assert (found.provider, found.protocol, found.base_url) == (preset, spoken, url)

    async def test_any_other_url_needs_no_preset(self, home: dict[str, str]) -> None:
        environ = home | {"RXAUTH_TOKEN": "t"}
        found = await endpoint(environ, None, base_url="https://x/v1", protocol="openai-chat", model="m")
        assert (found.protocol, found.base_url, found.model) == ("openai-chat", "https://x/v1", "m")
        assert (found.headers, found.provider.auth_header) == ({}, "authorization")


class TestWithWhichCredential:
    @pytest.mark.parametrize(
        ("variables", "files", "expected"),
        [
            pytest.param(
                {"RXAUTH_TOKEN": "given", "KIMI_API_KEY": "key"}, [ours, of_pi], "given", id="RXAUTH_TOKEN first"
            ),
            pytest.param({"KIMI_API_KEY": "key"}, [ours, of_pi], "key", id="then the provider's own variable"),
            pytest.param({}, [ours, of_pi, of_kimi_code, of_kimi_cli], "ours", id="then ours"),
            pytest.param({}, [of_pi, of_kimi_code, of_kimi_cli], "of pi", id="then pi's"),
            pytest.param({}, [of_kimi_code, of_kimi_cli], "of kimi-code", id="then kimi-code's"),
            pytest.param({}, [of_kimi_cli], "of kimi-cli", id="then kimi-cli's"),
            pytest.param({"RXAUTH_TOKEN": " "}, [of_kimi_cli], "of kimi-cli", id="a blank variable is none"),
        ],
    )
    async def test_the_first_that_is_there(
        self, home: dict[str, str], variables: dict[str, str], files: list[Callable[..., Path]], expected: str
    ) -> None:
        for file in files:
            file(home)
        assert await token(await endpoint(home | variables)) == expected

    @pytest.mark.parametrize(
        ("variable", "file", "elsewhere"),
        [
            ("PI_CODING_AGENT_DIR", of_pi, ".pi/agent"),
            ("KIMI_CODE_HOME", of_kimi_code, ".kimi-code"),
            ("KIMI_SHARE_DIR", of_kimi_cli, ".kimi"),
        ],
    )
    async def test_other_programs_keep_them_where_their_variables_say(
        self, home: dict[str, str], tmp_path: Path, variable: str, file: Callable[..., Path], elsewhere: str
    ) -> None:
        file({"HOME": str(tmp_path / "moved")}, access="moved")
        found = await endpoint(home | {variable: str(tmp_path / "moved" / elsewhere)})
        assert await token(found) == "moved"

    async def test_a_key_that_was_given_is_never_replaced_by_a_stored_token(self, home: dict[str, str]) -> None:
        ours(home)
        found = await endpoint(home | {"KIMI_API_KEY": "key"})
        credentials: CredentialSource = found.credentials
        assert await credentials.refresh(RuntimeError("401")) is None
        assert "KIMI_API_KEY" in found.next_action

    async def test_a_stored_token_that_cannot_be_refreshed_is_used_as_it_is(self, home: dict[str, str]) -> None:
        ours(home, refresh="")
        assert isinstance((await endpoint(home)).credentials, StaticCredentials)

    async def test_what_another_program_keeps_badly_does_not_hide_what_the_next_keeps_well(
        self, home: dict[str, str]
    ) -> None:
        write(Path(home["HOME"]) / ".pi/agent/auth.json", '{"kimi-coding": {"type": "oauth", "access": 5}}')
        of_kimi_cli(home)
        assert await token(await endpoint(home)) == "of kimi-cli"
        (pi, cli) = await statuses(home)
        assert pi.trouble is not None
        assert cli.trouble is None

    async def test_if_nothing_else_is_there_it_is_told(self, home: dict[str, str]) -> None:
        write(Path(home["HOME"]) / ".pi/agent/auth.json", '{"kimi-coding": {"type": "oauth", "access": 5}}')
        with pytest.raises(StoreError, match=r"auth\.json"):
            await endpoint(home)

    async def test_what_we_keep_badly_is_told_whatever_others_keep(self, home: dict[str, str]) -> None:
        write(Path(home["RXAUTH_HOME"]) / "credentials.json", "{")
        of_pi(home)
        with pytest.raises(StoreError, match=r"credentials\.json"):
            await endpoint(home)

    async def test_an_api_key_in_pis_file_is_no_login(self, home: dict[str, str]) -> None:
        write(Path(home["HOME"]) / ".pi/agent/auth.json", {"kimi-coding": {"type": "api_key", "key": "k"}})
        with pytest.raises(LoginRequired, match="rxauth login kimi"):
            await endpoint(home)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that nobody has listed")
    async def test_without_a_home_directory_there_are_no_other_programs_to_share_with(
        self, home: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HOME")
        real = os.getuid()
        os.setreuid(54321, -1)  # as in a container
        try:
            with pytest.raises(LoginRequired):
                await endpoint({"RXAUTH_HOME": home["RXAUTH_HOME"]})
            with pytest.raises(StoreError, match="Set RXAUTH_HOME"):
                await endpoint({})
        finally:
            os.setreuid(real, -1)

    async def test_only_kimis_are_shared(self, home: dict[str, str]) -> None:
        of_pi(home)
        assert await find_credential(home, OPENAI, None) is None
        with pytest.raises(LoginRequired, match="OPENAI_API_KEY"):
            await endpoint(home, "openai")


class TestWhoWeSayWeAre:
    def test_kimi_is_told_by_its_own_headers_and_honestly(self, home: dict[str, str]) -> None:
        headers = identity(home, KIMI)
        assert set(headers) == {
            f"X-Msh-{each}"
            for each in ("Platform", "Version", "Device-Name", "Device-Model", "Os-Version", "Device-Id")
        }
        assert (headers["X-Msh-Platform"], headers["X-Msh-Version"]) == ("rxauth", version)
        assert all(each and each.isascii() and each.isprintable() for each in headers.values())

    def test_the_device_is_the_same_each_time(self, home: dict[str, str]) -> None:
        first, second = (identity(home, KIMI)["X-Msh-Device-Id"] for _ in range(2))
        assert first == second

    @pytest.mark.parametrize("kept", ["", "two\nlines", "\u00fc" * 8, "a b", "a" * 1000])
    def test_a_device_id_that_no_header_takes_is_replaced(self, home: dict[str, str], kept: str) -> None:
        path = write(Path(home["RXAUTH_HOME"]) / "device_id", kept)
        made = identity(home, KIMI)["X-Msh-Device-Id"]
        assert made.isascii()
        assert path.read_text().strip() == made

    def test_a_home_that_cannot_be_written_is_no_reason_to_fail(self, home: dict[str, str]) -> None:
        write(Path(home["RXAUTH_HOME"]), "a file where the directory should be")
        assert identity(home, KIMI)["X-Msh-Device-Id"]

    def test_others_are_told_nothing(self, home: dict[str, str]) -> None:
        assert identity(home, ANTHROPIC) == identity(home, OPENAI) == {}
        assert not Path(home["RXAUTH_HOME"]).exists()


class Kimi:
    """A provider at Kimi's paths, the environment that leads there, and a person who is logged in."""

    def __init__(self, fake: FakeProvider, home: Mapping[str, str], keep: Callable[..., Path] = ours) -> None:
        self.fake = fake
        credential = fake.credential()
        self.environ = {**home, "KIMI_CODE_BASE_URL": fake.url + "/coding/v1", "KIMI_CODE_OAUTH_HOST": fake.url}
        self.file = keep(home, credential.access_token, credential.refresh_token, mine="kept")

    async def ask(self, protocol: str = "anthropic-messages") -> list[AssistantEvent]:
        found = await endpoint(self.environ, protocol=protocol)
        return await everything(found.stream("hello", 99).pipe(recover_auth(found.credentials.refresh)))


def shape(events: list[AssistantEvent]) -> tuple[str, str, int]:
    types = [event.type for event in events]
    return types[0], types[-1], types.count("start")


class TestKimi:
    @both_formats
    async def test_its_401_is_recovered_from_and_nobody_notices(self, home: dict[str, str], protocol: str) -> None:
        reply = Reply(status=401, body=KIMI_401)
        async with FakeProvider(answer=ANSWER, client_id=CLIENT_ID, replies=[reply]) as fake:
            events = await Kimi(fake, home).ask(protocol)
            assert shape(events) == ("start", "done", 1)
            assert isinstance(events[-1], Done)
            assert events[-1].message.text == ANSWER
            assert [len(fake.api_requests), len(fake.token_requests)] == [2, 1]

    @both_formats
    @pytest.mark.parametrize("message", PLAN_LIMITS)
    async def test_its_401_about_a_plan_is_shown_and_spends_no_refresh_token(
        self, home: dict[str, str], protocol: str, message: str
    ) -> None:
        error = {"error": {"type": "authentication_error", "message": message}, "type": "error"}
        async with FakeProvider(client_id=CLIENT_ID, replies=[Reply(status=401, body=error)]) as fake:
            kimi = Kimi(fake, home)
            before = kimi.file.read_bytes()
            events = await kimi.ask(protocol)
            assert [event.type for event in events] == ["start", "error"]
            assert message in str(getattr(events[-1], "cause", None))
            assert (len(fake.api_requests), fake.token_requests) == (1, [])
            assert kimi.file.read_bytes() == before

    @both_formats
    async def test_every_request_says_who_we_are(self, home: dict[str, str], protocol: str) -> None:
        async with FakeProvider(answer=ANSWER, client_id=CLIENT_ID) as fake:
            kimi = Kimi(fake, home)
            fake.invalidate()
            await kimi.ask(protocol)
            assert len(fake.requests) == 3
            devices = {each.headers["X-Msh-Device-Id"] for each in fake.requests}
            assert {each.headers["X-Msh-Platform"] for each in fake.requests} == {"rxauth"}
            assert len(devices) == 1

    @both_formats
    async def test_the_path_of_each_format_is_its_own(self, home: dict[str, str], protocol: str) -> None:
        async with FakeProvider(client_id=CLIENT_ID) as fake:
            await Kimi(fake, home).ask(protocol)
            path = "/coding/v1/messages" if protocol == "anthropic-messages" else "/coding/v1/chat/completions"
            assert [each.path for each in fake.requests] == [path]
            assert fake.requests[0].json()["model"] == "kimi-for-coding"

    @both_formats
    async def test_a_block_that_it_makes_up_for_an_answer_without_text_is_not_shown(
        self, home: dict[str, str], protocol: str
    ) -> None:
        answer: list[Block] = [Thinking("Hm."), Text("(Empty response: the model only thought)")]
        async with FakeProvider(answer=answer, client_id=CLIENT_ID) as fake:
            events = await Kimi(fake, home).ask(protocol)
            assert isinstance(events[-1], Done)
            assert events[-1].message.text == ""
            assert not [event for event in events if event.type.startswith("text")]
            assert [event.type for event in events].count("thinking_delta") == 1

    async def test_others_make_up_nothing_so_nothing_is_dropped(self, home: dict[str, str]) -> None:
        async with FakeProvider(answer="(Empty response: I said so)", api_keys=["k"]) as fake:
            found = await endpoint(home | {"RXAUTH_TOKEN": "k"}, None, base_url=fake.url)
            *_, done = await everything(found.stream("hello", 99))
            assert isinstance(done, Done)
            assert done.message.text == "(Empty response: I said so)"

    @pytest.mark.parametrize("keep", [ours, of_pi, of_kimi_code, of_kimi_cli])
    async def test_a_refreshed_credential_goes_back_to_where_it_came_from(
        self, home: dict[str, str], keep: Callable[..., Path]
    ) -> None:
        async with FakeProvider(answer=ANSWER, client_id=CLIENT_ID) as fake:
            kimi = Kimi(fake, home, keep)
            before = kimi.file.read_text()
            fake.invalidate()
            assert shape(await kimi.ask()) == ("start", "done", 1)
            assert shape(await kimi.ask()) == ("start", "done", 1)
            assert (len(fake.api_requests), len(fake.token_requests)) == (3, 1)
            accepted = fake.api_requests[-1].token
            assert accepted
            after = kimi.file.read_text()
            assert accepted in after
            assert accepted not in before
            assert '"mine": "kept"' in after.replace('":"', '": "')
            own = Path(home["RXAUTH_HOME"]) / "credentials.json"
            assert own.exists() == (keep is ours)


# The whole story, as real processes ----------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(answer="Welcome.", interval=0.01, client_id=CLIENT_ID) as provider:
        yield provider


def command(*args: str, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("HOME", "RXAUTH_HOME")}
    clean = {name: value for name, value in inherited.items() if not name.startswith(("KIMI", "PI_", "RXAUTH"))}
    return subprocess.Popen(
        [sys.executable, "-m", "rxauth", *args],
        env=clean | dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


@both_formats
def test_login_and_stream_are_the_whole_story(fake: FakeProvider, home: dict[str, str], protocol: str) -> None:
    environ = home | {"KIMI_CODE_OAUTH_HOST": fake.url, "KIMI_CODE_BASE_URL": fake.url + "/coding/v1"}
    with command("login", "kimi", "--no-browser", environ=environ) as login:
        assert login.stderr is not None
        login.stderr.readline()
        login.stderr.readline()
        fake.approve()
        code, said, _ = ended(login)
    assert (code, "Logged in at kimi" in said) == (0, True)
    fake.invalidate()

    args = ["stream", "--provider", "kimi", "--protocol", protocol, "--json", "hello"]
    code, said, errors = ended(command(*args, environ=environ))
    assert (code, errors) == (0, "")
    events = [json.loads(line) for line in said.splitlines()]
    types = [event["type"] for event in events]
    assert (types[0], types[-1], types.count("start")) == ("start", "done", 1)
    assert "".join(event["delta"] for event in events if event["type"] == "text_delta") == "Welcome."

    assert [each.status for each in fake.api_requests] == [401, 200]
    grants = [each.form()["grant_type"] for each in fake.token_requests]
    assert grants[-1] == ["refresh_token"]
    assert grants.count(["refresh_token"]) == 1
    stored = asyncio.run(FileStore(home["RXAUTH_HOME"] + "/credentials.json", "kimi").load())
    assert stored is not None
    assert stored.access_token == fake.api_requests[-1].token


def test_two_streams_at_once_spend_one_refresh_token(fake: FakeProvider, home: dict[str, str]) -> None:
    kimi = Kimi(fake, home)
    fake.invalidate()
    args = ["stream", "--provider", "kimi", "hello"]
    for process in [command(*args, environ=kimi.environ) for _ in range(2)]:
        assert ended(process) == (0, "Welcome.\n", "")
    assert len(fake.token_requests) == 1


@pytest.mark.parametrize("message", PLAN_LIMITS)
def test_a_plan_that_does_not_suffice_is_told_in_one_sentence(home: dict[str, str], message: str) -> None:
    error = {"error": {"type": "authentication_error", "message": message}, "type": "error"}
    with FakeProvider(client_id=CLIENT_ID, replies=[Reply(status=401, body=error)]) as fake:
        code, said, errors = ended(command("stream", "--provider", "kimi", "hello", environ=Kimi(fake, home).environ))
        assert (code, said) == (1, "")
        assert errors.startswith(f"rxauth: {message}")
        assert "log in" not in errors.lower()
        assert fake.token_requests == []


def test_a_login_at_what_is_no_host_names_the_variable(home: dict[str, str]) -> None:
    code, said, errors = ended(command("login", "kimi", environ=home | {"KIMI_CODE_OAUTH_HOST": "auth.kimi.com"}))
    assert (code, said) == (2, "")
    assert errors.startswith("rxauth: KIMI_CODE_OAUTH_HOST is not an http(s) URL")


def test_an_unknown_provider_names_the_known_ones(home: dict[str, str]) -> None:
    code, _, errors = ended(command("stream", "--provider", "kimmi", "hello", environ=home))
    assert code == 2
    for name in PROVIDERS:
        assert name in errors
