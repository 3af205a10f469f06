"""The wave file: all that the workers of one wave need to start, in one immutable file.

A worker reads its own slot with a few small reads, whatever the width of the array: no lock, no database. ::

    magic (16 bytes), header length, number of slots (8 bytes each, little endian)
    header (JSON)
    where the records of each slot begin, and where the last ends (8 bytes each)
    the records: for each slot a JSON list, of one record or, where elements are packed, of several
"""

from __future__ import annotations

import json
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .deferred import asdict, dataclass, field
from .errors import ReflowError
from .indices import Indices
from .spec import TaskPlan

_MAGIC = b"reflow wave 2\n\0\0"
_PREAMBLE = struct.Struct("<16sQQ")
_OFFSET = struct.Struct("<Q")


@dataclass(frozen=True)
class WaveHeader:
    """What all slots of a wave have in common."""

    wave: int
    run_id: str
    run_dir: str
    #: Path of the manifest that gets the reports.
    manifest: str
    plan: TaskPlan
    #: `reflow.code.CodeReference` as JSON.
    code: Mapping[str, Any]
    #: The array's slots as ``sbatch --array`` writes them; ``0`` for a plain job.
    slots: str
    #: JSON texts of the inputs that every slot receives, by parameter: broadcasts and gathers.
    shared: Mapping[str, str]
    #: Their hashes, for the identity of elements that learn the rest of their inputs when they start.
    shared_hashes: Mapping[str, str]
    #: Hash of the direct inputs.
    input_hash: str
    #: Whether the worker dispatches what comes next, or leaves it to the sentinel.
    dispatch: bool
    #: Where the tasks run, and how paths count in identities.
    working_dir: str = "."
    path_fingerprint: str = "size+mtime"
    #: Whether a worker may find that an earlier result will do, and whether it must find every file of it.
    reuse: bool = False
    verify: bool = False


@dataclass(frozen=True)
class SlotRecord:
    """What one element has of its own."""

    instance: int
    index: int | None
    attempt: int
    #: Where launch found it anew; '' where the manifest's own stands, or only the worker can know.
    identity: str = ""
    #: Its own inputs by parameter, encoded: its fan-out items.
    inputs: Mapping[str, Any] = field(default_factory=dict)
    #: Database id of the parent instance by parameter, where the input is the output of one.
    parents: Mapping[str, int] = field(default_factory=dict)


def slot_text(
    instance: int, index: int | None, attempt: int, identity: str, inputs: str | None, parents: Mapping[str, int]
) -> str:
    """Return the JSON text of a `SlotRecord` whose `inputs` are JSON text already, which is not read for that."""
    return (
        f'{{"instance":{instance},"index":{"null" if index is None else index},"attempt":{attempt},'
        f'"identity":{json.dumps(identity)},"inputs":{inputs or "{}"},"parents":{json.dumps(parents)}}}'
    )


def write_wave(path: Path, header: WaveHeader, slots: Iterable[Iterable[SlotRecord | str]]) -> None:
    """Write the file in one step: it is there whole or not at all.

    The records, or their `slot_text`, come slot by slot in order, for as many slots as the header has. No more than
    those of one slot are kept in memory.
    """
    head = json.dumps(asdict(header), separators=(",", ":")).encode()
    count = len(Indices.parse(header.slots))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    table = _PREAMBLE.size + len(head)
    place = table + _OFFSET.size * (count + 1)
    offsets = array("Q", [place])
    with temporary.open("wb") as file:
        file.write(_PREAMBLE.pack(_MAGIC, len(head), count))
        file.write(head)
        file.seek(place)
        for records in slots:
            place += file.write(f"[{','.join(map(_text_of, records))}]".encode())
            offsets.append(place)
        if len(offsets) != count + 1:
            raise ReflowError(f"the wave has {count} slots, but elements for {len(offsets) - 1}: submit the run again")
        if sys.byteorder == "big":
            offsets.byteswap()
        file.seek(table)
        file.write(offsets.tobytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _text_of(record: SlotRecord | str) -> str:
    return record if isinstance(record, str) else json.dumps(vars(record), separators=(",", ":"))


class WaveFile:
    """A wave file opened for reading."""

    def __init__(self, path: Path | str) -> None:
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (lives as long as this object)
        except OSError as error:
            raise ReflowError(
                f"the wave file {path} cannot be read ({error.strerror}): was the run's folder moved or deleted?"
            ) from None
        magic, length, self._count = _PREAMBLE.unpack(self._read(0, _PREAMBLE.size, path))
        if magic != _MAGIC:
            raise ReflowError(f"{path} is not a wave file of this version of reflow: submit the run again")
        fields = json.loads(self._read(_PREAMBLE.size, length, path))
        fields["plan"] = TaskPlan.from_json(fields["plan"])
        self.header = WaveHeader(**fields)
        self.path = path
        self.slots = Indices.parse(self.header.slots)
        self._table = _PREAMBLE.size + length

    def elements(self, slot: int) -> tuple[SlotRecord, ...]:
        """Return the elements of `slot`, in order; a slot that the wave does not have is a `ReflowError`."""
        try:
            rank = self.slots.rank(slot)
        except KeyError:
            raise ReflowError(f"the wave file {self.path} has no slot {slot}; it has {self.slots}") from None
        span = self._read(self._table + rank * _OFFSET.size, 2 * _OFFSET.size, self.path)
        start, stop = struct.unpack("<2Q", span)
        return tuple(SlotRecord(**each) for each in json.loads(self._read(start, stop - start, self.path)))

    def records(self, slots: Indices) -> Iterator[tuple[int, SlotRecord]]:
        """Yield ``(slot, element)`` for all elements of these slots."""
        for slot in slots:
            for record in self.elements(slot):
                yield slot, record

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read(self, offset: int, length: int, path: Path | str) -> bytes:
        found = os.pread(self._file.fileno(), length, offset)
        while len(found) < length:
            more = os.pread(self._file.fileno(), length - len(found), offset + len(found))
            if not more:
                raise ReflowError(f"the wave file {path} is cut short: submit the run again")
            found += more
        return found
