"""What Slurm says back: text in, records out. Pure; tested on recorded outputs of Slurm 22.05."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import SubmitDeferred, SubmitOverLimit, SubmitRefused, SubmitTooLarge, SubmitUnknown
from ..indices import Indices
from .base import JobStatus, Limits, SlotKey, SlotStatus

#: Slurm's own ``MaxArraySize``, for when the cluster cannot be asked.
DEFAULT_MAX_ARRAY_SIZE = 1_001

#: What sacct says where no accounting is kept.
NO_ACCOUNTING = "Slurm accounting storage is disabled"

#: What squeue says when it has forgotten the only job it was asked for; of several it leaves out the forgotten ones.
FORGOTTEN_JOB = "Invalid job id specified"

_STATUSES = {
    "PENDING": JobStatus.PENDING,
    "CONFIGURING": JobStatus.PENDING,
    "REQUEUED": JobStatus.PENDING,
    "REQUEUE_FED": JobStatus.PENDING,
    "REQUEUE_HOLD": JobStatus.PENDING,
    "RESV_DEL_HOLD": JobStatus.PENDING,
    "SPECIAL_EXIT": JobStatus.PENDING,
    "COMPLETED": JobStatus.COMPLETED,
    "FAILED": JobStatus.FAILED,
    "DEADLINE": JobStatus.FAILED,
    "CANCELLED": JobStatus.CANCELLED,
    "REVOKED": JobStatus.CANCELLED,
    "TIMEOUT": JobStatus.TIMEOUT,
    "OUT_OF_MEMORY": JobStatus.OUT_OF_MEMORY,
    "NODE_FAIL": JobStatus.NODE_FAIL,
    "BOOT_FAIL": JobStatus.NODE_FAIL,
    "LAUNCH_FAILED": JobStatus.NODE_FAIL,
    "RECONFIG_FAIL": JobStatus.NODE_FAIL,
    "PREEMPTED": JobStatus.PREEMPTED,
}

# SIGILL SIGABRT SIGBUS SIGFPE SIGKILL SIGSEGV SIGTERM: what a shell reports as 128 + number.
_DEADLY_SIGNALS = frozenset({4, 6, 7, 8, 9, 11, 15})
_LAST_PLAIN_SIGNAL = 31

_JOB_ID = re.compile(r"(?:Submitted batch job )?(\d+(?:;\S+)?)")
_ROW_ID = re.compile(r"(\d+)(?:_(?:(\d+)|\[([\d,:%-]+)\]))?")
_USAGE = re.compile(r"(\d+)(?:_(\d+))?\.\w+\|([\d.]+)([KMGT]?)")
_KIB = {"": 1 / 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
_MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)
_SPEAKER = re.compile(r"^\s*sbatch: (?:error: |fatal: )?", re.MULTILINE)
_POLICY_REASON = re.compile(r"\b(?:Assoc|QOS)[A-Z]\w+")

# The controller may have taken the job before the line broke.
_AMBIGUOUS = (
    "socket timed out",
    "connection timed out",
    "connection reset",
    "zero bytes were transmitted or received",
    "message receive failure",
    "unexpected message received",
)
_PASSING = (
    "resource temporarily unavailable",
    "temporarily unable to accept job",
    "unable to contact slurm controller",
    "unable to establish controller machine",
    "could not establish a configuration source",
    "in standby mode",
    "connection refused",
    "no route to host",
    "requested nodes are busy",
    "required partition not available",
    "authentication error",
    "error writing script/environment to file",
)


@dataclass(frozen=True)
class Row:
    """One line of squeue or sacct: one slot, or several that still wait together."""

    number: str
    #: None for a plain job.
    slots: Indices | None
    answer: SlotStatus
    #: When this try entered the queue, comparable as text; '' where it was not asked.
    submitted: str = ""


def parse_job_id(stdout: str) -> str | None:
    """Return the job id, ``12`` or ``12;cluster``, from what sbatch printed; None when there is none.

    It is the last line that has one: sites print banners before it.
    """
    for line in reversed(stdout.splitlines()):
        found = _JOB_ID.fullmatch(line.strip())
        if found:
            return found[1]
    return None


def parse_account(text: str) -> list[Row]:
    """Read ``sacct`` as `slurm_words.account_words` asks it: one row per try, in any order."""
    rows = []
    for number, slots, (state, exit_code, nodes, reason, submitted) in _rows(text, 6):
        status = _status(state)
        # Slots that waited for something keep that as their reason for ever. Only "CANCELLED" without "by UID",
        # of a job that never began, is Slurm's own doing.
        if status is JobStatus.CANCELLED and " by " not in state and not _node(nodes) and reason == "Dependency":
            status = JobStatus.DEPENDENCY
        code, _, signal = exit_code.partition(":")
        answer = _answer(status, _number(code), _number(signal), nodes, reason, shows_seven_bits=True)
        rows.append(Row(number, slots, answer, submitted))
    return rows


def parse_queue(text: str) -> list[Row]:
    """Read ``squeue`` as `slurm_words.queue_words` asks it: the newest try of each slot, once."""
    rows = []
    for number, slots, (state, wait_status, nodes, reason) in _rows(text, 5):
        status = _status(state)
        if status is JobStatus.CANCELLED and reason == "DependencyNeverSatisfied":
            status = JobStatus.DEPENDENCY
        # As wait(2) gives it: the exit code above the low byte, the signal in its low seven bits.
        ended = _number(wait_status)
        answer = _answer(status, ended >> 8, ended & 0x7F, nodes, reason, shows_seven_bits=False)
        rows.append(Row(number, slots, answer))
    return rows


def merge(queue: Iterable[Row], account: Iterable[Row], cluster: str | None = None) -> dict[SlotKey, SlotStatus]:
    """Return what became of each slot, from both sources.

    The queue knows best: it is current, knows which try is the newest, and sees exit codes above 127. The account
    lags up to 5 s, and tells of what the queue has forgotten. What the account alone takes for alive was
    forgotten by both.
    """
    newest: dict[tuple[str, int | None], tuple[str, SlotStatus]] = {}
    for row in account:
        for slot in (None,) if row.slots is None else row.slots:
            known = newest.get((row.number, slot))
            if known is None or row.submitted >= known[0]:
                newest[row.number, slot] = (row.submitted, row.answer)
    merged = {key: answer for key, (_, answer) in newest.items() if answer.status.is_over}
    for row in queue:
        for slot in (None,) if row.slots is None else row.slots:
            merged[row.number, slot] = row.answer
    # For some seconds sacct shows the last element of an array under the array's bare number, even as FAILED.
    arrays = {number for number, slot in (*newest, *merged) if slot is not None}
    suffix = "" if cluster is None else f";{cluster}"
    return {
        (number + suffix, slot): answer
        for (number, slot), answer in merged.items()
        if slot is not None or number not in arrays
    }


def parse_usage(text: str, cluster: str | None = None) -> dict[SlotKey, int]:
    """Return the most KiB that a step of each slot used, from lines ``53_2.batch|123456K``."""
    suffix = "" if cluster is None else f";{cluster}"
    used: dict[SlotKey, int] = {}
    for line in text.splitlines():
        found = _USAGE.fullmatch(line.strip())
        if found:
            number, slot, amount, unit = found.groups()
            key = number + suffix, None if slot is None else int(slot)
            used[key] = max(used.get(key, 0), int(float(amount) * _KIB[unit]))
    return used


def parse_found(text: str) -> str | None:
    """Return the job number from lines ``id|state``, the newest, of those that live if any does; else None."""
    found = [(not row.answer.status.is_over, int(row.number)) for row in _found_rows(text)]
    return str(max(found)[1]) if found else None


def parse_config_limits(text: str) -> Limits:
    """Read the limits from ``scontrol show config``; Slurm's default where it does not say."""
    found = _MAX_ARRAY_SIZE.search(text)
    return Limits(max_array_size=int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE)


