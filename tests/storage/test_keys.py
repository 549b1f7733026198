"""Key files and the list of authorized keys: only safe ones, and every mistake is named."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mesosctl.errors import Refused
from mesosctl.model.cluster import Principal
from mesosctl.storage.keys import (
    AuthorizedKeys,
    KeyFile,
    append_authorized,
    load_authorized,
    load_key,
    load_or_make_server_key,
    make_keypair,
    save_key,
)

SERVER = make_keypair()
PAIR = make_keypair()
KEY = KeyFile("node-1", "agent", PAIR, SERVER.public, "tcp://master.example:5050")
WHO = Principal("node-1", PAIR.public, ("agent",), ("ann", "*"), ("*", "web/eu"))


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "node-1.key"
    save_key(path, KEY)
    return path


def test_a_key_file_comes_back_as_it_was(tmp_path: Path) -> None:
    """One file is all that is copied to a host."""
    path = saved(tmp_path)
    assert load_key(path) == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(" = ", "="),
        lambda text: text.replace('"\n', '"  # why\n'),
        lambda text: text.replace('name = "node-1"', 'name = "node\\u002d1"'),
        lambda text: text.replace('name = "node-1"', "name = 'node-1'"),
        lambda text: "\n" + text.replace("\n", "\r\n"),
    ],
    ids=["blanks", "comment", "escape", "literal", "lines"],
)
def test_a_key_file_written_by_hand_is_any_toml(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    """Only those that look as ours do are read without the parser."""
    path = saved(tmp_path)
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    assert load_key(path) == KEY


def test_a_word_that_occurs_twice_is_a_mistake(tmp_path: Path) -> None:
    """As in any TOML: which of both is meant nobody can tell."""
    path = saved(tmp_path)
    path.write_text(path.read_text() + 'name = "node-2"\n')
    with pytest.raises(Refused, match="is not a key file"):
        load_key(path)


def test_a_key_is_never_overwritten_or_shown(tmp_path: Path) -> None:
    """A lost secret cannot be made again, and a shown one is no secret."""
    path = saved(tmp_path)
    with pytest.raises(Refused, match="there already"):
        save_key(path, KeyFile("other", "client", make_keypair(), SERVER.public))
    assert load_key(path) == KEY
    assert PAIR.secret not in repr(KEY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Somebody may have copied it already; the way out is in the message."""
    path = saved(tmp_path)
    path.chmod(mode)
    with pytest.raises(Refused, match="chmod 600") as caught:
        load_key(path)
    assert PAIR.secret not in str(caught.value)


