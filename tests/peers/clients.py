"""The clients of the table, each a page in `drivers`, with the versions that are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from .running import Driver

OWN = ("rxauth_messages", "rxauth_chat")
OTHERS = (
    "anthropic_sdk",
    "openai_sdk",
    "pydantic_ai_oauth",
    "litellm_router",
    "langchain",
    "agents_sdk",
    "rx_retry",
    "generator",
)


def driver(name: str) -> Driver:
    module: Any = importlib.import_module(f"tests.peers.drivers.{name}")
    return module  # type: ignore[no-any-return]


def versions(client: Driver) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in client.PACKAGES)
