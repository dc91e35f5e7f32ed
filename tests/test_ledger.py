"""The ledger tells the truth whatever happens to its writers: many at once, dead in the middle, edited by hand."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from lab_fixture import until

from runbook_lib.errors import ActionFailed, EvidenceError
from runbook_lib.records import ledger as ledger_module
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.records.ledger import Ledger

WRITERS = """
import os, sys
from pathlib import Path
from runbook_lib.records.kinds import Kind
from runbook_lib.records.ledger import Ledger
path, count, events_count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for writer in range(count):
    if os.fork() == 0:
        ledger = Ledger(path, f"writer-{writer}")
        for number in range(events_count):
            ledger.append(Kind.EFFECT, f"writer-{writer} {number}", filler="x" * (number % 50) * 40)
        os._exit(0)
raise SystemExit(any(os.wait()[1] for _ in range(count)))
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "run/ledger.jsonl", "06_raise_weight")


def writers(ledger: Ledger, count: int, events_count: int) -> subprocess.Popen[bytes]:
    """So many processes that append at once."""
    words = [sys.executable, "-c", WRITERS, str(ledger.path), str(count), str(events_count)]
    return subprocess.Popen(words, start_new_session=True)


def assert_chained(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines()
    previous = ""
    for number, line in enumerate(lines, start=1):
        entry = json.loads(line)
        assert (entry["seq"], entry["previous"]) == (number, previous)
        previous = hashlib.sha256(line).hexdigest()
    return lines


def test_an_event_says_who_when_and_what(ledger: Ledger) -> None:
    entry = ledger.append(Kind.INTENT, "set the weight", weight_pct=5, path=Path("/x"))
    (read,) = ledger.events()
    assert read == entry
    assert (read["seq"], read["step"], read["event"], read["what"]) == (
        1,
        "06_raise_weight",
        "intent",
        "set the weight",
    )
    assert read["detail"] == {"weight_pct": 5, "path": "/x"}
    assert "@" in read["who"]
    at = datetime.fromisoformat(read["at"])
    assert at.utcoffset() == timedelta(0)
    assert str(ledger.table()["at"].dtype).endswith("UTC]")


def test_events_are_picked_by_kind_and_step(ledger: Ledger) -> None:
    other = Ledger(ledger.path, "07_observe")
    ledger.append(Kind.INTENT, "a")
    other.append(Kind.INTENT, "b")
    other.append(Kind.VERDICT, "c", answer="pass")
    assert [e["what"] for e in ledger.events(Kind.INTENT)] == ["a", "b"]
    assert [e["what"] for e in ledger.events(step="07_observe")] == ["b", "c"]
    last = ledger.last(Kind.INTENT, step="07_observe")
    assert last and last["what"] == "b"
    assert ledger.last(Kind.FAILED) is None


def test_a_ledger_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none.jsonl")
    assert ledger.events() == []
    assert list(ledger.table().columns) == ["seq", "at", "who", "step", "event", "what"]


def test_eight_processes_append_and_a_reader_sees_whole_lines(ledger: Ledger) -> None:
    started = writers(ledger, 8, 40)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(ledger.events()))

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(60) == 0
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert len(assert_chained(ledger.path)) == 320
    of_each = Counter(event["step"] for event in ledger.events())
    assert of_each == {f"writer-{n}": 40 for n in range(8)}
    for n in range(8):
        assert [e["what"] for e in ledger.events(step=f"writer-{n}")] == [f"writer-{n} {k}" for k in range(40)]


