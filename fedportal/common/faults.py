"""Marked points at which a test may kill the process.

`FEDPORTAL_FAULT=after_commit:3` kills the process with SIGKILL at the third passage of the point `after_commit`. The
settings refuse to start with this variable in production mode; without it `point` costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

# Every point of an update's walk, in order; the crash test walks this list.
POINTS = (
    "waiting",  # devices wait, a round is about to be offered
    "task_taken",  # the task left for the device, nobody noted it yet
    "mid_upload",  # a part of the body is stored, and not the whole
    "after_blob",  # the body is complete and synced, no row speaks of it
    "before_commit",  # inside the transaction that records the update
    "after_commit",  # the row is there, the answer has not left
    "before_bell",  # the round is complete, nobody was told
    "round_claimed",  # the worker won the round, nothing is computed
    "mid_aggregation",  # a part of the new model is written
    "mid_shard",  # a block of a part is written, where a model is made in parts
    "before_shard",  # inside the transaction that says that a part is done
    "after_aggregation",  # the new model is a blob, no row speaks of it
    "before_publish",  # inside the transaction that closes the round
    "after_publish",  # the round is closed, the next is not open
    "before_version",  # the last round is closed, the version does not exist
    "after_version",  # inside the transaction that writes the version and ends the run
    "after_end",  # the run is over, nobody was told
)

# Those of a round of secure aggregation; another test walks them.
MASKED_POINTS = (
    "mid_fold",  # one masked vector is added to the sum, the others are not
    "before_erasure",  # what nobody needs any more is named in a row, and not removed
    "after_fold",  # the sum is a blob and its vectors are erased, devices are asked to agree
)

# Those of a version that is written in another form; a third test walks them.
CONVERSION_POINTS = (
    "mid_conversion",  # the file is written and checked, and no blob yet
    "form_written",  # the file is a blob, no row speaks of it
)

_target, _, _count = os.environ.get("FEDPORTAL_FAULT", "").partition(":")
_left = int(_count or 1)
_lock = threading.Lock()


def point(name: str) -> None:
    """Die here if this is the chosen point at its chosen passage."""
    if name != _target:
        return
    global _left
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
