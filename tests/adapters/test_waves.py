"""The wave file gives each slot its own record, at any width, and says what is wrong with a bad one."""

from __future__ import annotations

import pytest

from reflow.errors import ReflowError
from reflow.indices import Indices
from reflow.spec import JobConfig, TaskPlan
from reflow.waves import SlotRecord, WaveFile, WaveHeader, write_wave


def header(slots):
    return WaveHeader(
        wave=1,
        run_id="r",
        run_dir="/run",
        manifest="/m.db",
        plan=TaskPlan("count", JobConfig(array=True)),
        code={},
        slots=str(slots),
        shared={"all": "[1,2]"},
        shared_hashes={"all": "h"},
        input_hash="i",
        dispatch=True,
    )


def test_each_slot_reads_its_own_record_back(tmp_path):
    slots = Indices([0, 1, 7, 900])
    records = [SlotRecord(10 + slot, slot, 1, inputs={"item": slot * 2}, parents={"up": slot}) for slot in slots]
    write_wave(tmp_path / "1.wave", header(slots), [[record] for record in records])
    wave = WaveFile(tmp_path / "1.wave")
    assert wave.header == header(slots)
    assert [wave.elements(slot) for slot in slots] == [(record,) for record in records]
    assert list(wave.records(Indices([1, 900]))) == [(1, records[1]), (900, records[3])]


def test_a_packed_slot_holds_several_elements(tmp_path):
    records = [SlotRecord(10 + index, index, 1) for index in range(5)]
    write_wave(tmp_path / "1.wave", header(Indices([0, 3])), [records[:3], records[3:]])
    wave = WaveFile(tmp_path / "1.wave")
    assert (wave.elements(0), wave.elements(3)) == (tuple(records[:3]), tuple(records[3:]))
    assert [slot for slot, _ in wave.records(Indices([0, 3]))] == [0, 0, 0, 3, 3]


def test_a_slot_that_the_wave_does_not_have_is_named(tmp_path):
    write_wave(tmp_path / "1.wave", header(Indices([3])), [[SlotRecord(1, 3, 1)]])
    with pytest.raises(ReflowError, match="has no slot 4; it has 3"):
        WaveFile(tmp_path / "1.wave").elements(4)


def test_a_missing_file_a_foreign_file_and_a_short_file_are_told_apart(tmp_path):
    with pytest.raises(ReflowError, match="cannot be read"):
        WaveFile(tmp_path / "none")
    (tmp_path / "foreign").write_text("x" * 100)
    with pytest.raises(ReflowError, match="is not a wave file"):
        WaveFile(tmp_path / "foreign")
    write_wave(tmp_path / "whole", header(Indices([0, 1])), [[SlotRecord(1, 0, 1)], [SlotRecord(2, 1, 1)]])
    (tmp_path / "short").write_bytes((tmp_path / "whole").read_bytes()[:-20])
    with pytest.raises(ReflowError, match="cut short"):
        WaveFile(tmp_path / "short").elements(1)


def test_writing_leaves_nothing_half_done_beside_the_file(tmp_path):
    write_wave(tmp_path / "waves" / "1.wave", header(Indices([0])), [[SlotRecord(1, 0, 1)]])
    assert [path.name for path in (tmp_path / "waves").iterdir()] == ["1.wave"]
