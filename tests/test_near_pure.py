"""The near cache without a server: every order in which reads, writes, reports and losses can meet."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from random import Random
from threading import Lock

import pytest

from distcache import near as module
from distcache import use_log
from distcache.config import Settings
from distcache.errors import ConfigError
from distcache.keys import Partition, key_id
from distcache.near import LEASE_S, Copy, Flight, Near, NearCache
from distcache.smart.learner import A_SECOND, BURST, PAUSE, REACH, SHOWN, Learner

KEYS = ["a", "b"]
PART = Partition("test", 0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def near_of(**bounds) -> Near:
    near = Near(NearCache(**bounds), lambda _name: False, Lock, counts=True)
    near.watch((PART.entries,))
    return near


def live(near: Near, clock: Clock) -> object:
    source = object()
    near.confirmed(source)
    near.heard(source, clock())
    return source


def one(key: str) -> bytes:
    return key_id(key.encode())


def fill(near: Near, key: str, output: str, content_hash: str = "", life_s: float = float("inf")) -> None:
    near.complete(one(key), near.begin(one(key)), copy(key, output, content_hash), life_s)


def copy(key: str, output: str, content_hash: str = "", older: bytes = b"") -> Copy:
    return Copy(key, key.encode(), one(key), output, content_hash, older)


# what a test of single calls can show


def test_a_copy_is_handed_out_for_its_hash_or_any(clock):
    near = near_of()
    live(near, clock)
    fill(near, "a", "new", "h2")
    assert near.get("a", "") == near.get("a", "h2") == "new"
    assert near.get("a", "h1") is None
    near.complete(one("a"), near.begin(one("a")), copy("a", "old", "h1", b"older id"))
    assert near.get("a", "h1") == "old"
    assert near.get("a", "") is None, "by then, that may have been older"
    fill(near, "a", "new", "h2")
    assert near.get("a", "") == "new"
    near.changed(near._source, [PART.entry(one("a") + b"older id")])
    assert near.get("a", "h1") is None
    assert near.get("a", "") == "new"
    assert near.log.take() == [(one("a") + b"older id", 1), (one("a"), 4)]


def test_an_empty_output_is_an_output(clock):
    near = near_of()
    live(near, clock)
    fill(near, "a", "")
    assert near.get("a", "") == ""


def test_a_copy_ends_with_its_life_with_its_age_and_with_the_lease(clock):
    near = near_of(ttl_s=1.5)
    source = live(near, clock)
    fill(near, "a", "x", life_s=1)
    fill(near, "b", "x")
    clock.now += 0.9
    assert near.get("a", "") == "x"
    clock.now += 0.1
    assert near.get("a", "") is None
    assert near.get("b", "") == "x"
    clock.now += 0.5
    assert near.get("b", "") is None
    fill(near, "c", "x")
    clock.now += 0.5
    assert near.get("c", "") is None
    near.heard(source, clock())
    assert near.get("c", "") == "x"
    assert near.live
    clock.now += LEASE_S
    assert not near.live


def test_the_bounds_hold(clock):
    near = near_of(max_entries=2, max_bytes=5000)
    live(near, clock)
    for key in "abc":
        fill(near, key, key)
    assert [near.get(key, "") for key in "abc"] == [None, "b", "c"]
    fill(near, "d", "x" * 10_000)
    assert near.get("d", "") is None
    fill(near, "b", "x" * 4000)
    fill(near, "c", "x" * 4000)
    assert near.get("b", "") is None
    assert near._bytes == sum(held.size for held in near._by_id.values()) <= 5000
    near.empty()
    assert near._bytes == 0


def test_uses_are_summed_in_the_order_of_the_last(clock, monkeypatch):
    monkeypatch.setattr(use_log, "_LOGGED", 8)
    shown = []
    near = Near(NearCache(), lambda name: not shown.append(name) and len(shown) < 3, Lock, counts=True)
    live(near, clock)
    fill(near, "a", "x")
    fill(near, "b", "x")
    for key in "ababaaaaaa":
        assert near.get(key, "") == "x"
    assert near.log.hits == 10
    assert near.log.due
    assert near.log.take() == [(one("b"), 2), (one("a"), 8)]
    assert shown == [b"a", b"b", b"a"]
    assert not near.log.due
    assert near.log.hits == 10


def test_learning_rests_when_it_was_shown_enough_and_starts_a_new_stretch():
    learner = Learner(lambda: 1)
    names = [b"%d" % number for number in range(SHOWN)]
    assert [learner.saw_near(name) for name in names] == [True] * (SHOWN - 1) + [False]
    learner.saw(b"read meanwhile")
    assert learner.recent() == ()
    steps = learner.take()
    assert [key for key, _before in steps] == names[1:]
    learner.saw(b"a")
    learner.saw(b"b")
    assert learner.take() == [(b"b", (b"a",))]


def test_what_comes_too_fast_is_learned_from_in_part(monkeypatch):
    now = 100.0
    monkeypatch.setattr("distcache.smart.learner.monotonic", lambda: now)
    learner = Learner(lambda: 1)

    def learned(steps):
        for number in range(steps):
            learner.saw(b"%d" % (number % 7))
        return len(learner.take())

    assert learned(BURST + 500) == BURST
    assert learned(50) == 0
    now += PAUSE / A_SECOND / 2
    assert learned(1000) == 0, "a few at a time"
    now += PAUSE / A_SECOND / 2
    assert learned(1000) == PAUSE
    now += 3600
    assert learned(BURST + 500) == BURST
    assert len(learner.recent()) == REACH, "what is next may be asked all the time"


def test_a_step_that_cannot_be_afforded_breaks_the_sequence_off(monkeypatch):
    """Else a key that came next would be known as one that came soon after only."""
    now = 100.0
    monkeypatch.setattr("distcache.smart.learner.monotonic", lambda: now)
    learner = Learner(lambda: 1)
    learner._affordable = 2
    for key in (b"a", b"b", b"c", b"d", b"e"):
        learner.saw(key)
    assert learner.take() == [(b"b", (b"a",)), (b"c", (b"b", b"a"))]
    assert learner.recent() == (b"e", b"d", b"c", b"b")
    now += PAUSE / A_SECOND
    for key in (b"f", b"g"):
        learner.saw(key)
    assert learner.take() == [(b"f", (b"e",)), (b"g", (b"f", b"e"))]


def used(near, names):
    for name in names:
        assert near.get(name, "") == "x"


def test_uses_are_taken_in_parts(clock, monkeypatch):
    near = near_of()
    live(near, clock)
    for name in "abcde":
        fill(near, name, "x")
    used(near, "abcdeb")
    assert near.log.waiting == 5
    assert near.log.take(2, latest=True) == [(one("e"), 1), (one("b"), 2)]
    assert near.log.take(2) == [(one("a"), 1), (one("c"), 1)]
    used(near, "d")
    assert near.log.take() == [(one("d"), 2)]
    monkeypatch.setattr(use_log, "KEPT", 3)
    used(near, "abcde")
    assert near.log.waiting == 3
    assert near.log.take() == [(one("c"), 1), (one("d"), 1), (one("e"), 1)]


def test_a_reader_that_may_not_write_keeps_no_uses(clock):
    near = Near(NearCache(), lambda _name: False, Lock, counts=False)
    live(near, clock)
    fill(near, "a", "x")
    near.get("a", "")
    assert near.log.take() == []
    assert near.log.hits == 1


def test_an_answer_to_a_source_that_was_replaced_is_nothing(clock):
    near = near_of()
    old, new = object(), object()
    near.confirmed(old)
    near.confirmed(new)
    near.heard(old, clock())
    assert not near.live
    near.lost(old)
    near.changed(old, None)
    near.heard(new, clock())
    fill(near, "a", "x")
    assert near.get("a", "") == "x"
    near.watch((b"others",))
    assert near.get("a", "") is None
    fill(near, "a", "x")
    assert near.get("a", "") is None


def test_what_was_seen_elsewhere_drops_what_differs(clock):
    near = near_of()
    live(near, clock)
    for wanted, found, stays in [("", "h1", True), ("", "h2", False), ("h1", None, False), ("h2", None, True)]:
        fill(near, "a", "x", "h1")
        near.saw(one("a"), wanted, found)
        assert (near.get("a", "") == "x") is stays, (wanted, found)


def test_a_read_for_something_else_drops_what_differs(clock):
    near = near_of()
    live(near, clock)
    fill(near, "a", "x")
    near.met(one("a"), "x")
    assert near.get("a", "") == "x"
    late = near.begin(one("a"))
    near.met(one("a"), "y")
    assert near.get("a", "") is None
    near.complete(one("a"), late, copy("a", "x"))
    assert near.get("a", "") is None


def test_after_an_older_version_was_read_no_copy_may_be_older_still(clock):
    near = near_of()
    live(near, clock)
    first, late = near.begin(one("a")), near.begin(one("a"))
    near.complete(one("a"), first, copy("a", "1", "h1"))
    # After that was read, 2 and 3 were put, whose reports are on their way: 2 is an older version by now.
    near.complete(one("a"), late, copy("a", "2", "h2", older=b"id of h2"))
    assert near.get("a", "") is None, "1 after 2"


def test_a_hash_that_was_put_again_has_no_copy_from_before(clock):
    near = near_of()
    live(near, clock)
    near.complete(one("a"), near.begin(one("a")), copy("a", "1", "h1", older=b"id of h1"))
    fill(near, "a", "3", "h1")
    fill(near, "a", "4", "h2")
    assert near.get("a", "h1") is None, "1 after 3"


def test_uses_may_be_reported_under_more_than_the_id(clock):
    near = near_of()
    live(near, clock)
    copy = Copy((("scope",), "text"), b"", one("a"), "x", home=b"home", key_bytes=1000)
    near.complete(one("a"), near.begin(one("a")), copy)
    assert near.get((("scope",), "text"), "") == "x"
    assert near.get((("scope",), "texts"), "") is None
    assert near._bytes == copy.size > 1000
    assert near.log.take() == [(b"home" + one("a"), 1)]
    near.changed(near._source, [PART.entry(one("a"))])
    assert near.get((("scope",), "text"), "") is None


def test_flights_leave_nothing_behind(clock):
    near = near_of()
    live(near, clock)
    flights = [near.begin(one("a")) for _ in range(3)]
    near.complete(one("a"), flights[0], copy("a", "x"))
    for flight in flights[1:]:
        near.abandon(one("a"), flight)
    near.abandon(one("b"), near.begin(one("b")))
    near.saw(one("c"), "", near.begin(one("c")) and None)
    assert near._flights == {}


@pytest.mark.parametrize("wrong", [{"max_entries": 0}, {"max_bytes": 1.5}, {"ttl_s": 0}, {"max_entries": True}])
def test_wrong_bounds_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        NearCache(**wrong)


def test_the_option(monkeypatch):
    assert Settings.of({}, "smart").near is None
    assert Settings.of({"near": True}, "smart").near == NearCache()
    assert Settings.of({"near": NearCache(5)}, "smart").near == NearCache(max_entries=5)
    with pytest.raises(ConfigError, match="NearCache"):
        Settings.of({"near": 5}, "smart")
    monkeypatch.setitem(sys.modules, "cachebox", None)
    with pytest.raises(ConfigError, match=r"pip install 'distcache\[near\]'"):
        Settings.of({"near": True}, "smart")


# every order


@dataclass
class Reader:
    """Does one thing at a time. seen: the newest state it knows of each key."""

    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    busy: Read | Glance | Write | None = None


@dataclass
class Read:
    key: str
    flight: Flight
    state: int | None = None
    """What the server answered, once it was executed."""


@dataclass
class Glance:
    """A read for something else that meets the key's entry; of its absence, it learns nothing."""

    key: str
    state: int | None = None


