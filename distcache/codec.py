"""How values become bytes and come back: type, compression, signature. No pickle, and bounded on the way back.

A stored value is `flags (1 byte) | signature (32 bytes, when signed) | payload`. The flags say whether the value was
`str` or `bytes`, whether the payload is a zstd frame, and whether a signature follows.
"""

from __future__ import annotations

import hmac
from collections import deque
from typing import Any

import msgpack
import zstandard

from distcache.errors import ConfigError, CorruptEntry, ValueTooLarge

_TEXT, _ZSTD, _SIGNED = 1, 2, 4
_KNOWN = _TEXT | _ZSTD | _SIGNED
_MAC_BYTES = 32

COMPRESS_FROM_BYTES = 1024
"""Below this, a zstd frame saves little memory and costs more time than sending the bytes."""


class Codec:
    """Encodes and decodes the values of one cache.

    sign_keys: the first signs, all verify, so that a key can be rotated. max_value_bytes: larger values are refused
    when written and when decompressed. With sign_keys, an unsigned or wrongly signed value is corrupt.
    """

    def __init__(
        self,
        *,
        sign_keys: tuple[bytes, ...] = (),
        max_value_bytes: int = 64 * 1024 * 1024,
        compress_from_bytes: int = COMPRESS_FROM_BYTES,
    ) -> None:
        self.sign_keys = check_sign_keys(sign_keys)
        self.max_value_bytes = max_value_bytes
        self.compress_from_bytes = compress_from_bytes
        # Making one costs many times what it does to a usual value, and each may serve one thread at a time only.
        self._compressors: deque[zstandard.ZstdCompressor] = deque()
        self._decompressors: deque[zstandard.ZstdDecompressor] = deque()

    def encode(self, value: str | bytes, *bound_to: bytes) -> tuple[bytes, int]:
        """The stored form and the size of the value in bytes.

        bound_to: what a signature ties the value to (key, hash, scope). TypeError for other types, ValueTooLarge
        above `max_value_bytes`.
        """
        data, flags = (value, 0) if isinstance(value, bytes) else (_text(value), _TEXT)
        size = len(data)
        if size > self.max_value_bytes:
            raise ValueTooLarge(
                f"the value has {size:,} bytes and the limit is {self.max_value_bytes:,}; "
                "store a smaller one or raise max_value_bytes"
            )
        if size >= self.compress_from_bytes:
            packed = self._compress(data)
            if len(packed) < size:
                data, flags = packed, flags | _ZSTD
        if not self.sign_keys:
            return bytes((flags,)) + data, size
        head = bytes((flags | _SIGNED,))
        return head + _mac(self.sign_keys[0], head, data, bound_to) + data, size

    def decode(self, blob: bytes, *bound_to: bytes) -> str | bytes:
        """The value as it was given. CorruptEntry when the bytes are not one that `encode` made for `bound_to`."""
        if not blob or blob[0] & ~_KNOWN:
            raise CorruptEntry("the stored value has an unknown form")
        flags, data = blob[0], blob[1:]
        if flags & _SIGNED:
            mac, data = data[:_MAC_BYTES], data[_MAC_BYTES:]
            if self.sign_keys and not any(
                hmac.compare_digest(mac, _mac(key, blob[:1], data, bound_to)) for key in self.sign_keys
            ):
                raise CorruptEntry("the stored value is signed with none of this client's keys")
        elif self.sign_keys:
            raise CorruptEntry("the stored value is not signed")
        if flags & _ZSTD:
            data = self._decompress(data)
        return _untext(data) if flags & _TEXT else data

    def _compress(self, data: bytes) -> bytes:
        try:
            compressor = self._compressors.pop()
        except IndexError:
            compressor = zstandard.ZstdCompressor(level=3)
        packed = compressor.compress(data)
        self._compressors.append(compressor)
        return packed

    def _decompress(self, data: bytes) -> bytes:
        """One zstd frame that says its size, no larger than allowed and with nothing behind it."""
        try:
            decompressor = self._decompressors.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor()
        try:
            size = zstandard.frame_content_size(data)
            if not 0 <= size <= self.max_value_bytes:
                raise CorruptEntry("the stored value is larger than max_value_bytes when decompressed")
            # One call into a buffer of the size the frame declares: a frame that lies about it fails, unexpanded.
            plain = decompressor.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptEntry("the stored value cannot be decompressed") from error
        self._decompressors.append(decompressor)
        return plain


def check_sign_keys(sign_keys: object) -> tuple[bytes, ...]:
    """The keys as a tuple; ConfigError for one that is not bytes or too short to protect anything."""
    if not isinstance(sign_keys, (tuple, list)):
        raise ConfigError("sign_keys is one key; give a sequence of keys, the first signs: sign_keys=(key,)")
    for key in sign_keys:
        if not isinstance(key, bytes) or len(key) < 16:  # noqa: PLR2004 - 128 bits
            raise ConfigError("a key in sign_keys is not bytes of length 16 or more; take secrets.token_bytes(32)")
    return tuple(sign_keys)


def pack(value: Any) -> bytes:
    """Metadata that Python alone reads, as msgpack. Lone surrogates survive."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    return packed


def unpack(data: bytes) -> Any:
    """What `pack` packed; CorruptEntry for anything else, Ext types included."""
    try:
        return msgpack.unpackb(data, raw=False, unicode_errors="surrogatepass", ext_hook=_no_ext)
    except (ValueError, msgpack.UnpackException) as error:
        raise CorruptEntry("the stored metadata cannot be read") from error


def _no_ext(_code: int, _data: bytes) -> Any:
    raise ValueError("extension types are not used")


def _mac(key: bytes, head: bytes, data: bytes, bound_to: tuple[bytes, ...]) -> bytes:
    """HMAC-SHA256 over the flags, what the value is bound to (each with its length) and the payload."""
    bound = b"".join(len(part).to_bytes(8, "big") + part for part in bound_to)
    return hmac.digest(key, head + len(bound_to).to_bytes(1, "big") + bound + data, "sha256")


def _text(value: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"a value is str or bytes, not {type(value).__name__}; encode it before it is stored")
    return value.encode("utf-8", "surrogatepass")


def _untext(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise CorruptEntry("the stored text is not UTF-8") from error
