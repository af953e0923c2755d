"""Users: who may associate, which answer goes back, and what a wrong passcode costs."""

import threading
import time
from typing import Any

import pytest

from gateway.access import users as users_module
from gateway.access.admission import Refusal
from gateway.access.passcodes import KEY_BYTES, MAXIMUM_COST, MAXIMUM_PASSCODE_BYTES, SALT_BYTES, PasscodeHash
from gateway.access.users import TYPES, USERNAME, USERNAME_AND_PASSCODE, Users, UserVerdict, user_name
from gateway.options.gateway import UsersSection
from scp.associate_request import UserIdentity

SECRET = b"correct horse"
HASH = str(PasscodeHash.make(SECRET))


def section(**options: Any) -> UsersSection:
    accepted = {"alice": HASH, "wörk station": None}
    return UsersSection.model_validate({"Accepted": accepted, **options})


def identity(
    name: str | bytes = "alice",
    passcode: bytes = SECRET,
    *,
    type: int = USERNAME_AND_PASSCODE,
    response: bool = False,
) -> UserIdentity:
    return UserIdentity(type, response, name.encode() if isinstance(name, str) else name, passcode)


def explanation(verdict: UserVerdict) -> str:
    assert verdict.rejection is not None
    assert verdict.rejection.refusal is Refusal.USER_NOT_ACCEPTED
    assert verdict.response is None
    return verdict.rejection.explanation


@pytest.mark.parametrize("type", [*TYPES, 6, 255])
def test_without_users_every_identity_is_accepted(type: int) -> None:
    users = Users(None)
    assert users.judge(None) == UserVerdict()
    assert users.judge(identity("anybody", b"", type=type)) == UserVerdict()


@pytest.mark.parametrize("type", [*TYPES, 6, 255])
def test_positive_response_is_given_for_what_needs_no_ticket(type: int) -> None:
    named = type in (USERNAME, USERNAME_AND_PASSCODE)
    assert Users(None).judge(identity(type=type, response=True)).response == (b"" if named else None)


def test_users_of_the_list_are_accepted() -> None:
    users = Users(section())
    assert users.judge(identity()) == UserVerdict()
    assert users.judge(identity(response=True)) == UserVerdict(response=b"")
    assert users.judge(identity("wörk station", b"", type=USERNAME)) == UserVerdict()
    assert users.judge(identity("wörk station", b"whatever")) == UserVerdict()


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (identity(passcode=b"wrong", response=True), "the passcode is wrong"),
        (identity(passcode=b""), "the passcode is wrong"),
        (identity("mallory", response=True), "the user is not in Users.Accepted"),
        (identity("ALICE"), "the user is not in Users.Accepted"),
        (identity("alice\0"), "the user is not in Users.Accepted"),
        (identity(b"\xff\xfe"), "the user is not in Users.Accepted"),
        (identity(type=USERNAME), "a user name without passcode"),
        (identity("mallory", type=USERNAME), "the user is not in Users.Accepted"),
        (identity(passcode=bytes(MAXIMUM_PASSCODE_BYTES + 1)), "a passcode of more than 1024 bytes"),
        (identity(type=3), "Kerberos ticket as user identity"),
        (identity(type=4), "SAML assertion as user identity"),
        (identity(type=5), "JSON Web Token as user identity"),
        (identity(type=99), "type 99 as user identity"),
        (None, "no user identity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_others_are_refused(offered: UserIdentity | None, reason: str) -> None:
    assert explanation(Users(section()).judge(offered)).startswith(reason)


def test_identity_need_not_be_required() -> None:
    users = Users(section(Required=False))
    assert users.judge(None) == UserVerdict()
    assert explanation(users.judge(identity(passcode=b"wrong"))) == "the passcode is wrong"


def test_passcodes_and_tickets_appear_in_no_text() -> None:
    for type in TYPES:
        offered = identity("ticket", b"hunter2", type=type)
        assert "hunter2" not in repr(offered) + user_name(offered)
        assert (user_name(offered) == "ticket") == (type in (USERNAME, USERNAME_AND_PASSCODE))
    assert len(user_name(identity("n" * 60_000))) == users_module.LOGGED_NAME_CHARACTERS


def test_unknown_user_takes_as_long_as_a_wrong_passcode() -> None:
    users = Users(section())

    def seconds(offered: UserIdentity) -> float:
        started = time.monotonic()
        users.judge(offered)
        return time.monotonic() - started

    unknown = min(seconds(identity("mallory")) for _ in range(3))
    wrong = min(seconds(identity(passcode=b"wrong")) for _ in range(3))
    assert unknown > wrong / 4


def test_flood_of_passcodes_is_congestion_and_verified_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "VERIFICATION_TIMEOUT_S", 0.05)
    expensive = PasscodeHash(MAXIMUM_COST, 8, 4, bytes(SALT_BYTES), bytes(KEY_BYTES))
    users = Users(UsersSection.model_validate({"Accepted": {"slow": str(expensive)}}))
    verdicts: list[UserVerdict] = []
    threads = [threading.Thread(target=lambda: verdicts.append(users.judge(identity("slow")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusals = [verdict.rejection.refusal for verdict in verdicts if verdict.rejection is not None]
    assert refusals.count(Refusal.TEMPORARY_CONGESTION) == 7
    assert refusals.count(Refusal.USER_NOT_ACCEPTED) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "correct horse",
        HASH.replace("scrypt", "md5"),
        HASH.replace("$8$", "$9999$"),
        HASH.replace("$16384$", "$1099511627776$"),
        HASH.replace("$16384$", "$16383$"),
        HASH.replace("$16384$", "$-16384$"),
        HASH[:-8],
        HASH + "$",
        HASH.rpartition("$")[0] + "$!!!!",
        HASH.rpartition("$")[0] + "$",
    ],
    ids=range(11),  # the salt is another one in each process
)
def test_hash_that_is_none_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected a hash that `dicom-gateway hash-password` has made") as raised:
        PasscodeHash.parse(text)
    assert not text or text not in str(raised.value)


def test_hashes_of_one_passcode_differ_and_both_fit() -> None:
    first, second = PasscodeHash.make(SECRET), PasscodeHash.make(SECRET)
    assert str(first) != str(second)
    for each in (first, second):
        assert PasscodeHash.parse(str(each)) == each
        assert each.fits(SECRET)
        assert not each.fits(SECRET + b" ")
