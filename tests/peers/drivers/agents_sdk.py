from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled

from ..running import Ask, Login, Screen
from .openai_sdk import client_of

NAME = "openai-agents"
PACKAGES = ("openai-agents", "openai")
WIRE = "chat"
SETUP = "`Runner.run_streamed` over the `AsyncOpenAI` of the column openai"


@asynccontextmanager
async def connect(login: Login) -> AsyncIterator[Ask]:
    set_tracing_disabled(True)
    async with client_of(login) as client:
        agent = Agent(name="a", model=OpenAIChatCompletionsModel("m", client))

        async def ask(screen: Screen) -> None:
            async for event in Runner.run_streamed(agent, "Hi").stream_events():
                if event.type != "raw_response_event":
                    continue
                if event.data.type == "response.created":
                    screen.start()
                elif event.data.type == "response.output_text.delta":
                    screen.text(event.data.delta)

        yield ask
