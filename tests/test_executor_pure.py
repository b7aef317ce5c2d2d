"""The executor's rules without a server: breaker, backoff, what is sent again, URLs."""

from __future__ import annotations

import threading

import pytest
from scripts import INCR, INCR_RETRYABLE, op, script_of

from distcache.errors import ConfigError, ServerError, StaleConfig, Unavailable
from distcache.executor import Endpoint
from distcache.executor.breaker import Breaker
from distcache.executor.failures import passing, refusal
from distcache.executor.retry import Attempts, Pause, Revive, Send, Server, backoff_s, joined
from distcache.executor.wire import MOST_ROWS, Lost, Refused, call, items, pack, packed_call
from distcache.op import Op, Row
from distcache.script import Start


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# what is sent


def unpacked(command: tuple | bytes) -> tuple:
    """The words of a command."""
    return command if isinstance(command, tuple) else tuple(command.split(b"\r\n")[2::2])


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("start", [(), (b"key", "text", 7, 0.5)])
@pytest.mark.parametrize("rows", [[(b"", b"a")], [(b"one", b"\r\n$3\r\n"), (b"x" * 1000, b""), (b"one", b"two")]])
def test_a_call_of_rows_is_packed_as_any_is(start, rows, plain):
    begin = Start(script_of("return 1", keys=1), start, 2)
    ops = [Row(begin, row, lambda reply: reply) for row in rows]
    assert [op.values for op in ops] == [(*start, *row) for row in rows]
    for _ in range(2):  # the second finds its beginning packed
        assert packed_call(ops, plain=plain) == pack(call(ops, plain=plain))
    assert call(ops, plain=plain)[3:] == (*start, *(word for row in rows for word in row))
    assert packed_call(ops, plain=plain) != packed_call(ops, plain=not plain)


def test_rows_become_one_call_up_to_a_bound_and_pass_nothing_else():
    one, other = (Start(script_of("return 1"), (name,), 1) for name in (b"1", b"2"))
    rows = {"a": Row(one, (b"a",), list), "b": Row(other, (b"b",), list), "x": Op(script_of("return 2"), (), list)}
    named = "abaxbbaa"
    ops = [rows[name] for name in named]
    assert joined(ops, range(8)) == [[0, 2], [1], [3], [4, 5], [6, 7]]
    assert joined(ops, [0, 6, 7]) == [[0, 6, 7]]
    many = joined([rows["a"]] * (2 * MOST_ROWS + 1), range(2 * MOST_ROWS + 1))
    assert [len(calls) for calls in many] == [MOST_ROWS, MOST_ROWS, 1]


def test_each_row_has_its_item_and_a_refused_call_is_refused_to_all():
    refused = Refused("ERR no")
    assert items([b"a", None], 2) == [b"a", None]
    assert items(refused, 2) == [refused, refused]
    assert items([b"a"], 2) == [[b"a"]] * 2


# the breaker


def test_the_breaker_opens_after_three_failures_in_a_row_and_probes_once_per_interval():
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.closed
        breaker.failed()
    assert not breaker.closed
    assert not breaker.admit()
    for _ in range(3):
        clock.now += 1.0
        assert [breaker.admit() for _ in range(4)] == [True, False, False, False]
        breaker.failed()
    clock.now += 1.0
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.closed
    assert all(breaker.admit() for _ in range(4))