def classify_refusal(stderr: str, code: int) -> SubmitRefused | SubmitDeferred | SubmitUnknown:
    """Return the error for an ``sbatch`` that failed, with Slurm's own words.

    A text that is not known is a refusal: most come from a site's own submit rules, which do not change.
    """
    words = "; ".join(line.strip() for line in _SPEAKER.sub("", stderr).splitlines() if line.strip())
    words = words or f"exit code {code}"
    lower = words.lower()
    if code < 0 or any(phrase in lower for phrase in _AMBIGUOUS):
        return SubmitUnknown(f"it is not known whether Slurm has accepted the job: {words}")
    if "invalid job array specification" in lower:
        return SubmitTooLarge(f"Slurm takes no array that large: {words}")
    if _is_submit_limit(words):
        return SubmitOverLimit(f"Slurm does not accept the job now: {words}")
    if any(phrase in lower for phrase in _PASSING):
        return SubmitDeferred(f"Slurm does not accept the job now: {words}")
    return SubmitRefused(f"Slurm refuses the job: {words}")


def is_over_already(stderr: str) -> bool:
    """Return whether ``scancel`` complained only about jobs that have ended or are not known."""
    complaints = [line.lower() for line in stderr.splitlines() if line.strip()]
    return bool(complaints) and all(
        "invalid job id" in line or "already completing or completed" in line for line in complaints
    )


