"""Who holds which key: key files, the list of authorized keys, and fresh key pairs.

Rules: a secret is read from a file of ours that nobody else can read, or not at all; it is never
shown, not even by repr. Whatever is wrong with a file is one Refused that names the file and what
to do. The list of authorized keys is only ever appended to by us: its owner edits it, a running
master re-reads it, and a line that is gone is a key that is revoked.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

from mesosctl.errors import Refused
from mesosctl.model.cluster import KINDS, Principal
from mesosctl.model.ids import is_ident, is_role
from mesosctl.model.patterns import pattern
from mesosctl.model.records import dataclass

_Z85 = pattern(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_USER = pattern(r"\*|[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,63}\$?")
_FILE_BYTES_MAX = 4 * 1024 * 1024
_NOBODY_ELSE = 0o077
_OTHERS_MAY_WRITE = 0o022


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, both in Z85 text (40 characters each)."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One key file: whose pair it is, the server key it trusts, and where that server listens.

    `kind` is one of agent, framework, client, operator; `server` for a listening side's own pair,
    which trusts nobody and has no address.
    """

    name: str
    kind: str
    pair: KeyPair
    server_key: str = ""
    master: str = ""


def make_keypair() -> KeyPair:
    """A fresh pair."""
    # Imported here: reading files needs no zmq, and commands start faster without it.
    import zmq

    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def is_key_text(text: object) -> bool:
    """Whether this is a key in Z85 text."""
    return isinstance(text, str) and _Z85.fullmatch(text) is not None


# --- key files ------------------------------------------------------------------------------------


def load_key(path: Path) -> KeyFile:
    """Read a key file. Raises Refused, naming the file and what to do."""
    table = _load_toml(path, "key file", _NOBODY_ELSE, f"chmod 600 {path}")
    name, kind = table.get("name"), table.get("kind")
    if not isinstance(name, str) or not is_ident(name):
        raise Refused(f"{path}: `name` is missing or no name", "copy the file anew")
    if kind not in (*KINDS, "server"):
        raise Refused(f"{path}: `kind` is none of {', '.join(KINDS)}", "copy the file anew")
    keys = {word: table.get(word, "") for word in ("public", "secret", "server")}
    for word, text in keys.items():
        if not is_key_text(text) and not (word == "server" and kind == "server" and text == ""):
            raise Refused(f"{path}: `{word}` is not a key of 40 characters", "copy the file anew")
    master = table.get("master", "")
    if not isinstance(master, str):
        raise Refused(f"{path}: `master` is not an address", 'write master = "tcp://HOST:PORT"')
    _check_pair(path, keys["public"], keys["secret"])
    pair = KeyPair(keys["public"], keys["secret"])
    return KeyFile(name, str(kind), pair, keys["server"], master)


def _check_pair(path: Path, public: str, secret: str) -> None:
    import zmq

    if zmq.curve_public(secret.encode("ascii")) != public.encode("ascii"):
        raise Refused(
            f"{path}: `public` does not belong to `secret`; the two may be swapped",
            "copy the file anew",
        )


def save_key(path: Path, key: KeyFile) -> None:
    """Write a new key file with mode 0600. Raises Refused when there is one already."""
    lines = [
        "# Whoever can read this file is taken for its owner. Keep its mode at 0600.",
        f"name = {_quoted(key.name)}",
        f"kind = {_quoted(key.kind)}",
        f"public = {_quoted(key.pair.public)}",
        f"secret = {_quoted(key.pair.secret)}",
    ]
    if key.server_key:
        lines.append(f"server = {_quoted(key.server_key)}")
    if key.master:
        lines.append(f"master = {_quoted(key.master)}")
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _write_durably(scratch, "\n".join(lines) + "\n")
        # A link, unlike a rename, fails when the name is taken: no key is ever overwritten.
        os.link(scratch, path)
        _sync_directory(path.parent)
    except FileExistsError:
        raise Refused(f"{path} is there already", "choose another name, or remove it") from None
    except OSError as error:
        raise Refused(
            f"{path}: cannot be written: {error.strerror}", "choose another --dir"
        ) from None
    finally:
        scratch.unlink(missing_ok=True)


def load_or_make_server_key(directory: Path, name: str) -> KeyFile:
    """The listening side's own pair in its state directory, made on the first start.

    Raises Refused when the file is there but not as it should be.
    """
    path = directory / "server.key"
    if not os.path.lexists(path):
        save_key(path, KeyFile(name, "server", make_keypair()))
    return load_key(path)


# --- the list of authorized keys ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeysChange:
    """What a look at the list found: keys that are new or changed, keys that are gone.

    `problem`: why the list could not be read; then the list as it was stays in force.
    """

    added: tuple[Principal, ...] = ()
    removed: tuple[Principal, ...] = ()
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.problem)


