"""Take part in federated training with fedportal. Light to import: no torch, no Django, no server."""

from __future__ import annotations

from fedportal_sdk._loop import Participation
from fedportal_sdk._retry import Stopped
from fedportal_sdk.client import FederatedClient
from fedwire.errors import FedportalError
from fedwire.version import VERSION

__all__ = ["FederatedClient", "FedportalError", "Participation", "Stopped", "__version__"]
__version__ = VERSION