def test_one_thread_probes():
    clock, admitted = Clock(), []
    breaker = Breaker(limit=1, clock=clock)
    breaker.failed()
    clock.now += 5
    threads = [threading.Thread(target=lambda: admitted.append(breaker.admit())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted.count(True) == 1


# what is sent again


class Script:
    """Plays what the attempts want against a list of answers."""

    def __init__(self, *ops, revive=None, once=False):
        self.clock = Clock()
        self.sent: list[list] = []
        self.pauses: list[float] = []
        self.revived = 0
        server = Server(Endpoint("redis://host", revive=revive), 1.0)
        self.attempts = Attempts(ops, server, self.clock.now + 1.0, clock=self.clock, once=once)

    def play(self, *answers):
        run, answers = self.attempts.run(), list(answers)
        try:
            want = next(run)
            while True:
                if isinstance(want, Send):
                    self.sent.append([unpacked(command)[0] for command in want.commands])
                    want = run.send(answers.pop(0))
                elif isinstance(want, Pause):
                    self.pauses.append(want.seconds)
                    self.clock.now += want.seconds
                    want = run.send(None)
                else:
                    assert isinstance(want, Revive)
                    self.revived += 1
                    self.clock.now += 30.0
                    want = run.send(None)
        except StopIteration as done:
            return done.value


UNSENT = Lost("cannot be reached", sent=False)
CALL, LOAD = b"EVALSHA", b"SCRIPT"


def test_what_was_not_sent_is_sent_again_with_growing_pauses():
    played = Script(op(INCR, "k"))
    assert played.play(UNSENT, UNSENT, UNSENT, [5]) == [5]
    assert len(played.sent) == 4
    for at, pause in enumerate(played.pauses):
        assert 0.010 * 2**at <= pause <= 0.020 * 2**at


def test_what_was_perhaps_executed_is_sent_again_only_if_retryable():
    played = Script(op(INCR, "a"), op(INCR_RETRYABLE, "b"), op(INCR, "c"))
    lost = Lost("closed the connection", sent=True, replies=[1])
    first, second, third = played.play(lost, [2])
    assert (first, second) == (1, 2)
    assert isinstance(third, Unavailable)
    assert played.sent == [[CALL] * 3, [CALL]]


def test_the_deadline_ends_it_and_bounds_every_pause():
    played = Script(op(INCR, "k"))
    [result] = played.play(*[UNSENT] * 50)
    assert isinstance(result, Unavailable)
    assert "redis://host:6379 cannot be reached" in str(result)
    assert sum(played.pauses) < 1.0


def test_a_probe_is_tried_once():
    played = Script(op(INCR, "k"), once=True)
    assert isinstance(played.play(UNSENT)[0], Unavailable)
    assert not played.pauses


def test_revive_comes_first_once_and_its_time_does_not_count():
    played = Script(op(INCR, "k"), revive=lambda: None)
    assert played.play(UNSENT, UNSENT, [1]) == [1]
    assert (played.revived, len(played.pauses)) == (1, 1)


def test_missing_scripts_are_loaded_in_the_same_write_and_only_the_failed_are_repeated():
    gone = Refused("NOSCRIPT No matching script.")
    other = script_of("return 2")
    played = Script(op(INCR, "k"), op(other), op(INCR, "k"))
    assert played.play([gone, 2, gone], [b"sha", 1, 2]) == [1, 2, 2]
    assert played.sent == [[CALL] * 3, [LOAD, CALL, CALL]]
    assert not played.pauses


def test_a_server_that_does_not_know_the_first_line_gets_the_plain_source():
    gone, unknown = Refused("NOSCRIPT x"), Refused("ERR Error compiling script: unexpected symbol near '#'")
    played = Script(op(INCR, "k"))
    assert played.play([gone], [unknown, gone], [b"sha", 1]) == [1]
    assert not played.pauses
    assert played.attempts._server.plain


@pytest.mark.parametrize("text", ["NOPERM no", "ERR unknown command 'SCRIPT', with args beginning with: 'secret'"])
def test_a_script_that_may_not_be_loaded_is_an_error(text):
    [result] = Script(op(INCR, "k")).play([Refused("NOSCRIPT x")], [Refused(text), Refused("NOSCRIPT x")])
    assert isinstance(result, ServerError)
    assert "secret" not in f"{result} {result.__cause__}"


def test_a_script_that_cannot_be_compiled_at_all_is_an_error():
    gone, broken = Refused("NOSCRIPT x"), Refused("ERR Error compiling script")
    [result] = Script(op(INCR, "k")).play([gone], [broken, gone], [broken, gone])
    assert isinstance(result, ServerError)


@pytest.mark.parametrize(
    "text", ["LOADING x", "BUSY x", "READONLY x", "TRYAGAIN x", "ERR max number of clients reached"]
)
def test_a_server_that_is_not_ready_is_asked_again(text):
    assert Script(op(INCR, "k")).play([Refused(text)], [1]) == [1]
    assert Script(op(INCR, "k")).play(Lost("refused", sent=False, refused=Refused(text)), [1]) == [1]


def test_what_the_server_said_is_told_when_the_last_try_came_too_late():
    late = Lost("did not answer in time", sent=False, late=True)
    closed = Lost("closed the connection", sent=False)

    def told(*answers) -> str:
        [result] = Script(op(INCR, "k")).play(*answers, *[late] * 50)
        assert isinstance(result, Unavailable)
        return str(result)

    assert "(READONLY)" in told([Refused("READONLY x")])
    assert "(READONLY)" in told(closed, [Refused("READONLY x")], late)
    assert "did not answer in time" in told()
    assert "did not answer in time" in told([Refused("READONLY x")], closed)


def test_a_script_that_failed_half_way_is_repeated_only_if_retryable():
    half_way = Refused("READONLY You can't write. script: abc, on @user_script:3.")
    assert isinstance(Script(op(INCR, "k")).play([half_way])[0], Unavailable)
    assert Script(op(INCR_RETRYABLE, "k")).play([half_way], [1]) == [1]


def test_a_refused_login_is_final():
    played = Script(op(INCR, "a"), op(INCR_RETRYABLE, "b"))
    results = played.play(Lost("refused", sent=False, refused=Refused("WRONGPASS invalid username-password pair")))
    assert [type(result) for result in results] == [ServerError, ServerError]


def test_a_lost_connection_alone_says_nothing_of_the_server():
    def failures(*answers) -> int:
        played, breaker = Script(op(INCR, "k")), Breaker()
        breaker.failures = 1
        played.play(*answers)
        played.attempts.report(breaker)
        return breaker.failures

    assert failures(Lost("closed the connection", sent=True)) == 1
    assert failures(Lost("did not answer in time", sent=True, late=True)) == 2
    assert failures(*[UNSENT] * 50) == 2
    assert failures(*[[Refused("BUSY x")]] * 50) == 2
    assert failures([Refused("OOM x")]) == 0
    assert failures([1]) == 0


def test_backoff_is_capped():
    assert all(0.16 <= backoff_s(tries) <= 0.32 for tries in range(5, 100))


# error replies


def test_arguments_that_a_server_quotes_are_cut_off():
    assert "secret" not in str(Refused("ERR unknown command 'EVALSHA', with args beginning with: 'secret'"))


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("STALECONFIG x", StaleConfig, "config"),
        ("OOM command not allowed when used memory > 'maxmemory'.", ServerError, "maxmemory"),
        ("NOPERM x", ServerError, "acl"),
        ("NOAUTH Authentication required.", ServerError, "URL"),
        ("WRONGPASS x", ServerError, "URL"),
        ("ERR AUTH <password> called without any password configured", ServerError, "URL"),
        ("ERR unknown command 'EVALSHA'", ServerError, "Lua"),
        ("ERR DB index is out of range", ServerError, "database"),
        ("WRONGTYPE x", ServerError, "namespace"),
        ("ERR user_script:12: bad thing", ServerError, "line 12"),
    ],
)
def test_refusals_name_the_remedy(text, kind, says):
    refused = Refused(text)
    error = refusal(refused, "script x", "redis://host")
    assert not passing(refused)
    assert type(error) is kind
    assert says in str(error)
    assert error.__cause__ is refused