def test_a_writer_that_is_killed_loses_at_most_its_last_line(ledger: Ledger) -> None:
    process = writers(ledger, 1, 100_000)
    until(lambda: len(ledger.events()) >= 30, within_s=60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = len(ledger.events())
    ledger.append(Kind.FETCHED, "after the kill")
    assert len(assert_chained(ledger.path)) == before + 1


@pytest.mark.parametrize("torn", [b"{", b'{"seq": 3, "at": "2026', b'{"seq": 3}', b"\xff\x00", b"x" * 3_000_000])
def test_a_torn_last_line_is_no_event_and_is_cut_off(ledger: Ledger, torn: bytes) -> None:
    ledger.append(Kind.INTENT, "first")
    ledger.append(Kind.EFFECT, "second")
    with ledger.path.open("ab") as file:
        file.write(torn)
    assert [e["what"] for e in ledger.events()] == ["first", "second"]
    assert ledger.append(Kind.VERIFIED, "third")["seq"] == 3
    assert len(assert_chained(ledger.path)) == 3


def test_only_a_torn_line(ledger: Ledger) -> None:
    ledger.path.write_bytes(b'{"seq": 1')
    assert ledger.events() == []
    assert ledger.append(Kind.INTENT, "first")["seq"] == 1
    assert len(ledger.events()) == 1


def test_a_line_of_megabytes_is_followed(ledger: Ledger) -> None:
    """A snapshot's facts may name thousands of files."""
    ledger.append(Kind.VERIFIED, "snapshot", files=["y" * 100] * 40_000)
    assert ledger.append(Kind.INTENT, "next")["seq"] == 2
    assert ledger.append(Kind.EFFECT, "next")["seq"] == 3
    assert [e["seq"] for e in ledger.events()] == [1, 2, 3]


def edit_word(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b"second", b"sekond")


def take_out(lines: list[bytes]) -> None:
    del lines[1]


def take_first(lines: list[bytes]) -> None:
    del lines[0]


def swap(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def put_in(lines: list[bytes]) -> None:
    lines.insert(1, lines[1])


def reformat(lines: list[bytes]) -> None:
    lines[1] = json.dumps(json.loads(lines[1]), indent=None, separators=(",", ":")).encode()


def blank(lines: list[bytes]) -> None:
    lines.insert(2, b"")


def scribble(lines: list[bytes]) -> None:
    lines[1] = lines[1][:-9]


def other_json(lines: list[bytes]) -> None:
    lines[1] = b"[]"


EDITS = [edit_word, take_out, take_first, swap, put_in, reformat, blank, scribble, other_json]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edited_ledger_is_no_evidence(ledger: Ledger, edit: object) -> None:
    for what in ("first", "second", "third", "fourth"):
        ledger.append(Kind.EFFECT, what)
    lines = ledger.path.read_bytes().splitlines()
    edit(lines)  # type: ignore[operator]
    ledger.path.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(EvidenceError, match=r"ledger.jsonl line \d .*the ledger was edited or damaged") as caught:
        ledger.events()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("last", [b"[]", b"nonsense", b"{}", b""])
def test_nothing_is_appended_to_a_damaged_ledger(ledger: Ledger, last: bytes) -> None:
    ledger.append(Kind.INTENT, "first")
    content = ledger.path.read_bytes() + last + b"\n"
    ledger.path.write_bytes(content)
    if last:
        with pytest.raises(EvidenceError, match="edited or damaged"):
            ledger.append(Kind.EFFECT, "second")
        assert ledger.path.read_bytes() == content
    else:
        with pytest.raises(EvidenceError):
            ledger.events()


def test_a_line_is_on_disk_before_append_returns(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is synced is whole, and the folder is synced when the file is new."""
    synced: list[bytes | str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_file = os.fstat(descriptor).st_size and not os.path.isdir(f"/proc/self/fd/{descriptor}")  # noqa: PTH112
        synced.append(ledger.path.read_bytes() if is_file else "folder")
        real(descriptor)

    monkeypatch.setattr(ledger_module.os, "fsync", fsync)
    ledger.append(Kind.INTENT, "first")
    ledger.append(Kind.EFFECT, "second")
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    assert synced == [lines[0], "folder", b"".join(lines)]


def test_a_failed_disk_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger_module.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"), ledger.change(Act.START, "never tried"):
        pytest.fail("the change was begun without its intent on disk")


def test_a_change_is_three_lines(ledger: Ledger) -> None:
    with ledger.change(Act.CONFIGURE_NGINX, "reload", undo="reload again") as change:
        assert [e["event"] for e in ledger.events()] == ["intent"], "before it is tried"
        change.effect(exit_status=0)
        change.verified(revision="w005")
    assert {e["detail"]["act"] for e in ledger.events()} == {Act.CONFIGURE_NGINX}
    assert [(e["event"], e["what"]) for e in ledger.events()] == [
        ("intent", "reload"),
        ("effect", "reload"),
        ("verified", "reload"),
    ]


@pytest.mark.parametrize("error", [ActionFailed("nginx says no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_change_that_fails_says_why(ledger: Ledger, error: BaseException) -> None:
    with pytest.raises(type(error)), ledger.change(Act.CONFIGURE_NGINX, "reload") as change:
        change.effect(exit_status=0)
        raise error
    failed = ledger.events(Kind.FAILED)[0]
    assert failed["detail"]["error"].startswith(type(error).__name__)
    assert len(ledger.events()) == 3


def test_text_that_is_no_text_does_not_break_it(ledger: Ledger) -> None:
    ledger.append(Kind.FAILED, "bytes \udcff and \x00 and \u2028 and \n", error="\ud800")
    ledger.append(Kind.EFFECT, "next")
    assert len(ledger.events()) == 2
    assert len(assert_chained(ledger.path)) == 2


def test_what_is_redacted_never_reaches_the_file(ledger: Ledger) -> None:
    ledger.redact = lambda text: text.replace("hunter22", "[env:PASSWORD]")
    entry = ledger.append(Kind.FAILED, "said hunter22", error={"deep": ["hunter22"]})
    assert b"hunter22" not in ledger.path.read_bytes()
    assert entry["detail"] == {"error": {"deep": ["[env:PASSWORD]"]}}
    assert ledger.events() == [entry]
