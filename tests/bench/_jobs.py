"""Parts of a benchmark that know nothing of one another: done one after the other, or by several processes at once."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")


def add_option(parser: argparse.ArgumentParser) -> None:
    """--jobs"""
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with a portal of its own")


def done(work: Callable[[J], R], jobs: Sequence[J], processes: int, say: Callable[[J, R], str]) -> Iterator[R]:
    """What `work` makes of each of the jobs, in their order; a line on standard error for each, when it is its turn.

    With several processes `work`, the jobs and the results travel by pickle; a result does not depend on their number.
    """
    began = time.monotonic()

    def told(number: int, job: J, result: R) -> R:
        spent = time.monotonic() - began
        print(f"{number} of {len(jobs)}, {spent:.0f} s: {say(job, result)}", file=sys.stderr, flush=True)
        return result

    if processes < 2:
        for number, job in enumerate(jobs, 1):
            yield told(number, job, work(job))
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for number, (job, result) in enumerate(zip(jobs, pool.map(work, jobs), strict=True), 1):
            yield told(number, job, result)
