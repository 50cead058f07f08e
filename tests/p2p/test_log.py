"""p2p/log.py: an event is a name and fields, readable by people and by machines."""

import json
import logging

import pytest

from p2p.log import RING_EVENTS, open_log, quiet_log


def test_events_are_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log = open_log("people")

    log.event("block.refused", peer="12D3", code="frame.length")
    log.warning("host.lost", seconds=1.5)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("info    block.refused peer=12D3 code=frame.length")
    assert lines[1].endswith("warning host.lost seconds=1.5")


def test_events_are_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    log = open_log("machines", as_json=True)

    log.event("engine.loaded", exact=True)
    logging.getLogger("nexus.machines").info("a library speaks")

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first | {"t": 0} == {"t": 0, "level": "INFO", "event": "engine.loaded", "exact": True}
    assert (second["event"], second["text"]) == ("log", "a library speaks")


def test_a_failure_brings_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log = open_log("failing")

    try:
        raise KeyError("lost")
    except KeyError as error:
        log.failure("task.bug", error, task="reader")

    said = capsys.readouterr().err
    assert "task.bug error=KeyError: 'lost' task=reader" in said
    assert "Traceback" in said


def test_the_ring_keeps_the_last_events_and_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = quiet_log()

    for number in range(RING_EVENTS + 1):
        log.event("tick", number=number)

    assert capsys.readouterr().err == ""
    assert len(log.recent()) == RING_EVENTS
    assert log.recent()[0].fields == (("number", 1),)
