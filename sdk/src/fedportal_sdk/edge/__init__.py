"""An organization's edge aggregator: see `fedportal_sdk.edge.edge`."""

from fedportal_sdk.edge.edge import Edge
from fedportal_sdk.edge.terms import Terms

__all__ = ["Edge", "Terms"]
