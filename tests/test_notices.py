"""Who waits for word in a stream, and who of them reads."""

from __future__ import annotations

from typing import Any

from distcache.executor.notices import Board, Waiter


class Stir:
    """A waiter, and how often it was stirred."""

    def __init__(self, name: bytes, seen: int, stream: bytes = b"s") -> None:
        self.count = 0
        self.waiter = Waiter(stream, name, (seen, 0), (b"s", b"t"), self)

    def __call__(self) -> None:
        self.count += 1


def read(stream: bytes, *rows: tuple[int, bytes]) -> list[Any]:
    return [[stream, [[b"%d-0" % at, [b"f", name]] for at, name in rows]]]


def test_one_reads_for_all():
    board, first, second, third = Board(), Stir(b"a", 5), Stir(b"b", 5), Stir(b"a", 7, b"t")
    assert all(board.join(one.waiter) for one in (first, second, third))
    assert board.reader is first.waiter
    assert board.question(1.5).command == (
        "XREAD", "COUNT", 1000, "BLOCK", 1500, "STREAMS", b"s", b"t", "5-0", "5-0",
    )  # fmt: skip
    board.tell(read(b"s", (6, b"x"), (8, b"b")))
    assert [one.waiter.told for one in (first, second, third)] == [False, True, False]
    assert board.question(1.5).command[-2:] == ("8-0", "5-0")
    board.leave(second.waiter)
    assert board.reader is first.waiter
    board.leave(first.waiter)
    assert (board.reader, third.count) == (third.waiter, 1), "it reads on"
    board.leave(third.waiter)
    assert board.reader is None


def test_who_may_have_missed_something_looks_again():
    board, first, late = Board(), Stir(b"a", 5), Stir(b"b", 7)
    board.join(first.waiter)
    board.tell(read(b"s", (8, b"b")))
    assert not board.join(late.waiter)
    board.leave(first.waiter)
    assert board.join(late.waiter), "nobody reads any more, so it starts where it is"
    assert board.question(1).command[-2:] == ("7-0", "7-0")


def test_nothing_that_is_read_is_nothing():
    board, one = Board(), Stir(b"a", 5)
    board.join(one.waiter)
    board.tell(None)
    board.tell([])
    assert one.count == 0
