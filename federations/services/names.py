"""Names that people give: of organizations, federations, models, devices."""

from __future__ import annotations

import re
import unicodedata

from fedwire.errors import FedportalError
from fedwire.routes import ID_PREFIXES, RESERVED_NAMES

# Letters and digits of any script, spaces, dots, dashes, underscores; the first a letter or digit.
_USABLE = re.compile(r"[^\W_][\w .\-]{0,99}")
IDENTIFIERS_HOLD = "plain letters, digits, dots, dashes or underscores"
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}")


def checked(name: str) -> str:
    """`name` as it is stored: trimmed and in Unicode's composed form (NFC). Raises `invalid_name`, `reserved_name`."""
    composed = checked_title(name)
    folded = composed.casefold()
    if folded in RESERVED_NAMES or folded.startswith(ID_PREFIXES):
        raise FedportalError("reserved_name", name=composed)
    return composed


def checked_title(name: str) -> str:
    """As `checked`, for names that stand in no address, such as a person's or a group's. Raises `invalid_name`."""
    composed = unicodedata.normalize("NFC", name.strip())
    if not _USABLE.fullmatch(composed):
        raise FedportalError("invalid_name", name=name[:110])
    return composed


def checked_identifier(identifier: str) -> str:
    """A device's identifier: as a name, in plain ASCII and without spaces. Raises `invalid_name`, `reserved_name`."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise FedportalError("invalid_name", name=identifier[:110], usable=IDENTIFIERS_HOLD)
    return checked(identifier)
