"""The file of a transcript: JSON lines, all of a save or nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import re
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import reactivex
from reactivex import operators as ops

from rxauth.errors import TranscriptNotSaved
from rxauth.events import AssistantMessage, Done, Text, TextDelta
from rxauth.transcript import Transcript
from tests.test_transcript import DONE, SAID, START, A, fed


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_end_of_a_stream_saves_the_phantom_too(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    transcript = fed(START, START, A, DONE, path=path)
    assert not path.exists()
    transcript.on_completed()
    phantom, message = lines(path)
    assert (phantom["role"], phantom["content"], phantom["stop_reason"]) == ("assistant", [], None)
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "ab"}], "stop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_message_is_saved_once(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    transcript = Transcript(path)
    reactivex.of(START, A, DONE).subscribe(transcript)
    transcript.close()
    transcript.save()
    reactivex.of(START, A).pipe(ops.concat(reactivex.throw(ValueError("x")))).subscribe(transcript)
    fed(START, DONE, path=path).close()
    assert [line["stop_reason"] for line in lines(path)] == ["stop", "error", "stop"]


def test_a_disposed_stream_is_saved_by_close(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    transcript = fed(START, A, path=path)
    transcript.save()
    assert not path.exists(), "an open message may still grow"
    transcript.close()
    assert [line["stop_reason"] for line in lines(path)] == ["aborted"]


def test_a_torn_last_line_keeps_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    path.write_text('{"role": "assis')
    fed(DONE, path=path).close()
    torn, whole = path.read_text().splitlines()
    assert (torn, json.loads(whole)["stop_reason"]) == ('{"role": "assis', "stop")


def test_raw_unicode_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    fed(Done("stop", AssistantMessage(content=(Text("a\nb\u2028c\u0085d\U0001f600"),))), path=path).close()
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["content"][0]["text"] == "a\nb\u2028c\u0085d\U0001f600"


def test_an_unwritable_file_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "transcript.jsonl"
    transcript = fed(START, DONE, path=path)
    why = r"missing/transcript\.jsonl cannot be written \(No such file"
    with pytest.raises(TranscriptNotSaved, match=why) as caught:
        transcript.on_completed()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert transcript.messages == (SAID,)
    path.parent.mkdir()
    transcript.save()
    assert [line["stop_reason"] for line in lines(path)] == ["stop"]
    with pytest.raises(TranscriptNotSaved, match="Unicode"):
        fed(START, TextDelta(0, "\ud800"), path=path).close()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    # A limit on the size of files ends a write half way, as a full disk does.
    path = tmp_path / "transcript.jsonl"
    fed(DONE, path=path).close()
    before = path.read_bytes()
    transcript = fed(Done("stop", AssistantMessage(content=(Text("x" * 100),))), path=path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(TranscriptNotSaved) as caught:
            transcript.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert path.read_bytes() == before
    transcript.save()
    assert len(lines(path)) == 2


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux lists who waits for a lock")
def test_a_writer_waits_for_another_one(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    path.write_text("half a line")
    waits = re.compile(rf"-> FLOCK .*:{path.stat().st_ino} ")
    with path.open("a") as other, ThreadPoolExecutor() as threads:
        fcntl.flock(other, fcntl.LOCK_EX)
        saved = threads.submit(fed(DONE, path=path).close)
        while not (saved.done() or waits.search(Path("/proc/locks").read_text())):
            pass
        other.write(" and the other half\n")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
    first, second = path.read_text().splitlines()
    assert (first, json.loads(second)["stop_reason"]) == ("half a line and the other half", "stop")
