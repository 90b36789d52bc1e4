"""Small secrets at rest that must be read again, such as those of a second factor: encrypted under the pepper."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Unreadable(Exception):
    """What was sealed under another pepper, or was changed."""


def seal(text: str) -> str:
    """`text`, encrypted and protected against change."""
    return _fernet().encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """What `seal` was given. Raises `Unreadable`."""
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Unreadable("a secret at rest cannot be read: was FEDPORTAL_PEPPER changed?") from error


def signing_key(purpose: str) -> Ed25519PrivateKey:
    """The deployment's own key for one purpose, always the same under the same pepper."""
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"fedportal signs: {purpose}".encode())
    return Ed25519PrivateKey.from_private_bytes(derive.derive(settings.FEDPORTAL_PEPPER.encode()))


def _fernet() -> Fernet:
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fedportal secrets at rest")
    return Fernet(base64.urlsafe_b64encode(derive.derive(settings.FEDPORTAL_PEPPER.encode())))
