"""Scripts made of a string, and who sends them, for tests of executors."""

from __future__ import annotations

from distcache.executor import Endpoint, SyncExecutor
from distcache.op import Op
from distcache.script import Script


def script_of(source: str, *, keys: int = 0, retryable: bool = True) -> Script:
    """A script that no file holds; `keys` is how many of an op's values are keys."""
    script = Script.__new__(Script)
    script.name, script.source = "test", source
    script.retryable, script.writes = retryable, True
    script.keys, script.args, script.tail = tuple(f"key{at}" for at in range(keys)), (), None
    return script


ECHO = script_of("return ARGV[1]")
INCR = script_of("return redis.call('INCR', KEYS[1])", keys=1, retryable=False)
INCR_RETRYABLE = script_of("return redis.call('INCR', KEYS[1]) -- may be sent twice", keys=1)


def op(script: Script, *values: object, decode=lambda reply: reply) -> Op:
    return Op(script, values, decode)


def echo(text: bytes | str) -> Op:
    return op(ECHO, text)


def executor_for(url: str, timeout_s: float = 0.25) -> SyncExecutor:
    return SyncExecutor(Endpoint(url), timeout_s=timeout_s)