class AuthorizedKeys:
    """The list in `path`, held by public key. A file that is not there is an empty list."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self.principals: dict[str, Principal] = {}
        self._stamp = self._look()
        self.principals = load_authorized(path)

    def get(self, key: str) -> Principal | None:
        """Who this public key is; None for nobody."""
        return self.principals.get(key)

    def refresh(self) -> KeysChange:
        """Read the list again if the file changed since the last look."""
        stamp = self._look()
        if stamp == self._stamp:
            return KeysChange()
        self._stamp = stamp
        try:
            fresh = load_authorized(self.path)
        except Refused as error:
            return KeysChange(problem=str(error))
        old, self.principals = self.principals, fresh
        return KeysChange(
            tuple(who for key, who in fresh.items() if old.get(key) != who),
            tuple(who for key, who in old.items() if key not in fresh),
        )

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def load_authorized(path: Path) -> dict[str, Principal]:
    """The principals of authorized_keys.toml by public key. Raises Refused, naming the entry."""
    if not os.path.lexists(path):
        return {}
    table = _load_toml(path, "key list", _OTHERS_MAY_WRITE, f"chmod 600 {path}")
    entries = table.get("key", [])
    if not isinstance(entries, list) or set(table) - {"key"}:
        raise Refused(f"{path}: only [[key]] entries are expected", "see `mesosctl keygen --help`")
    principals: dict[str, Principal] = {}
    names: dict[str, None] = {}
    for number, entry in enumerate(entries, 1):
        try:
            who = _principal(entry)
        except ValueError as error:
            raise Refused(f"{path}: entry {number}: {error}", "correct it, or delete it") from None
        if who.key in principals or who.name in names:
            raise Refused(
                f"{path}: entry {number}: {who.name} or its key is there twice", "delete one"
            )
        principals[who.key] = who
        names[who.name] = None
    return principals


def append_authorized(path: Path, who: Principal) -> None:
    """Add one entry, durably, to a list that is valid before and after. Raises Refused."""
    block = [
        "[[key]]",
        f"name = {_quoted(who.name)}",
        f"public = {_quoted(who.key)}",
        f"kinds = {_quoted_list(who.kinds)}",
        f"users = {_quoted_list(who.users)}",
        f"roles = {_quoted_list(who.roles)}",
    ]
    import tomllib

    _principal(tomllib.loads("\n".join(block))["key"][0])
    try:
        with _locked(path.parent):
            known = load_authorized(path)
            if who.key in known or any(other.name == who.name for other in known.values()):
                raise Refused(f"{path} holds a key named {who.name} already", "choose another name")
            old = path.read_text(encoding="utf-8") if known or path.exists() else ""
            if old and not old.endswith("\n"):
                old += "\n"
            scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
            _write_durably(scratch, old + ("\n" if old else "") + "\n".join(block) + "\n")
            scratch.replace(path)
            _sync_directory(path.parent)
    except OSError as error:
        raise Refused(f"{path}: cannot be written: {error.strerror}", "check the disk") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two commands at once must not each write a list without the other's entry."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _principal(entry: object) -> Principal:
    if not isinstance(entry, dict):
        raise ValueError("is not a table")
    unknown = sorted(set(entry) - {"name", "public", "kinds", "users", "roles"})
    if unknown:
        raise ValueError(f"unknown field `{unknown[0][:40]}`")
    name, public = entry.get("name"), entry.get("public")
    if not isinstance(name, str) or not is_ident(name):
        raise ValueError("`name` is missing or no name")
    if not isinstance(public, str) or not is_key_text(public):
        raise ValueError("`public` is not a key of 40 characters")
    kinds = _words(entry, "kinds", ())
    users = _words(entry, "users", ())
    roles = _words(entry, "roles", ("*",))
    if not kinds or any(kind not in KINDS for kind in kinds):
        raise ValueError(f"`kinds` must name some of {', '.join(KINDS)}")
    if any(not _USER.fullmatch(user) for user in users):
        raise ValueError("`users` holds something that is no user name")
    if any(not is_role(role) for role in roles):
        raise ValueError("`roles` holds something that is no role")
    return Principal(name, public, kinds, users, roles)


def _words(entry: dict[str, Any], field_name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    words = entry.get(field_name, list(default))
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"`{field_name}` is not a list of texts")
    return tuple(words)


# --- files ----------------------------------------------------------------------------------------


def _parsed(text: str) -> dict[str, Any]:
    """The TOML in a text. Raises ValueError.

    Files as we write them are lines of `word = "text"`, and each command reads one: for these the
    parser need not be loaded, which takes as long as all the rest.
    """
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        word, _, quoted = line.partition(" = ")
        inner = quoted[1:-1]
        plain = word.isascii() and word.isalpha() and word not in found
        if not plain or quoted != f'"{inner}"' or not inner.isprintable() or set(inner) & {*'"\\'}:
            break
        found[word] = inner
    else:
        return found
    # Late, here and above: an executor knows keys as values only.
    import tomllib

    return tomllib.loads(text)


def _load_toml(path: Path, what: str, forbidden: int, repair: str) -> dict[str, Any]:
    """The TOML of a regular file of ours (or root's) without the `forbidden` mode bits."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused(f"{path}: there is no such {what}", "see `mesosctl keygen --help`") from None
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}", "check its owner") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{path} is not a regular file", f"name a {what}")
        if found.st_uid not in (os.geteuid(), 0):
            raise Refused(
                f"{path} belongs to user {found.st_uid}, not to us", "copy it as yourself"
            )
        if found.st_mode & forbidden:
            mode = stat.S_IMODE(found.st_mode)
            raise Refused(f"{path} has mode {mode:04o}: other users can get at it", repair)
        if found.st_size > _FILE_BYTES_MAX:
            raise Refused(f"{path} is too large for a {what}", "name the right file")
        with open(descriptor, "rb", closefd=False) as file:
            return _parsed(file.read().decode("utf-8"))
    except ValueError as error:
        # The parser's message quotes at most a character of the file, never a value.
        raise Refused(f"{path} is not a {what}: {error}", "copy or correct it") from None
    finally:
        os.close(descriptor)


def _write_durably(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(text: str) -> str:
    """`text` as a TOML basic string."""
    escaped = "".join(f"\\u{ord(c):04x}" if c in '"\\' or not c.isprintable() else c for c in text)
    return f'"{escaped}"'


def _quoted_list(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(_quoted(word) for word in words) + "]"
