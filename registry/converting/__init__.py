"""Versions written in other programs' forms, and each checked by what it answers. Files in, files out: no rows here."""

from __future__ import annotations


class ConversionFailed(Exception):
    """The conversion could not be made; the text says why, for a person."""
