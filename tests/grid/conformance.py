"""What every grid must do, whoever keeps it: one class of tests, run against each implementation.

A grid joins by a subclass that says how to open one and a second one on the same memory:

    class TestMyGrid(Conformance):
        @pytest.fixture
        def grids(self) -> Iterator[tuple[Grid, Grid]]: ...

Both may be the same object where a memory belongs to one process.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dolphin.core.errors import GridError
from dolphin.grid.port import MAX_KEY, MAX_NAME, MAX_VALUE, Event, Grid, held

FAST, DURABLE = "DOLPHIN_FEATURES", "DOLPHIN_STATE_BLUE"

BAD_NAMES = ["", "a\0b", "line\nend", "x" * (MAX_NAME + 1), "é" * 51, None, 3]
BAD_KEYS = ["", "a\0b", "tab\t", "x" * (MAX_KEY + 1), "\ud800", None, b"bytes"]
BAD_VALUES = [None, "text", 1.5, bytearray(b"x"), b"x" * (MAX_VALUE + 1)]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is so; how soon it must be is measured elsewhere."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.001)


class Conformance:
    """The tests. `one` and `two` are two ways to one memory.

    `one_order`: changes of different keys of a map are told in the order of the writes, which is more than the port
    asks for.
    """

    one_order = True

    @pytest.fixture
    def grids(self) -> Iterator[tuple[Grid, Grid]]:
        raise NotImplementedError

    @pytest.fixture
    def one(self, grids: tuple[Grid, Grid]) -> Grid:
        return grids[0]

    @pytest.fixture
    def two(self, grids: tuple[Grid, Grid]) -> Grid:
        return grids[1]

    # --- maps

    @pytest.mark.parametrize("name", [FAST, DURABLE, "any map of mine", "x" * MAX_NAME])
    def test_what_one_puts_the_other_gets_at_once(self, one: Grid, two: Grid, name: str) -> None:
        assert two.get(name, "k") is None
        for value in (b"one", b"", b"\0\xff", b"x" * MAX_VALUE, b"one"):
            one.put(name, "k", value)
            assert two.get(name, "k") == value
        assert two.get(name, "K") is None
        assert two.get(name + "2" if len(name) < 50 else "other", "k") is None

    def test_maps_and_keys_do_not_mix(self, one: Grid, two: Grid) -> None:
        for name, key in (("a", "bc"), ("ab", "c"), ("a", "b"), ("a b", "c"), ("ü", "ß")):
            one.put(name, key, f"{name}/{key}".encode())
        for name, key in (("a", "bc"), ("ab", "c"), ("a", "b"), ("a b", "c"), ("ü", "ß")):
            assert two.get(name, key) == f"{name}/{key}".encode()
        assert two.keys("a") == ["b", "bc"]
        assert two.keys("ü") == ["ß"]
        assert two.keys("nothing") == []

    def test_keys_are_sorted_as_text(self, one: Grid, two: Grid) -> None:
        names = ["b", "a", "ab", "B", "é", "10", "9", "\U0001f42c", "｡", "k" * MAX_KEY]
        one.put_many("m", dict.fromkeys(names, b"x"))
        assert two.keys("m") == sorted(names)

    def test_put_many(self, one: Grid, two: Grid) -> None:
        one.put("m", "b", b"old")
        one.put_many("m", {"a": b"1", "b": b"2"})
        one.put_many("m", {})
        assert [two.get("m", key) for key in two.keys("m")] == [b"1", b"2"]

    def test_put_if_absent(self, one: Grid, two: Grid) -> None:
        assert one.put_if_absent("m", "k", b"") is None
        assert two.put_if_absent("m", "k", b"second") == b""
        assert one.get("m", "k") == b""

    def test_replace_if_same(self, one: Grid, two: Grid) -> None:
        assert not one.replace_if_same("m", "k", b"", b"new")
        assert one.get("m", "k") is None
        one.put("m", "k", b"1")
        assert not two.replace_if_same("m", "k", b"2", b"3")
        assert one.get("m", "k") == b"1"
        assert two.replace_if_same("m", "k", b"1", b"3")
        assert one.get("m", "k") == b"3"

    def test_delete(self, one: Grid, two: Grid) -> None:
        assert not one.delete("m", "k")
        one.put("m", "k", b"")
        assert two.delete("m", "k")
        assert one.get("m", "k") is None
        assert one.keys("m") == []
        assert not one.delete("m", "k")

    def test_of_many_at_once_one_is_first(self, one: Grid, two: Grid) -> None:
        firsts: list[bytes] = []
        gate = threading.Barrier(6)

        def enter(grid: Grid, me: bytes) -> None:
            gate.wait()
            if grid.put_if_absent("m", "k", me) is None:
                firsts.append(me)

        self.together([lambda n=n: enter((one, two)[n % 2], b"%d" % n) for n in range(6)])  # type: ignore[misc]
        assert firsts == [one.get("m", "k")]

    @pytest.mark.parametrize("name", [FAST, DURABLE])
    def test_no_increment_is_lost(self, one: Grid, two: Grid, name: str) -> None:
        one.put(name, "n", b"0")

        def count(grid: Grid) -> None:
            for _ in range(25):
                while True:
                    now = grid.get(name, "n")
                    assert now is not None
                    if grid.replace_if_same(name, "n", now, b"%d" % (int(now) + 1)):
                        break

        self.together([lambda grid=grid: count(grid) for grid in (one, two, one, two)])  # type: ignore[misc]
        assert one.get(name, "n") == b"100"

    # --- bad input

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_no_such_name(self, one: Grid, name: str) -> None:
        for call in (
            lambda: one.get(name, "k"),
            lambda: one.put(name, "k", b""),
            lambda: one.delete(name, "k"),
            lambda: one.keys(name),
            lambda: one.watch(name, print),
            lambda: one.reference(name),
            lambda: one.lock(name),
        ):
            with pytest.raises(GridError, match=r"^grid: name of a (map|reference|lock) ") as caught:
                call()
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_no_such_key(self, one: Grid, key: str) -> None:
        for call in (
            lambda: one.get("m", key),
            lambda: one.put("m", key, b""),
            lambda: one.put_many("m", {"good": b"x", key: b""}),
            lambda: one.put_if_absent("m", key, b""),
            lambda: one.replace_if_same("m", key, b"", b""),
            lambda: one.delete("m", key),
            lambda: one.listen("m", key, print) if key is not None else one.get("m", key),
        ):
            with pytest.raises(GridError, match=r"^grid: key ") as caught:
                call()
            assert "\n" not in str(caught.value)
        assert one.keys("m") == [], "nothing is written of what is refused"

    @pytest.mark.parametrize("value", BAD_VALUES)
    def test_no_such_value(self, one: Grid, value: bytes) -> None:
        reference = one.reference("r")
        for call in (
            lambda: one.put("m", "k", value),
            lambda: one.put_many("m", {"good": b"x", "k": value}),
            lambda: one.put_if_absent("m", "k", value),
            lambda: one.replace_if_same("m", "k", b"", value),
            lambda: one.replace_if_same("m", "k", value, b""),
            lambda: reference.set(value),
            lambda: reference.compare_and_set(None, value),
        ):
            with pytest.raises(GridError, match=r"^grid: (m\['k'\]|reference r): value ") as caught:
                call()
            assert len(str(caught.value)) < 200
        assert one.keys("m") == []
        assert reference.get() is None

    def test_every_error_is_counted(self, one: Grid) -> None:
        before = one.health().failures
        with pytest.raises(GridError):
            one.get("", "k")
        with pytest.raises(GridError):
            one.put("m", "k", None)  # type: ignore[arg-type]
        assert one.health().failures == before + 2

    # --- listeners

    @pytest.mark.parametrize("name", [FAST, DURABLE])
    def test_every_change_is_told_once_and_in_order(self, one: Grid, two: Grid, name: str) -> None:
        told: list[Event] = []
        stop = two.watch(name, told.append)
        expected: list[tuple[str, bytes | None]] = []
        for n in range(40):
            key, value = f"k{n % 3}", b"%d" % n
            (one, two)[n % 2].put(name, key, value)
            expected.append((key, value))
        one.put("another map", "k0", b"not this")
        assert one.replace_if_same(name, "k0", b"39", b"same")
        assert not one.replace_if_same(name, "k0", b"39", b"not this")
        assert one.put_if_absent(name, "k0", b"not this") == b"same"
        assert two.delete(name, "k1")
        assert not two.delete(name, "k1")
        one.put(name, "k2", b"last")
        expected += [("k0", b"same"), ("k1", None), ("k2", b"last")]
        until(lambda: len(told) >= len(expected))
        heard = [(event.key, event.value) for event in told]
        for key in (None,) if self.one_order else ("k0", "k1", "k2"):
            wanted = [each for each in expected if key in (None, each[0])]
            assert [each for each in heard if key in (None, each[0])] == wanted
        assert len(heard) == len(expected)
        assert {event.name for event in told} == {name}
        assert all(a.sequence < b.sequence for a, b in itertools.pairwise(told))
        stop()

    def test_only_what_comes_after_is_told(self, one: Grid, two: Grid) -> None:
        early: list[Event] = []
        one.watch("m", early.append)
        told: list[Event] = []
        for n in range(50):
            two.put("m", "k", b"%d" % n)
            if n == 24:
                one.watch("m", told.append)
        until(lambda: len(told) >= 25 and len(early) >= 50)
        assert [event.value for event in told] == [b"%d" % n for n in range(25, 50)]
        assert [event.value for event in early] == [b"%d" % n for n in range(50)]

    def test_what_was_written_before_a_listener_came_is_not_told_however_late_it_is_told_to_others(
        self, one: Grid, two: Grid
    ) -> None:
        entered, go_on = threading.Event(), threading.Event()
        early: list[Event] = []
        late: list[Event] = []

        def slow(event: Event) -> None:
            early.append(event)
            entered.set()
            assert go_on.wait(10.0)

        one.watch("m", slow)
        first = threading.Thread(target=lambda: two.put("m", "k", b"0"))
        first.start()
        assert entered.wait(10.0)
        for n in range(1, 5):
            two.put("m", "k", b"%d" % n)
        one.watch("m", late.append)
        two.put("m", "k", b"5")
        go_on.set()
        first.join()
        until(lambda: len(early) == 6 and late)
        assert [event.value for event in late] == [b"5"]

    def test_one_key_and_values_only(self, one: Grid, two: Grid) -> None:
        events: list[Event] = []
        values: list[bytes] = []
        one.watch("m", events.append, "k")
        one.listen("m", "k", values.append)
        two.put("m", "k", b"1")
        two.put("m", "other", b"2")
        two.delete("m", "k")
        two.put("m", "k", b"3")
        until(lambda: len(values) == 2 and len(events) == 3)
        assert values == [b"1", b"3"]
        assert [(event.key, event.value) for event in events] == [("k", b"1"), ("k", None), ("k", b"3")]

    def test_a_stop_ends_it_and_twice_is_once(self, one: Grid, two: Grid) -> None:
        told: list[Event] = []
        other: list[Event] = []
        stop = one.watch("m", told.append)
        one.watch("m", other.append)
        two.put("m", "k", b"1")
        until(lambda: told and other)
        stop()
        stop()
        two.put("m", "k", b"2")
        until(lambda: len(other) == 2)
        assert len(told) == 1
        again = one.watch("m", told.append)
        two.put("m", "k", b"3")
        until(lambda: len(told) == 2)
        again()

    def test_a_listener_that_raises_disturbs_nobody(self, one: Grid, two: Grid) -> None:
        told: list[Event] = []

        def wrong(event: Event) -> None:
            raise ValueError("mine")

        one.watch("m", wrong)
        one.watch("m", told.append)
        two.put("m", "k", b"1")
        two.put("m", "k", b"2")
        until(lambda: len(told) == 2)
        assert one.health().listener_errors == 2

    def test_a_listener_may_use_the_grid(self, one: Grid, two: Grid) -> None:
        told: list[bytes] = []

        def answer(value: bytes) -> None:
            if len(value) < 4:
                one.put("m", "k", value + b"x")
            one.listen("m", "reply", told.append)
            told.append(value)

        one.listen("m", "k", answer)
        two.put("m", "k", b"x")
        until(lambda: len(told) == 4)
        assert told == [b"x", b"xx", b"xxx", b"xxxx"]

    def test_writers_at_once_are_told_in_the_order_of_their_writes(self, one: Grid, two: Grid) -> None:
        told: list[Event] = []
        two.watch("m", told.append)
        self.together(
            [lambda n=n: [(one, two)[n % 2].put("m", f"k{n}", b"%d" % i) for i in range(30)] for n in range(4)]  # type: ignore[misc]
        )
        until(lambda: len(told) >= 120)
        for n in range(4):
            assert [event.value for event in told if event.key == f"k{n}"] == [b"%d" % i for i in range(30)]
        assert len(told) == 120

    # --- references

    def test_a_reference(self, one: Grid, two: Grid) -> None:
        first, second = one.reference("DOLPHIN_SAFETY"), two.reference("DOLPHIN_SAFETY")
        assert second.get() is None
        assert first.compare_and_set(None, b"1")
        assert not second.compare_and_set(None, b"2")
        assert not second.compare_and_set(b"", b"2")
        assert second.compare_and_set(b"1", b"2")
        assert first.get() == b"2"
        first.set(b"")
        assert second.get() == b""
        assert not second.compare_and_set(None, b"3")
        assert one.get("DOLPHIN_SAFETY", "latest") is None
        assert one.reference("other").get() is None

    # --- locks

    def test_a_lock_has_one_holder_and_tokens_that_grow(self, one: Grid, two: Grid) -> None:
        first, second = one.lock("acb_lock"), two.lock("acb_lock")
        tokens = []
        for lock, other in ((first, second), (second, first), (first, second)):
            token = lock.acquire()
            assert token > max(tokens, default=0)
            tokens.append(token)
            assert other.acquire() == 0
            assert lock.acquire() == 0, "not reentrant"
            assert one.lock("acb_lock").acquire(0.01) == 0
            with pytest.raises(GridError, match="not held with token"):
                other.release(token)
            with pytest.raises(GridError, match="not held with token"):
                lock.release(token + 1)
            lock.release(token)
            with pytest.raises(GridError, match="not held with token"):
                lock.release(token)

    def test_locks_of_different_names_have_nothing_to_do_with_each_other(self, one: Grid, two: Grid) -> None:
        locks = [one.lock(name) for name in ("a", "b", "a/b", "..", "ü", "x" * MAX_NAME)]
        assert all(lock.acquire() for lock in locks)

    def test_a_waiter_gets_it(self, one: Grid, two: Grid) -> None:
        first, second = one.lock("x"), two.lock("x")
        token = first.acquire()
        got: list[int] = []
        waiter = threading.Thread(target=lambda: got.append(second.acquire(10.0)))
        waiter.start()
        time.sleep(0.03)
        assert not got
        first.release(token)
        waiter.join()
        assert got[0] > token

    def test_waiting_ends_in_time(self, one: Grid, two: Grid) -> None:
        assert one.lock("x").acquire()
        started = time.monotonic()
        assert two.lock("x").acquire(0.05) == 0
        assert 0.05 <= time.monotonic() - started < 2.0

    def test_a_lock_excludes(self, one: Grid, two: Grid) -> None:
        inside = 0
        tokens: list[int] = []

        def work(grid: Grid) -> None:
            nonlocal inside
            for _ in range(8):
                with held(grid.lock("x"), 30.0, "x") as token:
                    inside += 1
                    assert inside == 1
                    tokens.append(token)
                    time.sleep(0.0005)
                    inside -= 1

        self.together([lambda grid=grid: work(grid) for grid in (one, two, one)])  # type: ignore[misc]
        assert len(tokens) == 24
        assert tokens == sorted(set(tokens))

    def test_held_says_what_is_locked(self, one: Grid, two: Grid) -> None:
        lock = two.lock("x")
        refusal = r"^grid: lock of acb_boost still held by another after 0.01 s; nothing was written$"
        with held(one.lock("x"), 0.0, "acb_boost"), pytest.raises(GridError, match=refusal):
            held(lock, 0.01, "acb_boost").__enter__()
        with pytest.raises(ZeroDivisionError), held(lock, 0.0, "acb_boost"):
            raise ZeroDivisionError
        assert lock.acquire(), "released though the block raised"

    # --- health and the end

    def test_health(self, one: Grid) -> None:
        one.put("m", "k", b"1")
        health = one.health()
        assert health.nodes >= 1
        assert 0.0 <= health.latency_s < 1.0
        assert abs(health.last_success_ns - time.time_ns()) < 10 * 10**9
        assert (health.failures, health.listener_errors, health.missed) == (0, 0, 0)

    def test_closed_is_closed(self, one: Grid) -> None:
        told: list[Event] = []
        stop = one.watch("m", told.append)
        lock, reference = one.lock("x"), one.reference("r")
        assert lock.acquire()
        one.close()
        one.close()
        stop()
        for call in (
            lambda: one.get("m", "k"),
            lambda: one.put("m", "k", b""),
            lambda: one.put_many("m", {}),
            lambda: one.put_if_absent("m", "k", b""),
            lambda: one.replace_if_same("m", "k", b"", b""),
            lambda: one.delete("m", "k"),
            lambda: one.keys("m"),
            lambda: one.watch("m", told.append),
            lambda: one.listen("m", "k", print),
            lambda: one.reference("r"),
            lambda: one.lock("x"),
            lock.acquire,
            lambda: lock.release(1),
            reference.get,
            lambda: reference.set(b""),
            lambda: reference.compare_and_set(None, b""),
        ):
            with pytest.raises(GridError, match=r"^grid: closed; open it again$"):
                call()
        assert one.health().nodes == 0

    def test_the_end_of_one_is_not_the_end_of_the_other(self, one: Grid, two: Grid) -> None:
        if one is two:
            pytest.skip("this memory belongs to one process: there is no other")
        told: list[Event] = []
        two.watch("m", told.append)
        assert one.lock("x").acquire()
        one.put("m", "k", b"1")
        one.close()
        two.put("m", "k", b"2")
        assert two.get("m", "k") == b"2"
        until(lambda: len(told) == 2)
        assert two.lock("x").acquire(), "closing gives locks back"

    @staticmethod
    def together(works: list[Callable[[], object]]) -> None:
        """Run all at once; what one of them raises is raised."""
        wrong: list[BaseException] = []

        def guarded(work: Callable[[], object]) -> None:
            try:
                work()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong:
            raise wrong[0]
