"""Public identifiers: a prefix and 20 random characters, such as `org_4f9…`. Integers stay inside the database."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
LENGTH = 20
_MOST = len(ALPHABET) ** LENGTH


def new_id(prefix: str) -> str:
    """A fresh id, `prefix` + "_" + 20 characters (117 bits)."""
    # One number for all characters: a round of 10,000 devices needs as many ids at once.
    number, text = secrets.randbelow(_MOST), ""
    for _ in range(LENGTH):
        number, place = divmod(number, len(ALPHABET))
        text += ALPHABET[place]
    return f"{prefix}_{text}"


def model_alias() -> int:
    """A fresh whole number of twelve digits, for clients that call a model by one; it counts nothing."""
    return 10**11 + secrets.randbelow(9 * 10**11)


# Django's migrations need a named function for each default.
def org_id() -> str:
    return new_id("org")


def usr_id() -> str:
    return new_id("usr")


def fed_id() -> str:
    return new_id("fed")


def inv_id() -> str:
    return new_id("inv")


def key_id() -> str:
    return new_id("key")


def dev_id() -> str:
    return new_id("dev")


def tsk_id() -> str:
    return new_id("tsk")


def upl_id() -> str:
    return new_id("upl")


def mdl_id() -> str:
    return new_id("mdl")


def ver_id() -> str:
    return new_id("ver")


def rol_id() -> str:
    return new_id("rol")


def exp_id() -> str:
    return new_id("exp")


def inf_id() -> str:
    return new_id("inf")


def run_id() -> str:
    return new_id("run")


def agr_id() -> str:
    return new_id("agr")


def whk_id() -> str:
    return new_id("whk")


def dlv_id() -> str:
    return new_id("dlv")
