"""The rule that every cell of the table is judged by."""

from __future__ import annotations

from .running import Result, Screen
from .scenarios import ANSWER, Scenario

RULE = """A cell is right (✓) if, for every call, the consumer saw one message at most, each word of it once, and

- the whole answer, wherever a new token or another attempt can bring it without showing anything twice;
- else an error, in time, behind no more than the words that were sent;

and if the provider saw no refresh token twice, no connection that stays open behind a consumer who has left, and no
more requests than the scenario calls for. Otherwise the cell names what went wrong:

| word | meaning |
|---|---|
| error | an error is shown where the answer could have come |
| unnoticed | the answer ended early, and nothing says so |
| phantom | an empty message stays in front of the next one |
| twice | words are shown twice, or in a wrong order |
| hang | the call had not ended after 8 seconds |
| reuse | a refresh token that was spent is presented again: the provider ends the login |
| n refreshes, n requests | more than the scenario calls for |
| open | the connection stays open behind a consumer who has left |

The numbers are requests to the API, requests to the token endpoint, and seconds to the first word of the last call. A
cell that is not right was run a second time, alone, and only a fault in both runs counts: a busy machine is none."""


def faults(scenario: Scenario, result: Result) -> list[str]:
    """Name what went wrong, each kind once; nothing if the cell is right."""
    found: list[str] = []
    screens = result.screens[1:] if scenario.leaves == "refresh" else result.screens
    for screen in screens:
        found += screen_faults(scenario, screen)
    # The refresh of another process is one that this client did not make.
    token_requests = result.token_requests - scenario.rotated_elsewhere
    if result.reused:
        found.append("reuse")
    if token_requests > scenario.max_token_requests:
        found.append(f"{token_requests} refreshes")
    if result.requests > scenario.max_requests * scenario.calls:
        found.append(f"{result.requests} requests")
    if result.left_open:
        found.append("open")
    return list(dict.fromkeys(found))


def screen_faults(scenario: Scenario, screen: Screen) -> list[str]:
    found: list[str] = []
    text = "".join(message.text for message in screen.messages)
    if screen.hung:
        found.append("hang")
    if any(not message.text for message in screen.messages[:-1]):
        found.append("phantom")
    if not ANSWER.startswith(text) or sum(bool(message.text) for message in screen.messages) > 1:
        found.append("twice")
    elif scenario.expected != "nothing" and screen.ended and text != ANSWER:
        found.append("unnoticed")
    elif scenario.expected == "answer" and screen.error is not None:
        found.append("error")
    return found
