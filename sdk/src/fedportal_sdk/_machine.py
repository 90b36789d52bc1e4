"""What a registration says about the machine: system, SDK and what it can do. Nothing about its users or data."""

from __future__ import annotations

import logging
import os
import platform
from typing import Any, TypedDict

from fedwire.version import VERSION

log = logging.getLogger("fedportal")


class About(TypedDict):
    """What a registration says about the machine."""

    platform: str
    os_version: str
    sdk_version: str
    capabilities: dict[str, Any]


def about_this_machine() -> About:
    """What a registration says about the machine: system, SDK and what it can do. Nothing about its users or data."""
    capabilities: dict[str, Any] = {"cpus": os.cpu_count() or 1, "python": platform.python_version()}
    try:
        capabilities["memory_mb"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (AttributeError, ValueError, OSError):
        log.debug("This system does not say how much memory it has.")
    try:
        capabilities["gpus"] = len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        capabilities["gpus"] = 0
    return {
        "platform": platform.system().lower() or "unknown",
        "os_version": platform.release()[:100],
        "sdk_version": VERSION,
        "capabilities": {**capabilities, "architecture": platform.machine()},
    }
