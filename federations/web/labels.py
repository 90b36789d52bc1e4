"""What a page calls the fields of its forms. The API and the command line name a field as one has to send it."""

from __future__ import annotations

from fedwire.errors import FedportalError

# Where the label is not simply the name with spaces.
LABELS = {
    "accept_agreement": "Accept the study agreement",
    "data": "File of rows",
    "days": "For how many days",
    "device_limit": "How many devices",
    "expires_at": "Ends",
    "expires_on": "Last day",
    "identifier": "Name of the device",
    "kinds": "Events",
    "lasts": "Lasts",
    "least_records": "Least rows",
    "min_participants": "Least devices a round",
    "organization_name": "Your organization",
    "org_ids": "Organization ids",
    "round_seconds": "Seconds a round may take",
    "standardise": "Standardise the columns",
    "target": "Column to predict",
    "upload": "A safetensors file",
    "url": "Address",
    "whom": "Organization ids or email addresses",
}


def label(field: str) -> str:
    """The label of a field: "config.learning_rate" is "Learning rate"."""
    name = field.rpartition(".")[2]
    return LABELS.get(name, name.replace("_", " ").capitalize())


def sentence(error: FedportalError) -> str:
    """The error as a page says it."""
    return worded(error.message, str(error.context.get("field", "")))


def worded(message: str, field: str) -> str:
    """The sentence with the field's label in place of its name."""
    if not field:
        return message
    shown, name = f"“{label(field)}”", field.rpartition(".")[2]
    return message.replace(f"The field {field!r}", shown).replace(f"{name!r}", shown)