def _is_submit_limit(words: str) -> bool:
    """Return whether a policy's limit on queued jobs was met, and not one on the size or time of a single job."""
    if "job violates accounting/qos policy" not in words.lower():
        return False
    reasons = _POLICY_REASON.findall(words)
    return not reasons or any("Submit" in reason for reason in reasons)


def _rows(text: str, fields: int) -> Iterator[tuple[str, Indices | None, list[str]]]:
    """Yield job number, slots and the other fields of each line; what is no such line (a cluster's name) is skipped."""
    for line in text.splitlines():
        parts = line.split("|")
        found = _ROW_ID.fullmatch(parts[0].strip())
        if found is None or len(parts) < fields:
            continue
        number, slot, ranges = found.groups()
        slots = None
        if slot is not None:
            slots = Indices([int(slot)])
        elif ranges is not None:
            slots = _parse_slots(ranges)
        yield number, slots, [part.strip() for part in parts[1:fields]]


def _found_rows(text: str) -> Iterator[Row]:
    for number, slots, (state,) in _rows(text, 2):
        yield Row(number, slots, SlotStatus(_status(state)))


def _parse_slots(text: str) -> Indices:
    """Read the slots that wait together: ``2-4,9-15:2%2``, with Slurm's steps and the throttle at the end."""
    plain, _, _ = text.partition("%")
    slots = Indices()
    for part in plain.split(","):
        span, colon, step = part.partition(":")
        piece = Indices.parse(span)
        if colon:
            ((start, stop),) = piece.ranges
            piece = Indices(range(start, stop, int(step)))
        slots = slots | piece
    return slots


def _status(state: str) -> JobStatus:
    """Return the status for a state word; one that is not known is taken as still going on (SUSPENDED, COMPLETING)."""
    word = state.split(" ", 1)[0].rstrip("+")
    return _STATUSES.get(word, JobStatus.RUNNING)


def _answer(
    status: JobStatus, code: int, signal: int, nodes: str, reason: str, *, shows_seven_bits: bool
) -> SlotStatus:
    """Return a status with how the process ended, where that adds to the status' own word.

    `shows_seven_bits`: exit codes come without their highest bit, so that a shell's 137 and an exit code 9 look
    alike; the deadly signals are taken for the former, because workers do not exit so.
    """
    exit_code: int | None = None
    killed_by: int | None = None
    if status in (JobStatus.COMPLETED, JobStatus.FAILED):
        if signal:
            # Above the plain signals are Slurm's own numbers: 53 says that the job could not be launched.
            killed_by = signal if signal <= _LAST_PLAIN_SIGNAL else None
        else:
            exit_code = code + 128 if shows_seven_bits and code in _DEADLY_SIGNALS else code
            killed_by = exit_code - 128 if exit_code - 128 in _DEADLY_SIGNALS else None
    return SlotStatus(status, exit_code, killed_by, _node(nodes), reason if reason not in ("", "None") else None)


def _node(nodes: str) -> str | None:
    return nodes if nodes not in ("", "None assigned", "(null)", "n/a") else None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
