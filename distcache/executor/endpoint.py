"""Where a server is and how to log in: a URL, parsed once."""

from __future__ import annotations

import ipaddress
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from distcache.errors import ConfigError
from distcache.executor.busy import limit_s

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable

    from distcache.executor.wire import Command


class _Total:
    """Makes redis-py's timeouts total: they are what is left now, for every address tried and for TLS too."""

    deadline = float("inf")

    @property
    def socket_timeout(self) -> float:
        return max(self.deadline - monotonic(), 0.001)

    @socket_timeout.setter
    def socket_timeout(self, _value: float) -> None:
        """redis-py sets it once; the deadline decides."""

    socket_connect_timeout = socket_timeout


class _Tcp(_Total, Connection):  # type: ignore[misc] # a property instead of redis-py's
    pass


class _Tls(_Total, SSLConnection):  # type: ignore[misc] # the same
    pass


class _Unix(_Total, UnixDomainSocketConnection):  # type: ignore[misc] # the same
    pass


_CLASSES = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}
_LATER = ("redis+sentinel", "redis+cluster")
_USE = "use redis://, rediss://, unix:// or fakeredis://"

# The executor decides these itself: `timeout_s` is the one timeout, and there is one retry loop.
_OURS = {
    *("socket_timeout", "socket_connect_timeout", "timeout", "max_connections", "socket_read_size", "connection_class"),
    *("retry_on_timeout", "retry_on_error", "health_check_interval", "protocol", "legacy_responses"),
    *("decode_responses", "encoding", "encoding_errors"),
}
# What the handshake sends; the rest is about the socket.
_LOGIN = ("username", "password", "db", "client_name")


class Endpoint:
    """One server's address and login.

    kind: `redis`, `rediss`, `unix` or `fakeredis`. label: the address as messages may show it, without the login.
    options: what redis-py's connection classes take. revive: called when connecting fails, before the next try; the
    embedded engine starts its server again there, and may `move_to` where it now listens. Its time does not count
    against the deadline of the operation that waits for it. busy_poll_us: how long a caller looks for its reply awake;
    None for what suits the address.
    """

    def __init__(self, url: str, *, revive: Callable[[], None] | None = None, busy_poll_us: int | None = None) -> None:
        self.revive = revive
        self._busy_poll_us = busy_poll_us
        self.move_to(url)

    def move_to(self, url: str) -> None:
        """Connect to another address from now on."""
        self.kind = url.partition("://")[0]
        self._context: ssl.SSLContext | None = None
        if self.kind == "fakeredis":
            self.options: dict[str, Any] = {}
            self._login: dict[str, Any] = {}
            self.label = url
        else:
            options = _parse(url, self.kind)
            self._login = {name: options.pop(name) for name in _LOGIN if name in options}
            self.options = options
            self.label = _label(self.kind, options)
            self.connection(deadline=0)

    @property
    def busy_poll_s(self) -> float:
        """How long a caller looks for its reply awake, as `busy.BusyPoll` wants it."""
        return limit_s(self._busy_poll_us, local=_is_here(self.kind, self.options.get("host", "localhost")))

    def connection(self, deadline: float) -> Any:
        """A redis-py connection that is not connected yet and will not log in; it knows sockets and TLS."""
        try:
            connection = _CLASSES[self.kind](**self.options, redis_connect_func=_no_handshake)
        except (TypeError, ValueError, RedisError):
            raise ConfigError(
                f"the URL of {self.label} has an unknown or wrong option; see redis-py's from_url"
            ) from None
        connection.deadline = deadline
        return connection

    async def open(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Connect an asyncio protocol to the server, TLS included; raises OSError."""
        if self.kind == "unix":
            await loop.create_unix_connection(protocol, self.options["path"])
            return
        address = self.connection(deadline=0)
        transport, _ = await loop.create_connection(protocol, address.host, address.port, ssl=self._tls())
        if address.socket_keepalive:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in address.socket_keepalive_options.items():
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def _tls(self) -> ssl.SSLContext | None:
        """The context that redis-py makes of the ssl_ options; made once, since it reads all certificates."""
        if self.kind == "rediss" and self._context is None:
            from redis.asyncio.connection import SSLConnection as AsyncSSLConnection  # noqa: PLC0415 - slow to import

            try:
                self._context = AsyncSSLConnection(**self.options).ssl_context.get()
            except (TypeError, ValueError, RedisError):
                raise ConfigError(f"the URL of {self.label} has a TLS option that asyncio cannot take") from None
        return self._context

    def handshake(self, protocol: int = 2) -> list[tuple[Command, bool]]:
        """What a new connection sends, in one write; the flag says whether a refusal ends the connection."""
        user, password = self._login.get("username", "default"), self._login.get("password", "")
        auth = ("AUTH", user, password) if "username" in self._login else ("AUTH", password)
        commands: list[tuple[Command, bool]] = []
        if protocol != 2:  # noqa: PLR2004 - the protocol of a connection that says nothing
            login = ("AUTH", user, password) if self._login.get("password") else ()
            commands.append((("HELLO", protocol, *login), True))
        elif self._login.get("password"):
            commands.append((auth, True))
        if "client_name" in self._login:
            commands.append((("CLIENT", "SETNAME", self._login["client_name"]), True))
        if self._login.get("db"):
            commands.append((("SELECT", self._login["db"]), True))
        # Redis knows it since 7.2; the reply also shows at once whether the server takes this connection at all.
        commands.append((("CLIENT", "SETINFO", "LIB-NAME", "distcache"), False))
        return commands


def _parse(url: str, kind: str) -> dict[str, Any]:
    if kind in _LATER:
        raise ConfigError(f"{kind}:// URLs are not supported yet; {_USE}")
    if kind not in _CLASSES:
        raise ConfigError(f"cannot connect to this URL; {_USE}")
    try:
        path, options = urlsplit(url).path.strip("/"), parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:  # its text may hold the password
        raise ConfigError(
            f"the {kind}:// URL cannot be parsed; percent-encode the password and check the port"
        ) from None
    if kind != "unix" and path and "db" not in options:
        raise ConfigError(f"the path of a {kind}:// URL must be a database number, such as {kind}://host:6379/0")
    if kind == "unix" and not options.get("path"):
        raise ConfigError("a unix:// URL needs the path of a socket, such as unix:///run/redis.sock")
    return {name: value for name, value in options.items() if name not in _OURS}


def _label(kind: str, options: dict[str, Any]) -> str:
    if kind == "unix":
        return f"unix://{options['path']}"
    return f"{kind}://{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _is_here(kind: str, host: str) -> bool:
    """Whether an address is this machine's own, as far as the address says so."""
    if kind == "unix" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_handshake(_connection: object) -> None:
    """Keep redis-py from logging in: each of its replies would get a timeout of its own."""
