"""What a page calls the fields of its forms. The API and the command line name a field as one has to send it."""

from __future__ import annotations

from collections.abc import Mapping

from federations.services import policies
from fedwire.errors import FedportalError

# Where the label is not simply the name with spaces. Floors above add those of their own forms.
_LABELS = {
    "accept_agreement": "Study agreement",
    "data": "File of rows",
    "day": "Date",
    "days": "For how many days",
    "device_limit": "Most devices it may register",
    "expires_at": "Ends",
    "expires_on": "Last day",
    "groups": "Its groups",
    "identifier": "Name of the device",
    "kinds": "Events",
    "lasts": "How long does it work?",
    "organization_name": "Your organization",
    "org_ids": "Organization ids",
    "scopes": "What may it do?",
    "target": "Column to predict",
    "url": "Address",
    "whom": "Organization ids or email addresses",
    **{name: title.capitalize() for name, title in policies.TITLES.items()},
}


def add(names: Mapping[str, str]) -> None:
    """Name the fields of further forms. Raises ValueError for one that has another label: it means two things."""
    for name, title in names.items():
        if _LABELS.setdefault(name, title) != title:
            raise ValueError(f"the field {name!r} is called {_LABELS[name]!r} already, and now {title!r}")


def label(field: str) -> str:
    """The label of a field: "config.learning_rate" is "Learning rate"."""
    name = field.rpartition(".")[2]
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def sentence(error: FedportalError) -> str:
    """The error as a page says it."""
    return worded(error.message, str(error.context.get("field", "")))


def worded(message: str, field: str) -> str:
    """The sentence with the field's label in place of its name."""
    if not field:
        return message
    shown, name = f"“{label(field)}”", field.rpartition(".")[2]
    return message.replace(f"The field {field!r}", shown).replace(f"{name!r}", shown)
