from __future__ import annotations

from typing import Any

from ..running import Login
from .rxauth_messages import PACKAGES as PACKAGES
from .rxauth_messages import chat, connected

NAME = "rxauth (chat)"
WIRE = "chat"
SETUP = "`openai_chat(pings=True)`, otherwise the same"


def connect(login: Login) -> Any:
    return connected(chat, login)
