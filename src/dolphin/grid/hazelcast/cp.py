"""References and locks of the CP subsystem: one value, one holder, whatever fails, as long as most members live."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

from hazelcast.cp import ATOMIC_REFERENCE_SERVICE, LOCK_SERVICE
from hazelcast.errors import (
    CPGroupDestroyedError,
    IllegalMonitorStateError,
    LockOwnershipLostError,
    SessionExpiredError,
    WaitKeyCancelledError,
)
from hazelcast.protocol.codec import cp_group_create_cp_group_codec
from hazelcast.proxy.cp.atomic_reference import AtomicReference
from hazelcast.proxy.cp.fenced_lock import FencedLock

from dolphin.core.errors import GridError
from dolphin.grid.checks import check_value
from dolphin.grid.hazelcast.link import Link
from dolphin.grid.hazelcast.wire import pack, pack_key, pack_other, unpack

ENTERED = (SessionExpiredError, IllegalMonitorStateError, LockOwnershipLostError, WaitKeyCancelledError)
"""What the cluster answers about a lock: an answer, and no failure of the cluster."""

_GROUP = "default"
_owners = itertools.count(1)  # who holds a lock is a session, this process's, and one of these


class Subsystem:
    """The CP groups that references and locks of a grid live in."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def group(self, name: str = _GROUP) -> Any:
        """The group of a reference or lock, asked for once, and again after anything failed: a cluster that was started
        anew has others, and never answers for those before. Without a CP subsystem each name has one of its own."""
        groups = self._link.groups
        if name not in groups:
            codec = cp_group_create_cp_group_codec
            groups[name] = self._link.call(
                self._link.cp, lambda: self._link.invoke(codec.encode_request(name), codec.decode_response)
            )
        return groups[name]

    @property
    def unsafe(self) -> bool | None:
        """True when the cluster has no CP subsystem and keeps references and locks like a map: then an acknowledged
        change can be lost with a member. None when it is not known yet.

        No client message asks for it. But without a CP subsystem a group's number is the partition of its name, and
        with one it is a place in a log, which is that number by one chance in thousands."""
        group = self._link.groups.get(_GROUP)
        if group is None:
            return None
        return bool(group.id == self._link.client.partition_service.get_partition_id(pack_key(_GROUP)))

    def call(self, name: str, start: Callable[[Any], Any], timeout_s: float | None = None) -> Any:
        """What the future comes to that `start` returns for the group of `name`."""
        group = self.group(name)
        try:
            answer = self._link.call(self._link.cp, lambda: _answer(start(group)), timeout_s)
        except GridError:
            self._link.groups = {}
            raise
        if isinstance(answer, CPGroupDestroyedError):
            self._link.groups = {}
            raise GridError(f"grid: CP subsystem of {self._link.where} was started anew; what it held is lost")
        return answer

    def proxy(self, kind: Callable[..., Any], service: str, name: str, group: Any) -> Any:
        """The library's handle, made without waiting."""
        return kind(self._link.client._context, group, service, name, name)


class HazelcastReference:
    """A `Reference` of a `HazelcastGrid`."""

    def __init__(self, grid: Any, name: str) -> None:
        self._grid, self._name, self._where = grid, name, f"reference {name}"

    def get(self) -> bytes | None:
        """See Reference."""
        return self._grid._counted(lambda: unpack(self._call(lambda one: one.get()), self._where))

    def set(self, value: bytes) -> None:
        """See Reference."""

        def set_it() -> None:
            check_value(self._where, value)
            self._call(lambda one: one.set(pack(value)))

        self._grid._counted(set_it, wrote=True)

    def compare_and_set(self, expected: bytes | None, value: bytes) -> bool:
        """See Reference."""

        def compare() -> bool:
            check_value(self._where, value)
            if expected is not None:
                check_value(self._where, expected)
            new = pack(value)
            if expected is None:
                return bool(self._call(lambda one: one.compare_and_set(None, new)))
            other = pack_other(expected)
            return bool(
                self._call(lambda one: one.compare_and_set(pack(expected), new))
                or (other is not None and self._call(lambda one: one.compare_and_set(other, new)))
            )

        return bool(self._grid._counted(compare, wrote=True))

    def _call(self, work: Callable[[Any], Any]) -> Any:
        system: Subsystem = self._grid._cp
        return system.call(
            self._name, lambda group: work(system.proxy(AtomicReference, ATOMIC_REFERENCE_SERVICE, self._name, group))
        )


