"""Found by every Python below PYTHONPATH: kills the first process that reaches a chosen step of a dispatch.

A step is a call or a return of a function of the modules that dispatch, launch and record waves. CHAOS_KILL_STEP has
its number in that process, or says what it is: ``return of hand_over``. Does nothing unless it is set. The marker file
makes it happen once.
"""

import os
import sys

_STEPS = tuple(
    f"/reflow/{name}.py"
    for name in ("dispatch", "expanding", "jobs", "wave_files", "launch", "stores/wave_table", "stores/run_table")
)


def _arm(step: str, marker: str) -> None:
    seen = {"depth": 0, "steps": 0}

    def watch(frame, event, _argument) -> None:
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if not code.co_filename.endswith(_STEPS) or code.co_name.startswith("<"):
            return  # (within a comprehension nothing changes that others see)
        if code.co_name == "dispatch":
            seen["depth"] += 1 if event == "call" else -1
        if seen["depth"] <= 0:
            return
        seen["steps"] += 1
        words = f"{event} of {code.co_name}"
        if step in (str(seen["steps"]), words):
            try:
                descriptor = os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return
            role = "sentinel" if "sentinel" in sys.orig_argv else "worker"
            os.write(descriptor, f"{role}: {words}".encode())
            os.close(descriptor)
            os.kill(os.getpid(), 9)

    sys.setprofile(watch)


if "CHAOS_KILL_STEP" in os.environ and "reflow.worker" in sys.orig_argv:
    _arm(os.environ["CHAOS_KILL_STEP"], os.environ["CHAOS_MARKER"])
