"""What a command says when it gets no answer, or no for an answer: one line, why, what to try."""

from __future__ import annotations

from mesosctl.errors import MesosctlError, NotFound, Refused, Unreachable, UsageError
from mesosctl.model.masters import split_masters
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Refusal, Reset
from mesosctl.runtime.endpoints import parse_address
from mesosctl.runtime.links import Link, LinkState

# One failed handshake may be a server that just went away.
_FAILURES_MAX = 2
_KINDS: dict[str, type[MesosctlError]] = {
    "invalid": UsageError,
    "not-found": NotFound,
    "not-permitted": Refused,
    "conflict": Refused,
    "never-fits": Refused,
    "unavailable": Unreachable,
}


def accepted(reply: Message) -> Message:
    """`reply` itself, unless it is a refusal: that is raised as the error it stands for."""
    if not isinstance(reply, Refusal):
        return reply
    raise _KINDS.get(reply.code, MesosctlError)(reply.message, reply.hint)


def check_host(address: str) -> None:
    """Raise Unreachable for a host name that stands for nothing: libzmq would look for ever."""
    for one in split_masters(address):
        _check_host(one)


def _check_host(address: str) -> None:
    host, port = parse_address(address)
    if _is_numeric(host):
        return
    # Late: it takes as long to load as an answer takes to come.
    import socket as system_socket

    # As bytes where that is the same: of text Python wants to know how it is written in IDNA, and
    # the tables for that take longer to load than an answer takes to come.
    name = host.encode("ascii") if host.isascii() else host
    try:
        system_socket.getaddrinfo(name, port, type=system_socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(
            f"there is no host {host}: {error.strerror or error}", "check the address"
        ) from None


def _is_numeric(host: str) -> bool:
    """Whether it is an IPv4 address, for which nobody has to be asked."""
    parts = host.split(".")
    return len(parts) == 4 and all(
        part.isascii() and part.isdigit() and len(part) <= 3 and int(part) <= 255 for part in parts
    )


def check_link(link: Link, *, was_heard: bool) -> None:
    """Raise Refused or Unreachable when this link will not come up however long one waits.

    `was_heard`: the right one has answered there before. Then connections that end before they say
    anything are those of a proxy whose other side is away for a while, or of one that is starting.
    """
    if link.is_refused:
        raise Refused(
            f"{where(link)} does not know our key", "ask its operator for one: mesosctl keygen NAME"
        )
    if link.failures >= _FAILURES_MAX and not was_heard:
        raise Unreachable(
            f"{where(link)} does not answer as expected: {link.state.value}",
            "check the address, and the server key in the key file",
        )


def heed(reset: Reset, link: Link) -> str:
    """Aim the link where a reset points; why there is no use in trying again, if there is none.

    An address of the peer's that is none is left alone: the list of masters is tried in turn then.
    """
    if reset.code == "wrong-cluster":
        return reset.message or reset.code
    if reset.code == "not-leader":
        link.note = "" if reset.leader else reset.message
        try:
            link.prefer(reset.leader)
        except UsageError as error:
            link.note = f"it names a leader at no address: {error.message}"
    return ""


def why_silent(link: Link, waited_s: float) -> str:
    """Why there was no answer within `waited_s`."""
    if link.note:
        return f"{where(link)}: {link.note}"
    if link.state is LinkState.READY:
        return f"{where(link)} is connected but did not answer within {waited_s:g} s"
    if link.state is LinkState.NOBODY:
        return f"nobody listens at {link.spec.address}"
    return f"{where(link)} did not answer within {waited_s:g} s: {link.state.value}"


def where(link: Link) -> str:
    """The other side as people call it."""
    return f"{link.name} at {link.spec.address}"
