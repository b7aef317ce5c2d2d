"""What goes over a connection and what comes back: commands, refusals and losses, as data.

No I/O happens here; hiredis packs and parses.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import hiredis

from distcache.op import Op, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.script import Script, Start

Command = tuple[Any, ...] | bytes
"""One command: its words, being bytes, str, int or float; or these packed already."""

MOST_ROWS = 32
"""In one call, so that none holds the server for long."""

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


def call(ops: Sequence[Op[Any]], *, plain: bool) -> tuple[Any, ...]:
    """EVALSHA of one script, for one op or several rows. `plain`: for a server that does not know the `#!lua` line."""
    script = ops[0].script
    rows = [word for op in ops[1:] if type(op) is Row for word in op.row]
    return (b"EVALSHA", script.plain_sha if plain else script.sha, len(script.keys), *ops[0].values, *rows)


def packed_call(ops: Sequence[Op[Any]], *, plain: bool) -> bytes:
    """The same as it is sent."""
    if type(ops[0]) is not Row:
        return pack(call(ops, plain=plain))
    return packed_rows(ops[0].start, [packed_row(op) for op in ops if type(op) is Row], plain=plain)


def packed_row(op: Row[Any]) -> bytes:
    """What a row adds to its call."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in op.row])


def packed_rows(start: Start, rows: list[bytes], *, plain: bool) -> bytes:
    """One call of several rows. What they have in common is packed once: packing costs as much as all else here."""
    head = start.heads.get(plain)
    if head is None:
        bare: Op[Any] = Op(start.script, start.values, list)
        head = start.heads[plain] = pack(call((bare,), plain=plain)).split(b"\r\n", 1)[1]
    words = 3 + len(start.values) + start.width * len(rows)
    return b"*%d\r\n%b%b" % (words, head, rows[0] if len(rows) == 1 else b"".join(rows))


def own_item(op: Op[Any], reply: Any) -> Any:
    """What is the op's own in the reply to a call of nothing else."""
    return reply[0] if type(op) is Row and type(reply) is list else reply


def items(reply: Any, rows: int) -> list[Any]:
    """The reply to each row of a call: its own, or what the server said of the whole call."""
    return reply if type(reply) is list and len(reply) == rows else [reply] * rows


def load(script: Script, *, plain: bool) -> Command:
    """SCRIPT LOAD rather than EVAL: servers may evict what EVAL has brought."""
    return (b"SCRIPT", b"LOAD", script.plain if plain else script.text)


def new_reader() -> Any:
    """A parser of replies: bytes in, values out, error replies as `Refused`."""
    return hiredis.Reader(replyError=Refused, protocolError=hiredis.ProtocolError, notEnoughData=MORE)


def any_moved(replies: Sequence[Any]) -> bool:
    """Whether the server said that it is not the primary any more."""
    return any(type(reply) is Refused and reply.moved for reply in replies)
