from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..running import Ask, Login, Screen
from ..tokens import Tokens
from .openai_sdk import show

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch prices from the network
litellm: Any = importlib.import_module("litellm")

NAME = "litellm Router"
PACKAGES = ("litellm",)
WIRE = "chat"
SETUP = "`Router(num_retries=2)` with the token given for each call; `timeout`, `stream_timeout`"


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    litellm.suppress_debug_info = True
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = 10**9  # the answer of the speed test is one word, many times
    tokens = Tokens(login)
    question: Any = [{"role": "user", "content": "Hi"}]
    deployment = {"model": "openai/m", "api_base": login.base_url, "api_key": "given for each call"}
    router = litellm.Router(
        model_list=[{"model_name": "m", "litellm_params": deployment}],
        num_retries=2,
        timeout=login.first,
        stream_timeout=login.idle,
    )

    async def ask(screen: Screen) -> None:
        chunks = await router.acompletion("m", question, stream=True, api_key=await tokens.get())
        await show(chunks, screen)

    yield ask
