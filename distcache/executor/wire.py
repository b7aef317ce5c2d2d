"""What goes over a connection and what comes back: commands, refusals and losses, as data.

No I/O happens here; hiredis packs and parses.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import hiredis

from distcache.op import Continued

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.op import Op
    from distcache.script import Script

Command = tuple[Any, ...] | bytes
"""One command: its words, being bytes, str, int or float; or these packed already."""

MORE = object()
"""What a reader returns when it has no complete reply yet."""


def pack(command: Command) -> bytes:
    """A command as it is sent."""
    if type(command) is bytes:
        return command
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type] # its types know commands of one word only
    return packed


_QUOTES_ARGUMENTS = ", with args beginning with"
_STARTED = ("user_script", "script: ")


class Refused(Exception):  # noqa: N818 - a reply, named for what the server did
    """An error reply; a value and not raised, except as the cause of one of our errors."""

    def __init__(self, text: str) -> None:
        # "unknown command" quotes the arguments, and those are the user's keys and values.
        self.text = text.split(_QUOTES_ARGUMENTS, 1)[0]
        super().__init__(self.text)

    @property
    def code(self) -> str:
        """The first word, such as NOSCRIPT or ERR."""
        return self.text.split(" ", 1)[0]

    @property
    def started(self) -> bool:
        """The script had begun when it failed, so that it may have written something."""
        return any(mark in self.text for mark in _STARTED)

    @property
    def moved(self) -> bool:
        """This is no longer the primary: the connection is of no use, whatever its state."""
        return self.code == "READONLY"


class Lost(Exception):  # noqa: N818 - what happened to the request, told apart by its fields
    """A request without (all of) its replies.

    reason: what happened, in words that follow the server's address. sent: the server may have executed what has no
    reply in `replies`; False means that it certainly has not. late: the deadline passed, the connection may be fine.
    refused: the reply that ended the handshake. final: trying again cannot help.
    """

    def __init__(
        self,
        reason: str,
        *,
        sent: bool,
        late: bool = False,
        replies: Sequence[Any] = (),
        refused: Refused | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.late = late
        self.replies = replies
        self.refused = refused
        self.final = final


def unreachable(error: Exception) -> Lost:
    """How connecting failed. A certificate that does not fit will not fit at the next try."""
    causes = (error, error.__cause__, error.__context__)
    final = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    return Lost(f"cannot be reached ({error})", sent=False, final=final)


Answer = list[Any] | Lost
"""What became of a request: all its replies, or how it was lost."""


def call(op: Op[Any], *, plain: bool) -> tuple[Any, ...]:
    """EVALSHA of one script. `plain`: for a server that does not know the `#!lua` line."""
    script = op.script
    return (b"EVALSHA", script.plain_sha if plain else script.sha, len(script.keys), *op.values)


def packed_call(op: Op[Any], *, plain: bool) -> bytes:
    """The same as it is sent. What many calls begin with is packed once: packing costs as much as all else here."""
    if type(op) is not Continued:
        return pack(call(op, plain=plain))
    head = op.start.heads.get(plain)
    if head is None:
        head = op.start.heads[plain] = _head(op, plain=plain)
    return head + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in op.rest])


def _head(op: Continued[Any], *, plain: bool) -> bytes:
    """A packed call up to its rest."""
    whole = pack(call(op, plain=plain))
    return whole[: len(whole) - sum(len(b"$%d\r\n%b\r\n" % (len(word), word)) for word in op.rest)]


def load(script: Script, *, plain: bool) -> Command:
    """SCRIPT LOAD rather than EVAL: servers may evict what EVAL has brought."""
    return (b"SCRIPT", b"LOAD", script.plain if plain else script.text)


def new_reader() -> Any:
    """A parser of replies: bytes in, values out, error replies as `Refused`."""
    return hiredis.Reader(replyError=Refused, protocolError=hiredis.ProtocolError, notEnoughData=MORE)


def any_moved(replies: Sequence[Any]) -> bool:
    """Whether the server said that it is not the primary any more."""
    return any(type(reply) is Refused and reply.moved for reply in replies)
