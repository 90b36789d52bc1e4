"""Take part in federated training with fedportal. Light to import: no torch, no Django, no server."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedwire.errors import FedportalError
from fedwire.version import VERSION

if TYPE_CHECKING:
    from fedportal_sdk._participation import Participation
    from fedportal_sdk._retry import Stopped
    from fedportal_sdk.client import FederatedClient

__all__ = ["FederatedClient", "FedportalError", "Participation", "Stopped", "__version__"]
__version__ = VERSION
# Loaded when they are asked for: most of the command line does without them, and without numpy.
_MADE_IN = {"FederatedClient": "client", "Participation": "_participation", "Stopped": "_retry"}


def __getattr__(name: str) -> Any:
    """One of the names of `__all__`, when it is first asked for."""
    if name not in _MADE_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = getattr(import_module(f"{__name__}.{_MADE_IN[name]}"), name)
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
