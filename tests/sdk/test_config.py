"""What stays on the device: keys that only their owner reads, and one identity per portal and name."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedportal_sdk._config import DeviceRecord, Home, clean_url, key_id_of
from fedwire.errors import FedportalError
from fedwire.messages import registration_message

URL = "https://portal.example"
KEY_ID = "edg_abcd1234"
RECORD = DeviceRecord("dev_1", "hospital-001", "org_1", "edg_secret", KEY_ID)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_private_key_is_made_once_and_readable_by_its_owner_only(home: Home) -> None:
    folder = home.device(URL, "hospital-001")
    first = folder.private_key().private_bytes_raw()
    assert home.device(URL, "hospital-001").private_key().private_bytes_raw() == first
    assert mode(folder.folder / "private_key.pem") == 0o600
    assert mode(folder.folder) == 0o700


def test_a_key_that_others_could_read_is_closed(home: Home) -> None:
    folder = home.device(URL, "hospital-001")
    folder.private_key()
    path = folder.folder / "private_key.pem"
    path.chmod(0o644)
    folder.private_key()
    assert mode(path) == 0o600


def test_processes_that_start_together_agree_on_one_key(home: Home) -> None:
    def key(_: int) -> bytes:
        return home.device(URL, "hospital-001").private_key().private_bytes_raw()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(key, range(24)))) == 1
    assert [p.name for p in home.device(URL, "hospital-001").folder.iterdir()] == ["private_key.pem"]


def test_another_portal_or_name_is_another_device(home: Home) -> None:
    folders = [home.device(URL, "a"), home.device(URL, "b"), home.device("https://other.example", "a")]
    assert len({folder.private_key().private_bytes_raw() for folder in folders}) == 3


def test_a_registration_is_signed_by_the_devices_own_key(home: Home) -> None:
    registration = home.device(URL, "hospital-001").registration(KEY_ID)
    message = registration_message(
        key_id=KEY_ID,
        device_identifier="hospital-001",
        public_key=registration["public_key"],
        nonce=registration["nonce"],
    )
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(registration["public_key"]))
    public_key.verify(bytes.fromhex(registration["signature"]), message)
    assert registration["nonce"] != home.device(URL, "hospital-001").registration(KEY_ID)["nonce"]


def test_a_device_key_is_kept_per_enrolment_key(home: Home) -> None:
    folder = home.device(URL, "hospital-001")
    assert folder.record(KEY_ID) is None
    folder.keep(RECORD)
    assert folder.record(KEY_ID) == RECORD
    assert folder.record("edg_other000") is None
    assert folder.record("") == RECORD
    assert mode(folder.folder / f"{KEY_ID}.json") == 0o600


def test_a_damaged_record_counts_as_none(home: Home) -> None:
    folder = home.device(URL, "hospital-001")
    folder.keep(RECORD)
    (folder.folder / f"{KEY_ID}.json").write_text('{"id": "dev_1"')
    assert folder.record(KEY_ID) is None


def test_argument_comes_before_environment_before_saved(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "API_KEY", "CA_FILE"):
        monkeypatch.delenv(f"FEDPORTAL_{name}", raising=False)
    assert (home.url(), home.api_key(), home.ca_file()) == ("http://127.0.0.1:8000", "", None)
    home.save_settings(url="https://saved.example", api_key="edg_saved")
    home.save_settings(ca_file="/saved.pem")
    assert (home.url(), home.api_key(), home.ca_file()) == ("https://saved.example", "edg_saved", "/saved.pem")
    monkeypatch.setenv("FEDPORTAL_URL", "https://environment.example/")
    monkeypatch.setenv("FEDPORTAL_API_KEY", " edg_environment ")
    assert (home.url(), home.api_key()) == ("https://environment.example", "edg_environment")
    assert (home.url(URL), home.api_key("edg_given")) == (URL, "edg_given")


def test_settings_with_a_key_in_them_are_private(home: Home) -> None:
    assert mode(home.save_settings(api_key="edg_saved")) == 0o600


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("https://portal.example/", "https://portal.example"),
        ("https://portal.example/api/v1", "https://portal.example"),
        (" http://127.0.0.1:8000/fed/ ", "http://127.0.0.1:8000/fed"),
    ],
)
def test_addresses_are_cleaned(given: str, cleaned: str) -> None:
    assert clean_url(given) == cleaned


@pytest.mark.parametrize(
    "given", ["portal.example", "ftp://portal.example", "http://", "http://h:99999", "http://[::1"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(FedportalError) as caught:
        clean_url(given)
    assert caught.value.code == "field_invalid"


def test_only_the_public_part_of_a_key_is_used_as_its_name() -> None:
    assert key_id_of("edg_abcd1234_" + "x" * 43 + "_zzzzzz") == "edg_abcd1234"
    for wrong in ("", "edg_", "key_abcd1234_x", "edg_ab/d1234_xxxx", "edg_abcd1234"):
        with pytest.raises(FedportalError):
            key_id_of(wrong)
