"""The command `fedportal`."""

from fedportal_sdk.cli.main import main

__all__ = ["main"]
