"""A simulation: many devices with speeds, drop-outs, skew and attackers, against the real portal.

Every simulated device has a key of its own and speaks the protocol that real devices speak; only its rows, its speed
and its character are drawn. `Settings` says what is drawn, `Simulation` plays it, `Outcome` is what was measured.
"""

from __future__ import annotations

from fedportal_sdk.simulation.conductor import Simulation
from fedportal_sdk.simulation.outcome import Outcome
from fedportal_sdk.simulation.report import page
from fedportal_sdk.simulation.wishes import Attackers, Dropout, Settings, Skew, Speeds

__all__ = ["Attackers", "Dropout", "Outcome", "Settings", "Simulation", "Skew", "Speeds", "page"]