# URLs


@pytest.mark.parametrize(
    "url",
    [
        *("http://:secret@host", "redis+cluster://:secret@h", "redis+sentinel://:secret@h", "host:6379", "", "unix://"),
        *("redis://:secret@host:port", "redis://:sec/ret@host", "redis://:secret@host/name", "redis://host?db=x"),
        *("redis://:secret@host?unknown=1", "rediss://:secret@host?ssl_cert_reqs=perhaps"),
    ],
)
def test_urls_that_cannot_work(url):
    with pytest.raises(ConfigError) as info:
        Endpoint(url)
    assert "secret" not in str(info.value)
    assert info.value.__cause__ is None


def test_urls():
    endpoint = Endpoint(
        "redis://us%40er:p%40ss@host:1234/5?client_name=me&socket_timeout=3&protocol=3&socket_keepalive=no"
    )
    assert endpoint.label == "redis://host:1234"
    assert [command for command, _ in endpoint.handshake()] == [
        ("AUTH", "us@er", "p@ss"),
        ("CLIENT", "SETNAME", "me"),
        ("SELECT", 5),
        ("CLIENT", "SETINFO", "LIB-NAME", "distcache"),
    ]
    assert endpoint.handshake(protocol=3)[0][0] == ("HELLO", 3, "AUTH", "us@er", "p@ss")
    assert Endpoint("redis://:p@host").handshake()[0][0] == ("AUTH", "p")
    assert Endpoint("unix:///a/b%20c?db=2").connection(0).path == "/a/b c"
    assert Endpoint("rediss://host?ssl_ca_certs=/x&ssl_check_hostname=no").connection(0).check_hostname is False
