"""Streams as pictures: what an Observable says and when, as a marble diagram in text or SVG.

    recorder = Recorder("what the user sees")
    stream.pipe(recorder).subscribe(screen)            # records, changes nothing
    print(Diagram(*recorder.timelines))                # a terminal
    Diagram(*recorder.timelines)                       # the last line of a notebook cell: SVG

    explain(stream, buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error())

One column is one moment. `s` start, `e` error event, `#` on_error, `|` completed, `!` unsubscribed; the legend names
the rest. A drawing never shows a secret: failures are told by type and status, other elements by their type; only text
deltas, numbers and plain strings (not a long word, which may be a token) are quoted.
"""

from __future__ import annotations

from rxauth.marbles._diagram import Diagram, Explanation, explain
from rxauth.marbles._record import Mark, Recorder, Timeline

__all__ = ["Diagram", "Explanation", "Mark", "Recorder", "Timeline", "explain"]
