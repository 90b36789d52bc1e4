"""Imported before numpy, it lets one processor compute each product of matrices, where nothing else is asked for.

Requests are computed side by side. Where others use the processors too, threads within each wait for one another: a
batch of 32 pictures took six times as long.
"""

from __future__ import annotations

import os
import sys

ONE = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")

if "numpy" not in sys.modules and not any(name in os.environ for name in ONE):
    os.environ[ONE[0]] = "1"
