"""Files of sensor readings: both forms, both roads, every complaint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.clock import iso_to_ns
from dolphin.core.errors import InputError
from dolphin.market import sensorfiles
from dolphin.market.sensorfiles import read_sensors
from dolphin.risk.sensors import SENSORS, UNKNOWN, Readings, get_reading
from tests.risk.survival_cases import PERFECT
from tests.support.sensors import recording, write_recording

T0, T1 = "2024-01-02T14:30:00Z", "2024-01-02T14:31:00Z"


def put(folder: Path, rows: list[dict[str, Any]], name: str = "s.json") -> Path:
    path = folder / name
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) if name.endswith(".jsonl") else f"[{','.join(lines)}]", encoding="utf-8")
    return path


def test_values_times_and_what_is_not_known(tmp_path: Path) -> None:
    rows = [
        {"time": T0, **PERFECT},
        {"time": 1704205860.5, "grid_nodes": 2, "mc_status": "RED", "book_stale": True, "dvol_spike": None},
    ]
    file = read_sensors(put(tmp_path, rows))
    first, second = file.readings
    assert (first.ts_ns, first.now_s) == (iso_to_ns(T0), iso_to_ns(T0) / 1e9)
    assert (second.ts_ns, second.now_s) == (1704205860_500_000_000, 1704205860.5)
    assert (first.mc_status, first.book_stale, first.dvol_spike, first.grid_nodes) == (0, 0, 0, 3.0)
    assert (second.mc_status, second.book_stale, second.dvol_spike, second.grid_nodes) == (2, 1, UNKNOWN, 2.0)
    assert math.isnan(second.drawdown)
    assert math.isnan(first.dvol_spike_age_min)
    assert file.timed
    assert get_reading(first) == Readings(**PERFECT)


def test_given_is_what_any_reading_holds_null_included(tmp_path: Path) -> None:
    rows = [{"time": T0, "grid_nodes": 1}, {"time": T1, "drawdown": None}]
    assert read_sensors(put(tmp_path, rows)).given == {"grid_nodes", "drawdown"}
    assert read_sensors(put(tmp_path, [{"time": T0}])).given == frozenset()


def test_one_reading_needs_no_time(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(PERFECT))
    file = read_sensors(path)
    assert (file.timed, len(file.readings), file.readings[0].ts_ns) == (False, 1, 0)
    path.write_text(json.dumps({"time": T0, **PERFECT}))
    assert read_sensors(path).timed


def test_lines_and_lists_hold_the_same(tmp_path: Path) -> None:
    taken = recording(iso_to_ns(T0), 300, 4)
    one, other = (read_sensors(write_recording(tmp_path / name, taken)) for name in ("a.json", "b.jsonl"))
    assert one.identity == other.identity
    assert one.readings.tobytes() == other.readings.tobytes()
    for row, (ns, readings) in zip(one.readings, taken, strict=True):
        assert (row.ts_ns, get_reading(row)) == (ns, readings)


def test_blank_lines_are_passed_over_and_still_counted(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(f'\n{{"time": "{T0}"}}\n\n  \n{{"time": "{T1}"}}\n\n')
    assert len(read_sensors(path).readings) == 2
    path.write_text(f'\n{{"time": "{T1}"}}\n\n{{"time": "{T0}"}}\n')
    with pytest.raises(InputError, match=r"line 4: time .* is not after the one before"):
        read_sensors(path)


def test_the_identity_is_that_of_the_values(tmp_path: Path) -> None:
    base = read_sensors(put(tmp_path, [{"time": T0, "drawdown": 0.1}])).identity
    assert read_sensors(put(tmp_path, [{"drawdown": 0.10, "time": "2024-01-02T16:30:00+02:00"}])).identity == base
    for other in ({"time": T1, "drawdown": 0.1}, {"time": T0, "drawdown": 0.11}, {"time": T0, "drawdown": None}):
        assert read_sensors(put(tmp_path, [other])).identity != base
    # Left out is not null: the first is supplied by a replay.
    told, silent = ({"time": T0, "drawdown": None}, {"time": T0})
    assert read_sensors(put(tmp_path, [told])).identity != read_sensors(put(tmp_path, [silent])).identity


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["an empty file"]),
        ("\n\n", ["an empty file"]),
        (f'{{"time": "{T0}"}}\n{{"time": "{T1}", "draw', ["line 2", "not the JSON expected"]),
        (f'{{"time": "{T0}"}}\n[1]', ["line 2", "list; expected an object"]),
        (f'{{"time": "{T0}"}}\n{{}}', ["line 2", "no time"]),
        (f'{{"time": "{T0}"}}\n\n{{"time": "{T1}", "drawdown": NaN}}', ["line 3", "NaN is not a JSON number"]),
        (f'{{"time": "{T0}"}}\n{{"time": "{T1}", "mood": 1}}', ["line 2", "'mood' is not a sensor"]),
        (f'{{"time": "{T0}"}}\n{{"time": "{T1}", "drawdown": 1, "drawdown": 2}}', ["line 2", "given twice"]),
        (f'{{"time": "{T0}"}}\n{{"time": "tomorrow"}}', ["line 2", "'tomorrow' is not a time"]),
    ],
)
def test_lines_are_refused_by_number(text: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as told:
        read_sensors(path)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(f"{path}: ")
    for part in parts:
        assert part in str(told.value)


def test_a_name_spelled_with_escapes_cannot_be_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"drawdown": 0.9, "dra\\u0077down": 0.0}')
    with pytest.raises(InputError, match="'drawdown' is given twice"):
        read_sensors(path)
    path.write_text('{"dra\\u0077down": 0.5}')
    assert read_sensors(path).readings[0].drawdown == 0.5


field = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 10**9))
items = st.fixed_dictionaries(
    {},
    optional={
        **{name: field for name in SENSORS if name not in ("grid_nodes", "mc_status", "book_stale", "dvol_spike")},
        "grid_nodes": st.one_of(st.none(), st.integers(-5, 10**30)),
        "mc_status": st.sampled_from([None, "OK", "ORANGE", "RED"]),
        "book_stale": st.sampled_from([None, True, False]),
        "dvol_spike": st.sampled_from([None, True, False]),
    },
)


@given(st.lists(items, min_size=1, max_size=6))
def test_both_roads_lead_to_the_same_values(rows: list[dict[str, Any]]) -> None:
    """An escape in a name forces the slow road."""
    import tempfile

    timed = [{"time": 60.0 * k, **row} for k, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        fast = put(Path(folder), timed)
        slow = Path(folder) / "slow.json"
        slow.write_text(fast.read_text().replace('"time"', '"tim\\u0065"'))
        one, other = read_sensors(fast), read_sensors(slow)
    assert one.readings.tobytes() == other.readings.tobytes()
    assert (one.given, one.identity, one.timed) == (other.given, other.identity, other.timed)


def test_a_year_of_minutes_is_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 readings in a few seconds on any machine, and without the slow road."""
    row = json.dumps(PERFECT)[1:]
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(f'{{"time": {60.0 * k}, {row}' for k in range(100_000)))

    def slow(*_: object) -> Any:
        raise AssertionError("the slow road was taken")

    monkeypatch.setattr(sensorfiles, "_parsed", slow)
    file = read_sensors(path)
    assert len(file.readings) == 100_000
    assert np.all(np.diff(file.readings.ts_ns) == 60_000_000_000)