@dataclass
class Write:
    key: str
    state: int


class Meetings:
    """A server, its reports on their way, readers and a near cache. A state is a number; odd ones are absence."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self.clock = clock
        self.random = random
        self.near = near_of(max_entries=random.choice([1, 2, 10]))
        self.states = dict.fromkeys(KEYS, 1)
        self.number = 1
        self.readers = [Reader(), Reader(), Reader()]
        self.source: object = None
        self.tracked = False
        self.mail: deque[tuple] = deque()
        self.handed_out = 0
        rare = [self.somebody_writes, self.write, self.flush, self.connect, self.ping, self.cut, self.wait]
        self.acts = [self.proceed] * 30 + [self.deliver] * 5 + [self.somebody_writes] * 3 + [self.connect] * 3 + rare

    def run(self, steps: int) -> None:
        self.connect()
        for _ in range(steps):
            self.random.choice(self.acts)(self.random.choice(self.readers), self.random.choice(KEYS))
        assert len(self.near._by_id) == len(self.near._copies) <= self.near.bounds.max_entries
        assert self.near._bytes == sum(held.size for held in self.near._by_id.values())

    def change(self, keys: list[str]) -> int:
        self.number += 2
        state = self.number // 2 * 2 + (len(keys) > 1 or self.random.random() < 0.3)
        self.states.update(dict.fromkeys(keys, state))
        if self.tracked:
            self.mail.append(("changed", None if len(keys) > 1 else [PART.entry(one(keys[0]))]))
        return state

    def somebody_writes(self, _reader: Reader, key: str) -> None:
        self.change([key])

    def flush(self, _reader: Reader, _key: str) -> None:
        self.change(KEYS)

    def proceed(self, reader: Reader, key: str) -> None:
        if reader.busy is None:
            self.begin(reader, key)
        elif reader.busy.state is None:
            reader.busy.state = self.states[reader.busy.key]
        else:
            self.land(reader, reader.busy)

    def begin(self, reader: Reader, key: str) -> None:
        output = self.near.get(key, "") if self.random.random() < 0.7 else None
        if output is None:
            glances = self.random.random() < 0.2
            reader.busy = Glance(key) if glances else Read(key, self.near.begin(one(key)))
            return
        self.handed_out += 1
        assert int(output) >= reader.seen[key], "older after newer"
        if self.tracked and not self.mail:
            assert int(output) == self.states[key], "not true any more, and no report is on its way"
        reader.seen[key] = int(output)

    def write(self, reader: Reader, key: str) -> None:
        if reader.busy is None:
            reader.busy = Write(key, self.change([key]))

    def land(self, reader: Reader, busy: Read | Glance | Write) -> None:
        reader.busy = None
        if isinstance(busy, Write):
            self.near.forget(one(busy.key))
        elif isinstance(busy, Glance):
            if busy.state % 2:
                return
            self.near.met(one(busy.key), str(busy.state))
        elif self.random.random() < 0.1:
            self.near.abandon(one(busy.key), busy.flight)
            return
        elif busy.state % 2:
            self.near.saw(one(busy.key), "", None)
        else:
            self.near.complete(one(busy.key), busy.flight, copy(busy.key, str(busy.state), "h"))
        assert busy.state >= reader.seen[busy.key]
        reader.seen[busy.key] = busy.state

    def connect(self, *_: object) -> None:
        if self.source is None:
            self.source, self.tracked = object(), True
            self.mail = deque([("confirmed",), ("heard", self.clock())])

    def deliver(self, *_: object) -> None:
        if self.mail:
            what, *details = self.mail.popleft()
            getattr(self.near, what)(self.source, *details)
            if what == "lost":
                self.source = None

    def ping(self, *_: object) -> None:
        if self.tracked:
            self.mail.append(("heard", self.clock()))

    def cut(self, *_: object) -> None:
        """The server does not report any more; what is on its way may still arrive."""
        if self.tracked:
            self.tracked = False
            if self.random.random() < 0.5:
                self.mail.clear()
            self.mail.append(("lost",))

    def wait(self, *_: object) -> None:
        self.clock.now += LEASE_S / 4


def explore(kind, clock, request):
    handed_out = 0
    for seed in range(100_000 if request.config.getoption("--long") else 2000):
        meetings = kind(clock, Random(seed))
        try:
            meetings.run(200)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        handed_out += meetings.handed_out
    assert handed_out > 2000


def test_no_order_hands_out_an_older_state_after_a_newer(clock, request):
    explore(Meetings, clock, request)


# every order, of a key with versions

HASHES = ["h0", "h1", "h2"]


@dataclass
class Server:
    """What a key has: its latest output, and at most one older version of it. An output is the number of its put."""

    latest: tuple[str, int] | None = None
    older: tuple[str, int] | None = None
    changed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(["", *HASHES], 0))
    """By the hash that is asked for: the last change of what is answered."""

    def answer(self, wanted: str) -> tuple[str, int, bytes] | None:
        """Hash, output, and the id of its hash if it is not the latest."""
        if self.latest and wanted in ("", self.latest[0]):
            return *self.latest, b""
        if self.older and wanted == self.older[0]:
            return *self.older, older_id(wanted)
        return None

    def answers(self) -> dict[str, tuple[str, int] | None]:
        return {wanted: (self.answer(wanted) or (None,))[:2] for wanted in self.changed}


def older_id(content_hash: str) -> bytes:
    return content_hash.encode() * 4


@dataclass
class Knowing:
    """One that does one thing at a time. seen: by key and hash asked for, the newest change that it knows of."""

    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    busy: Asking | None = None

    def learns(self, key: str, wanted: str, number: int) -> None:
        self.seen[key, wanted] = max(number, self.knows(key, wanted))

    def knows(self, key: str, wanted: str) -> int:
        return self.seen.get((key, wanted), 0)


@dataclass
class Asking:
    key: str
    wanted: str
    flight: Flight | None
    """None: it only looks whether there is one, as `has` does."""
    executed: bool = False
    found: tuple[str, int, bytes] | None = None
    changed: int = 0


@dataclass
class Changing:
    key: str
    executed: bool = True
    numbers: dict[str, int] = field(default_factory=dict)


class Versions(Meetings):
    """The same, of keys that keep an older version besides: both have a hash, and each version its own copy."""

    def __init__(self, clock: Clock, random: Random) -> None:
        super().__init__(clock, random)
        self.keys = {key: Server() for key in KEYS}
        self.number = 0
        self.readers = [Knowing(), Knowing(), Knowing()]

    def change(self, keys: list[str]) -> int:
        self.number += 1
        names = []
        for key in keys:
            server, before = self.keys[key], self.keys[key].answers()
            names += self.change_one(key, server, lost=len(keys) > 1)
            for wanted, answer in server.answers().items():
                if answer != before[wanted]:
                    server.changed[wanted] = self.number
        if self.tracked:
            self.mail.append(("changed", None if len(keys) > 1 else names))
        return self.number

    def change_one(self, key: str, server: Server, *, lost: bool) -> list[bytes]:
        """A put mostly; else it is invalidated, or one of the two is evicted. The names that are reported."""
        id_ = one(key)
        touched = [id_, id_ + older_id(server.older[0])] if server.older else [id_]
        choice = 0.0 if lost else self.random.random()
        if choice < 0.15:
            server.latest = server.older = None
        elif choice < 0.25:
            server.latest, touched = None, [id_]
        elif choice < 0.35:
            server.older, touched = None, touched[1:]
        else:
            content_hash = self.random.choice(HASHES)
            if server.latest and server.latest[0] != content_hash:
                server.older = server.latest
                touched.append(id_ + older_id(server.older[0]))
            elif server.older and server.older[0] == content_hash:
                server.older = None
            server.latest = content_hash, self.number
        return [PART.entry(name) for name in dict.fromkeys(touched)]

    def proceed(self, reader: Knowing, key: str) -> None:
        busy = reader.busy
        if busy is None:
            self.begin(reader, key)
        elif not busy.executed:
            server = self.keys[busy.key]
            busy.executed, busy.found = True, server.answer(busy.wanted)
            busy.changed = server.changed[busy.wanted]
        else:
            self.land(reader, busy)

    def begin(self, reader: Knowing, key: str) -> None:
        wanted = self.random.choice(["", "", *HASHES])
        output = self.near.get(key, wanted) if self.random.random() < 0.7 else None
        if output is None:
            looks = self.random.random() < 0.2
            reader.busy = Asking(key, wanted, None if looks else self.near.begin(one(key)))
            return
        self.handed_out += 1
        content_hash, number = output.split()
        assert wanted in ("", content_hash)
        for asked in {wanted, content_hash}:
            assert int(number) >= reader.knows(key, asked), f"older after newer, asked for {wanted!r}"
        if self.tracked and not self.mail:
            answer = self.keys[key].answer(wanted)
            assert answer, "not there any more, and no report is on its way"
            assert answer[:2] == (content_hash, int(number)), "not true any more, and no report is on its way"
        reader.learns(key, wanted, int(number))
        reader.learns(key, content_hash, int(number))

    def write(self, reader: Knowing, key: str) -> None:
        if reader.busy is None:
            self.change([key])
            reader.busy = Changing(key, numbers=dict(self.keys[key].changed))

    def land(self, reader: Knowing, busy: Asking | Changing) -> None:
        reader.busy = None
        id_ = one(busy.key)
        if isinstance(busy, Changing):
            self.near.forget(id_)
            for wanted, number in busy.numbers.items():
                reader.learns(busy.key, wanted, number)
            return
        if busy.flight is None:
            if busy.found is None or not busy.found[2]:
                self.near.saw(id_, busy.wanted, busy.found and busy.found[0])
        elif self.random.random() < 0.1:
            self.near.abandon(id_, busy.flight)
            return
        elif busy.found is None:
            self.near.saw(id_, busy.wanted, None)
        else:
            content_hash, number, older = busy.found
            held = copy(busy.key, f"{content_hash} {number}", content_hash, older)
            self.near.complete(id_, busy.flight, held)
            reader.learns(busy.key, content_hash, number)
        if busy.found is None or busy.flight is not None:
            reader.learns(busy.key, busy.wanted, busy.found[1] if busy.found else busy.changed)


def test_no_order_hands_out_an_older_version_after_a_newer(clock, request):
    explore(Versions, clock, request)
