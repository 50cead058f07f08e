"""The arithmetic and the files that every benchmark shares; no benchmark is run here."""

import argparse
import json
import math
from pathlib import Path

import pytest

from benchmarks.report import (
    alternating,
    at_least,
    at_most,
    bars_table,
    finish,
    median_ratio,
    middle,
    quantile,
    reported,
    table,
)


def test_a_value_at_its_bar_meets_it_and_one_past_it_does_not() -> None:
    assert at_least("speed", 2.0, 2.0).ok
    assert not at_least("speed", 1.999, 2.0).ok
    assert at_most("latency", 2.0, 2.0, "ms").ok
    assert not at_most("latency", 2.001, 2.0, "ms").ok


def test_what_could_not_be_measured_meets_no_bar() -> None:
    assert not at_least("speed", math.nan, 0.0).ok
    assert not at_most("latency", math.nan, 9.0).ok
    assert reported("anything", math.nan, "s").ok


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_quantile_is_a_value_that_was_seen(share: float, expected: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_figures_of_nothing_are_not_numbers() -> None:
    assert math.isnan(middle([]))
    assert math.isnan(quantile([], 0.5))
    assert math.isnan(median_ratio([(1.0, 0.0)]))


def test_the_ratio_is_taken_within_pairs_so_that_drift_cancels() -> None:
    pairs = [(2.0, 1.0), (20.0, 10.0), (5.0, 1.0)]

    assert median_ratio(pairs) == 2.0


def test_every_round_has_each_way_once_and_another_one_first() -> None:
    rounds = list(alternating("ab", 3))

    assert rounds == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def test_a_missed_bar_is_named_and_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = argparse.Namespace(json=tmp_path / "out.json", quick=True)
    bars = [at_least("speed", 1.5, 2.0), at_most("latency", math.nan, 2.0, "ms")]

    status = finish(flags, bars, [{"way": "plain", "seconds": math.inf}], threads=2)

    written = json.loads((tmp_path / "out.json").read_text())
    assert status == 0
    assert "2 of 2 figures MISSED their bar: speed, latency" in capsys.readouterr().out
    assert written["bars"][0] == {
        "name": "speed", "value": 1.5, "unit": "×", "bar": "≥ 2", "ok": False
    }  # fmt: skip
    assert written["bars"][1]["value"] is None
    assert written["rows"] == [{"way": "plain", "seconds": None}]
    assert written["machine"]["threads"] == 2


def test_different_texts_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    flags = argparse.Namespace(json=None, quick=False)

    status = finish(flags, [at_least("speed", 3.0, 2.0)], [], threads=1, texts_equal=False)

    assert status == 1
    assert "TEXTS DIFFER" in capsys.readouterr().err


def test_tables_align_numbers_to_the_right() -> None:
    rows = [{"way": "plain", "tok/s": 12.345}, {"way": "drafted", "tok/s": 1234.5}]

    assert table(rows).splitlines() == ["way      tok/s", "plain     12.3", "drafted   1234"]
    assert "MISSED" in bars_table([at_least("speed", 1.0, 2.0)])
