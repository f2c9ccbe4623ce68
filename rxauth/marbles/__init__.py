"""Draw streams: the events of an Observable and their times, as a marble diagram in text or SVG.

    recorder = Recorder("the screen")
    stream.pipe(recorder).subscribe(screen)            # records, changes nothing
    print(Diagram(*recorder.timelines))                # in a terminal
    Diagram(*recorder.timelines)                       # as the last line of a notebook cell: SVG

    explain(stream, buffer_until_live(), retry_on_first_auth_error(refresh), flush_on_complete_or_error())
    playground("s--e", "s---a---b---|")                # a widget: drag the events, choose the operators

One column is one moment. `s` start, `e` error event, `#` on_error, `|` completed, `!` unsubscribed; the legend names
the other signs. A drawing never shows a secret: a failure is drawn as its type and status, an element as its type. Only
text deltas, numbers and short words are quoted (a long word may be a token).
"""

from __future__ import annotations

from rxauth.marbles._diagram import Diagram
from rxauth.marbles._explain import Explanation, explain
from rxauth.marbles._playground import playground
from rxauth.marbles._record import Mark, Recorder, Timeline

__all__ = ["Diagram", "Explanation", "Mark", "Recorder", "Timeline", "explain", "playground"]
