"""The authorization server without the HTTP: what RFC 6749 and RFC 8628 grant and refuse."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from rxauth.testing._fake_oauth import DEVICE_GRANT, FakeOAuth, OAuthError

REFRESH = {"grant_type": "refresh_token", "client_id": "client"}


def server(**options: Any) -> FakeOAuth:
    usual: dict[str, Any] = {
        "client_id": "client", "client_secret": None, "expires_in": 900, "rotate": True, "interval": 5, "extra": {},
        "clock": lambda: 0.0,
    }  # fmt: skip
    return FakeOAuth(**usual | options)


def ask(oauth: FakeOAuth, form: dict[str, str], now: float = 0, authorization: str | None = None) -> dict[str, Any]:
    return oauth.token({name: [value] for name, value in form.items()}, authorization, now)


def refresh(oauth: FakeOAuth, token: str | None, **more: str) -> dict[str, Any]:
    return ask(oauth, REFRESH | {"refresh_token": token or ""} | more)


def refused(
    oauth: FakeOAuth, form: dict[str, str], now: float = 0, authorization: str | None = None
) -> tuple[str, int]:
    with pytest.raises(OAuthError) as caught:
        ask(oauth, form, now, authorization)
    assert caught.value.body["error"] == caught.value.error
    return caught.value.error, caught.value.status


def test_reuse_of_a_refresh_token_ends_its_login_alone() -> None:
    oauth = server()
    one, other = oauth.credential(None), oauth.credential(None)
    newer = refresh(oauth, one.refresh_token)
    assert oauth.accepts(one.access_token), "a refresh does not kill the token it replaces"
    assert refused(oauth, REFRESH | {"refresh_token": one.refresh_token or ""}) == ("invalid_grant", 400)
    assert not oauth.accepts(newer["access_token"])
    assert not oauth.accepts(one.access_token)
    assert refused(oauth, REFRESH | {"refresh_token": newer["refresh_token"]}) == ("invalid_grant", 400)
    assert oauth.accepts(other.access_token)
    assert oauth.accepts(refresh(oauth, other.refresh_token)["access_token"])


def test_invalidate_ends_tokens_and_revoke_the_login() -> None:
    oauth = server()
    credential = oauth.credential(None)
    oauth.invalidate()
    assert not oauth.accepts(credential.access_token)
    newer = refresh(oauth, credential.refresh_token)
    assert oauth.accepts(newer["access_token"])
    oauth.revoke()
    assert not oauth.accepts(newer["access_token"])
    assert refused(oauth, REFRESH | {"refresh_token": newer["refresh_token"]}) == ("invalid_grant", 400)
    assert oauth.accepts(oauth.credential(None).access_token), "a new login is not concerned"


def test_without_rotation_no_refresh_token_is_returned() -> None:
    oauth = server(rotate=False)
    credential = oauth.credential(None)
    for _ in range(2):
        assert "refresh_token" not in refresh(oauth, credential.refresh_token)


def test_a_life_without_end_is_not_mentioned() -> None:
    oauth = server(expires_in=None, clock=lambda: 1e12)
    credential = oauth.credential(None)
    assert credential.expires_at is None
    assert oauth.accepts(credential.access_token)
    assert "expires_in" not in refresh(oauth, credential.refresh_token)


def test_seconds_are_whole_where_they_can_be() -> None:
    assert repr(refresh(o := server(expires_in=900.0), o.credential(None).refresh_token)["expires_in"]) == "900"
    assert refresh(o := server(expires_in=0.5), o.credential(None).refresh_token)["expires_in"] == 0.5


def test_a_login_knows_its_lifetime() -> None:
    assert server(expires_in=60.0).credential(None).extra == {"expires_in": 60}


def test_extra_fields_come_with_every_token() -> None:
    oauth = server(extra={"account_id": "a1"})
    credential = oauth.credential("read write")
    assert (credential.account_id, credential.scope) == ("a1", "read write")
    response = refresh(oauth, credential.refresh_token, scope="read")
    assert (response["account_id"], response["scope"]) == ("a1", "read write")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "client"}, ("invalid_request", 400)),
        ({"client_id": "client", "grant_type": "password"}, ("unsupported_grant_type", 400)),
        (REFRESH, ("invalid_request", 400)),
        (REFRESH | {"refresh_token": ""}, ("invalid_request", 400)),
        (REFRESH | {"refresh_token": "unknown"}, ("invalid_grant", 400)),
        (REFRESH | {"client_id": "other"}, ("invalid_client", 401)),
        ({"grant_type": "refresh_token"}, ("invalid_client", 401)),
        (REFRESH | {"client_secret": "for a public client"}, ("invalid_client", 401)),
        ({"client_id": "client", "grant_type": DEVICE_GRANT}, ("invalid_request", 400)),
        ({"client_id": "client", "grant_type": DEVICE_GRANT, "device_code": "x"}, ("invalid_grant", 400)),
    ],
    ids=lambda value: " ".join(map(str, value.items() if isinstance(value, dict) else value)),
)
def test_a_bad_request_has_the_error_of_the_rfc(form: dict[str, str], error: tuple[str, int]) -> None:
    assert refused(server(), form) == error


def test_a_parameter_that_is_there_twice_is_refused() -> None:
    oauth = server()
    token = oauth.credential(None).refresh_token or ""
    with pytest.raises(OAuthError, match="invalid_request"):
        oauth.token({"grant_type": ["refresh_token"] * 2, "refresh_token": [token], "client_id": ["client"]}, None, 0)


def test_a_scope_beyond_what_was_granted_is_refused() -> None:
    oauth = server()
    credential = oauth.credential("read")
    form = REFRESH | {"refresh_token": credential.refresh_token or "", "scope": "read write"}
    assert refused(oauth, form) == ("invalid_scope", 400)
    assert refresh(oauth, credential.refresh_token)["scope"] == "read", "nothing was spent"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("header", ["Bearer x", "Basic !", basic("client"), basic("client:no"), basic("other:secret")])
def test_a_wrong_authorization_header_is_refused(header: str) -> None:
    oauth = server(client_secret="secret")
    token = oauth.credential(None).refresh_token or ""
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert refused(oauth, form, 0, header) == ("invalid_client", 401)
    assert ask(oauth, form, 0, basic("client:secret"))


def test_a_client_authenticates_in_one_way_only() -> None:
    oauth = server(client_secret="secret")
    form = REFRESH | {"client_secret": "secret"}
    assert refused(oauth, form, 0, basic("client:secret")) == ("invalid_request", 400)


# Device logins.


def started(oauth: FakeOAuth, now: float = 0) -> dict[str, Any]:
    return oauth.device({"client_id": ["client"]}, None, now, "http://127.0.0.1/device")


def polled(oauth: FakeOAuth, login: dict[str, Any], now: float) -> str:
    try:
        ask(oauth, {"client_id": "client", "grant_type": DEVICE_GRANT, "device_code": login["device_code"]}, now)
    except OAuthError as error:
        return error.error
    return "granted"


def test_a_person_says_yes_or_no_to_a_code() -> None:
    oauth = server()
    one, other = started(oauth), started(oauth)
    oauth.decide(one["user_code"], "approved")
    oauth.decide(other["user_code"], "denied")
    assert (polled(oauth, one, 5), polled(oauth, other, 5)) == ("granted", "access_denied")
    with pytest.raises(LookupError):
        oauth.decide(None, "approved")


def test_without_a_code_the_person_decides_on_all_that_wait() -> None:
    oauth = server()
    logins = [started(oauth), started(oauth)]
    oauth.decide(None, "approved")
    assert [polled(oauth, each, 5) for each in logins] == ["granted", "granted"]


def test_a_device_code_buys_one_credential() -> None:
    oauth = server()
    login = started(oauth)
    oauth.decide(None, "approved")
    assert [polled(oauth, login, at) for at in (0, 5)] == ["granted", "invalid_grant"]


def test_a_device_code_expires() -> None:
    oauth = server()
    assert polled(oauth, started(oauth), 599) == "authorization_pending"
    assert polled(oauth, started(oauth), 600) == "expired_token"
    login = started(oauth)
    oauth.expire_devices()
    assert polled(oauth, login, 0) == "expired_token"


def test_each_slow_down_adds_five_seconds() -> None:
    oauth = server(interval=2)
    login = started(oauth)
    # 2 s at first, then 7, then 12; a timer that is a clock tick early is forgiven.
    assert [polled(oauth, login, at) for at in (0, 1, 7, 18.995)] == [
        "authorization_pending", "slow_down", "slow_down", "authorization_pending",
    ]  # fmt: skip
    assert polled(oauth, login, 30.9) == "slow_down"


def test_an_interval_that_is_not_told_is_five_seconds() -> None:
    oauth = server(interval=None)
    login = started(oauth)
    assert "interval" not in login
    assert [polled(oauth, login, at) for at in (0, 4.9)] == ["authorization_pending", "slow_down"]


def test_an_interval_of_zero_lets_a_client_poll_at_will() -> None:
    oauth = server(interval=0)
    login = started(oauth)
    assert login["interval"] == 0
    assert [polled(oauth, login, 0) for _ in range(3)] == ["authorization_pending"] * 3