BROKEN: dict[str, Callable[[str], str]] = {
    "no toml": lambda text: text + "oops",
    "no name": lambda text: text.replace("name", "title"),
    "a path as name": lambda text: text.replace("node-1", "../x"),
    "unknown kind": lambda text: text.replace('"agent"', '"wizard"'),
    "short secret": lambda text: text.replace(PAIR.secret, PAIR.secret[:39]),
    "bad letters": lambda text: text.replace(PAIR.public, "~" * 40),
    "swapped": lambda text: (
        text.replace(PAIR.secret, "S").replace(PAIR.public, PAIR.secret).replace("S", PAIR.public)
        if "S" not in PAIR.secret + PAIR.public + SERVER.public
        else text.replace(f'public = "{PAIR.public}"', f'public = "{PAIR.secret}"')
    ),
    "no server": lambda text: text.replace("server =", "servant ="),
    "master a number": lambda text: text.replace(f'"{KEY.master}"', "5050"),
    "no utf-8": lambda text: text.replace("#", "\udcff"),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_bad_key_file_is_named_without_its_secret(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    """One line with the file, and nothing of what is in it."""
    path = saved(tmp_path)
    path.write_text(damage(path.read_text()), errors="surrogateescape")
    with pytest.raises(Refused) as caught:
        load_key(path)
    assert str(path) in str(caught.value)
    assert PAIR.secret not in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    """A missing one, a directory, a pipe (which must not hang), a huge file, somebody else's."""
    with pytest.raises(Refused, match="no such key file"):
        load_key(tmp_path / "missing.key")
    with pytest.raises(Refused, match="not a regular file"):
        load_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Refused, match="not a regular file"):
        load_key(tmp_path / "pipe")
    (tmp_path / "huge").touch(mode=0o600)
    os.truncate(tmp_path / "huge", 2**30)
    with pytest.raises(Refused, match="too large"):
        load_key(tmp_path / "huge")
    with pytest.raises(Refused, match="cannot be written"):
        save_key(tmp_path / "nowhere" / "x.key", KEY)


@pytest.mark.root
def test_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Its owner could change it while we trust it."""
    path = saved(tmp_path)
    os.chown(path, 12345, 12345)
    with pytest.raises(Refused, match="belongs to user 12345"):
        load_key(path)


def test_the_server_key_is_made_once(tmp_path: Path) -> None:
    """All key files hold its public half: a new one would lock everybody out."""
    first = load_or_make_server_key(tmp_path, "master")
    assert first.kind == "server" and first.server_key == ""
    assert load_or_make_server_key(tmp_path, "master") == first
    (tmp_path / "server.key").write_text("")
    with pytest.raises(Refused, match=r"server\.key"):
        load_or_make_server_key(tmp_path, "master")


def test_entries_are_appended_to_what_people_wrote(tmp_path: Path) -> None:
    """The list is edited by hand, comments included."""
    path = tmp_path / "authorized_keys.toml"
    assert load_authorized(path) == {}
    append_authorized(path, WHO)
    path.write_text("# our hosts\n" + path.read_text().rstrip("\n"))
    other = Principal("ann", SERVER.public, ("client", "operator"), (), ("*",))
    append_authorized(path, other)
    assert load_authorized(path) == {WHO.key: WHO, other.key: other}
    assert path.read_text().startswith("# our hosts\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for again in (
        Principal("another", WHO.key, ("agent",)),
        Principal("ann", make_keypair().public, ("agent",)),
    ):
        with pytest.raises(Refused, match="already"):
            append_authorized(path, again)


ENTRY = f'[[key]]\nname = "a"\npublic = "{PAIR.public}"\nkinds = ["client"]\n'


def test_what_is_left_out_grants_nothing_but_the_usual(tmp_path: Path) -> None:
    """No users named means none, never all."""
    path = tmp_path / "list.toml"
    path.write_text(ENTRY)
    path.chmod(0o600)
    assert load_authorized(path)[PAIR.public] == Principal(
        "a", PAIR.public, ("client",), (), ("*",)
    )


# Named, because the texts hold keys that are made anew by each process of a parallel run.
MISTAKES = {
    "key-is-no-list": "key = 5",
    "unknown-table": "other = 5",
    "empty-entry": "[[key]]\n",
    "unknown-field": ENTRY + "user = 'ann'\n",
    "unknown-kind": ENTRY.replace('"client"', '"wizard"'),
    "no-kind": ENTRY.replace('["client"]', "[]"),
    "kinds-is-text": ENTRY.replace('["client"]', '"client"'),
    "blank-in-name": ENTRY.replace('"a"', '"a b"'),
    "short-key": ENTRY.replace(PAIR.public, PAIR.public[1:]),
    "blank-in-user": ENTRY + 'users = ["a b"]\n',
    "user-is-a-number": ENTRY + "users = [0]\n",
    "role-begins-with-slash": ENTRY + 'roles = ["/x"]\n',
    "same-entry-twice": ENTRY + ENTRY,
    "same-name-twice": ENTRY + ENTRY.replace(PAIR.public, SERVER.public),
    "entry-is-a-number": "key = [1]",
    "name-twice": ENTRY + "name = 5\n",
}


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_a_list_with_a_mistake_is_refused_whole(tmp_path: Path, text: str) -> None:
    """A misread list would let the wrong ones in, or lock the right ones out."""
    path = tmp_path / "list.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Refused, match=r"list\.toml"):
        load_authorized(path)


def test_a_list_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write it can let himself in."""
    path = tmp_path / "list.toml"
    append_authorized(path, WHO)
    path.chmod(0o620)
    with pytest.raises(Refused, match="chmod 600"):
        load_authorized(path)
    path.chmod(0o644)
    assert load_authorized(path) == {WHO.key: WHO}


def test_changes_are_seen_and_told(tmp_path: Path) -> None:
    """A deleted line is a revoked key; a broken edit changes nothing and says so."""
    path = tmp_path / "list.toml"
    keys = AuthorizedKeys(path)
    assert keys.get(WHO.key) is None
    assert not keys.refresh()
    append_authorized(path, WHO)
    change = keys.refresh()
    assert (change.added, change.removed, change.problem) == ((WHO,), (), "")
    assert keys.get(WHO.key) == WHO
    assert not keys.refresh()

    good = path.read_text()
    path.write_text(good + "oops")
    change = keys.refresh()
    assert "list.toml" in change.problem and not change.removed
    assert keys.get(WHO.key) == WHO
    assert not keys.refresh()

    path.write_text(good.replace('"ann", ', ""))
    changed = Principal(WHO.name, WHO.key, WHO.kinds, ("*",), WHO.roles)
    assert keys.refresh().added == (changed,)
    path.unlink()
    assert keys.refresh().removed == (changed,)
    assert keys.get(WHO.key) is None


@pytest.mark.parametrize(
    ("name", "key"), [("a b", PAIR.public), ("a", "short")], ids=["name", "key"]
)
def test_only_good_entries_are_appended(tmp_path: Path, name: str, key: str) -> None:
    """What we write ourselves must be readable by ourselves."""
    with pytest.raises((Refused, ValueError)):
        append_authorized(tmp_path / "list.toml", Principal(name, key, ("agent",)))
    assert not (tmp_path / "list.toml").exists()
