"""Streams of assistant events from a provider's HTTP API, on aiohttp.

anthropic_messages      Anthropic Messages, and what speaks like it
openai_chat             OpenAI Chat Completions, and what speaks like it
"""

from rxauth.sources._anthropic import anthropic_messages
from rxauth.sources._openai import openai_chat

__all__ = ["anthropic_messages", "openai_chat"]
