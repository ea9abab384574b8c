"""How commands speak and end: for a person, quietly, as JSON lines, and with a report when something is our fault."""

import json
import logging
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from st4rtrack.cli import main as cli
from st4rtrack.cli.progress import Progress, log_to_stderr
from st4rtrack.cli.reporter import answer, reporter, reporting, say, wrote
from st4rtrack.types import UserError
from tests.conftest import Run

SECRET = "hf_abcdefghijklmnopqrstuvwxyz"


def everything(argument: str = "") -> None:
    """Says all that can be said."""
    log_to_stderr()
    logger = logging.getLogger("st4rtrack.test")
    with Progress("frame") as progress:
        for done in range(1, 4):
            progress(done, 3)
    logger.info("a note of the library")
    logger.warning("a warning about https://me:pass@host/x and %s", SECRET)
    answer("an answer")
    say("what to do next")
    wrote(Path("a.ply"), "b c.ply")
    print("printed by a library")
    if argument == "mistake":
        raise UserError("clip.mp4 is not there; check the path")
    if argument == "fault":
        raise ZeroDivisionError(f"what nobody thought of {SECRET} {Path.home() / 'x'}")
    if argument == "full":
        raise OSError(28, "No space left on device", "out/scene.zarr")
    if argument == "stopped":
        raise KeyboardInterrupt
    if argument == "batch":
        sys.exit(1)


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "everything", everything)
    monkeypatch.setattr("st4rtrack.cli.reporter.PROGRESS_EVERY_S", 3600.0)


def spoken(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, events, standard error."""
    code = 0
    try:
        cli.main(["everything", "--json", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    return code, [json.loads(line) for line in printed.out.splitlines()], printed.err


def test_json_is_one_event_per_line_and_nothing_else_on_standard_output(capsys: pytest.CaptureFixture) -> None:
    code, events, errors = spoken(capsys)
    assert code == 0
    assert [event["event"] for event in events] == (
        ["start", "progress", "progress", "note", "warning", "answer", "note", "wrote", "wrote", "done"]
    )
    assert events[0]["arguments"] == ["everything"]
    assert [event["done"] for event in events[1:3]] == [1, 3], "the first and the last, and not too many between"
    assert [event["path"] for event in events if event["event"] == "wrote"] == ["a.ply", "b c.ply"]
    assert events[4]["text"] == "a warning about https://***@host/x and ***"
    assert events[-1]["exit_code"] == 0 and events[-1]["seconds"] >= 0
    assert errors == "printed by a library\n"


@pytest.mark.parametrize(
    ("how", "code", "kind", "words"),
    [
        ("mistake", 2, "mistake", "clip.mp4 is not there"),
        ("fault", 1, "fault", "internal error in st4rtrack"),
        ("full", 2, "trouble", "no space is left on the disk at out/scene.zarr"),
        ("stopped", 1, "stopped", "run the same command again"),
        ("batch", 1, "trouble", "warnings"),
    ],
)
def test_the_last_event_says_how_it_ended(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, code: int, kind: str, words: str
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    ended, events, errors = spoken(capsys, "--argument", how)
    last = events[-1]
    assert (ended, last["event"], last["exit_code"], last["kind"]) == (code, "error", code, kind)
    assert words in last["text"] and "Traceback" not in errors and SECRET not in json.dumps(events) + errors


def test_quiet_says_warnings_answers_and_errors_only(run: Run) -> None:
    code, said = run("--quiet", "everything", "--argument", "mistake")
    lines = [line for line in said.splitlines() if line != "printed by a library"]
    assert code == 2 and lines == [
        "an answer",
        "a warning about https://***@host/x and ***",
        "st4rtrack: clip.mp4 is not there; check the path",
    ]


def test_a_fault_of_ours_is_a_sentence_and_a_report_elsewhere(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(elsewhere))
    code, said = run("everything", "--argument", "fault")
    assert code == 1 and "Traceback" not in said
    (sentence,) = [line for line in said.splitlines() if line.startswith("st4rtrack: ")]
    (report,) = elsewhere.iterdir()
    assert str(report) in sentence and "--debug" in sentence and "ZeroDivisionError" in sentence
    assert list(tmp_path.iterdir()) == [elsewhere], "nothing is written where the user works"


def test_the_report_has_what_an_issue_needs_and_no_secrets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("SOMETHING_OF_MINE", "private words")
    code, said = run("everything", "--argument", "fault", "--debug")
    (report,) = Path().glob("st4rtrack-report-*.txt")
    text = report.read_text()
    assert code == 1 and "ZeroDivisionError" in said and "Traceback" in said and report.name in said
    for words in ("everything --argument fault", "PyTorch", "numpy", "memory:", "a note of the library", "line ", "Traceback"):
        assert words in text, words
    for secret in (SECRET, "pass@", "private words", str(tmp_path)):
        assert secret not in text, secret


def test_debug_shows_where_a_mistake_was_found(run: Run) -> None:
    code, said = run("everything", "--debug", "--argument", "mistake")
    assert code == 2 and "Traceback" in said and len(list(Path().glob("st4rtrack-report-*.txt"))) == 1
    assert said.splitlines()[-1].startswith("st4rtrack: clip.mp4 is not there; check the path; report: st4rtrack-report-")


def test_a_report_that_cannot_be_written_is_no_second_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "nowhere")
    code, said = run("everything", "--argument", "fault")
    assert code == 1 and "ZeroDivisionError" in said and "report" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--json", "run"], "st4rtrack run needs VIDEO"),
        (["run", "x", "--refin", "--json"], "unknown option --refin of st4rtrack run"),
    ],
)
def test_arguments_that_are_not_understood_end_with_an_event(
    capsys: pytest.CaptureFixture, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    printed = capsys.readouterr()
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert [event["event"] for event in events] == ["start", "error"] and events[1]["exit_code"] == 2
    assert events[1]["text"].startswith(sentence) and not printed.err


def test_what_comes_after_two_dashes_is_no_option() -> None:
    assert cli._split(["run", "--quiet", "--", "--json"]) == (["run", "--", "--json"], {"--quiet"})


def test_a_voice_ends_with_its_command() -> None:
    before = reporter()
    with pytest.raises(KeyError), reporting("json"):
        raise KeyError
    assert reporter() is before


def test_help_names_the_options_of_every_command() -> None:
    for arguments in (["--help"], ["bench", "--help"]):
        done = subprocess.run([sys.executable, "-m", "st4rtrack", *arguments], capture_output=True, text=True, check=True)
        for option in cli.EVERYWHERE:
            assert re.search(rf"{option}\b", done.stdout), option


def test_preparation_has_a_bar_until_the_first_item(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st4rtrack.cli.progress.tqdm", partial(tqdm, mininterval=0))
    with reporting("plain"), Progress() as progress:
        for share in (0.1, 0.4):
            progress.preparation(share)
        assert "preparing:  10%" in (shown := capsys.readouterr().err) and "<" in shown, "with the time left"
        progress(1, 2)
        progress.preparation(0.5)  # the video is read again
        assert "preparing" not in capsys.readouterr().err.rpartition("\r")[2]