class HazelcastLock:
    """A `Lock` of a `HazelcastGrid`. It is the session's, so it is lost when this process is out of reach of the
    cluster for longer than the session lives; the token tells (see docs/grid.md)."""

    def __init__(self, grid: Any, name: str) -> None:
        self._grid, self._name = grid, name
        self._held: tuple[int, int, int] | None = None  # token, owner, session

    def acquire(self, timeout_s: float = 0.0) -> int:
        """See Lock."""
        return int(self._grid._counted(lambda: self._acquire(max(0.0, timeout_s)), wrote=True))

    def release(self, token: int) -> None:
        """See Lock."""
        self._grid._counted(lambda: self._release(token), wrote=True)

    def give_back(self) -> None:
        """Release it if it is held."""
        if self._held is not None:
            self._release(self._held[0])

    def _acquire(self, timeout_s: float) -> int:
        end = time.monotonic() + timeout_s
        owner = next(_owners)
        while True:
            left = max(0.0, end - time.monotonic())
            session = self._call(lambda one: one._acquire_session())
            answer = self._try(session, owner, left)
            if isinstance(answer, int) and answer > 0:
                self._held = (answer, owner, session)
                self._grid._held.add(self)
                return answer
            self._with("_release_session", session)
            if not isinstance(answer, SessionExpiredError):
                return 0
            self._with("_invalidate_session", session)

    def _try(self, session: int, owner: int, timeout_s: float) -> Any:
        asked: list[tuple[Any, Any]] = []

        def ask(one: Any) -> Any:
            asked.append((one, one._request_try_lock(session, owner, uuid.uuid4(), timeout_s)))
            return asked[-1][1]

        try:
            return self._call(ask, timeout_s + self._grid.timeout_s)
        except BaseException:
            # Whether it was acquired is not known: if so, nobody holds it, and it must not stay locked.
            for one, future in asked:
                future.add_done_callback(lambda _, one=one: self._undo(one, session, owner))
            raise

    def _undo(self, one: Any, session: int, owner: int) -> None:
        if not self._grid.closed:
            one._request_unlock(session, owner, uuid.uuid4())
            one._release_session(session)

    def _release(self, token: int) -> None:
        held = self._held
        if not token or held is None or held[0] != token:
            raise GridError(f"grid: lock {self._name} is not held with token {token}; it was released or lost")
        self._held = None
        self._grid._held.discard(self)
        _, owner, session = held
        answer = self._call(lambda one: one._request_unlock(session, owner, uuid.uuid4()))
        self._with("_release_session", session)
        if isinstance(answer, ENTERED):
            raise GridError(f"grid: lock {self._name} is not held with token {token}; it was released or lost")

    def _call(self, work: Callable[[Any], Any], timeout_s: float | None = None) -> Any:
        system: Subsystem = self._grid._cp
        return system.call(
            self._name, lambda group: work(system.proxy(FencedLock, LOCK_SERVICE, self._name, group)), timeout_s
        )

    def _with(self, what: str, *arguments: Any) -> None:
        """Something about this lock that needs no answer."""
        system: Subsystem = self._grid._cp
        group = self._grid._link.groups.get(self._name)
        if group is not None:
            getattr(system.proxy(FencedLock, LOCK_SERVICE, self._name, group), what)(*arguments)


def _answer(future: Any) -> Any:
    """The future, with what the cluster answers about locks and groups as a result instead of an error."""

    def result(done: Any) -> Any:
        try:
            return done.result()
        except (*ENTERED, CPGroupDestroyedError) as answer:
            return answer

    return future.continue_with(result)
