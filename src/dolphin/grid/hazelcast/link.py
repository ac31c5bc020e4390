"""The connection to a cluster: every wait bounded, every failure one line, back by itself after an outage."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hazelcast.client import HazelcastClient
from hazelcast.config import Config, ReconnectMode
from hazelcast.errors import ClientOfflineError
from hazelcast.invocation import Invocation
from hazelcast.lifecycle import LifecycleState

from dolphin.core.errors import GridError
from dolphin.grid.checks import CLOSED
from dolphin.grid.hazelcast.breaker import Breaker

HEARTBEAT_S, DEAD_AFTER_S = 1.0, 5.0
"""How often a member is asked whether it is there, and after how long without a word it counts as gone."""

_SETTLE_S = 3.0
_CLOSE_S = 3.0

# The library tells every lost connection; who wants to read that configures this logger.
logging.getLogger("hazelcast").addHandler(logging.NullHandler())


class Link:
    """A client of the cluster at `addresses` (`host:port`), with a breaker for maps and one for the CP subsystem.

    Reconnects for ever in the background; meanwhile calls fail at once. `changed` is called, on a thread of the
    client's that must not wait, when a connection to a member opens or closes. Raises GridError when nobody answers
    within `connect_timeout_s`.

    `groups` are the CP groups that references and locks live in, by their names, as far as they were asked for.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        cluster: str,
        *,
        timeout_s: float,
        connect_timeout_s: float,
        remote: bool,
        changed: Callable[[], None],
    ) -> None:
        self.timeout_s = timeout_s
        self.where = f"hazelcast {cluster} at {', '.join(addresses)}"
        self.maps, self.cp = Breaker(self.where), Breaker(f"CP subsystem of {self.where}")
        self.closed = False
        self.groups: dict[str, Any] = {}
        self._changed = changed
        if not remote:
            for address in addresses:
                _check_loopback(address.rpartition(":")[0])
        self.client = HazelcastClient(self._config(addresses, cluster))
        # What comes back stays in its envelope: nothing is ever turned into an object (see wire).
        self.client._serialization_service.to_object = lambda data: data  # type: ignore[method-assign]
        loop: Any = self.client._reactor._loop
        mend_waker(loop.waker)
        if not remote:
            self.client._address_provider.translate = _loopback_only
        self._connections.add_listener(lambda _: changed(), lambda _: changed())
        if not self._connected_within(connect_timeout_s):
            self.close()
            raise GridError(
                f"grid: {self.where}: nobody answers within {connect_timeout_s:g} s; start it, or go on without"
            )

    def call(self, breaker: Breaker, start: Callable[[], Any], timeout_s: float | None = None) -> Any:
        """What the future that `start` returns comes to.

        Raises GridError, in one line, when it fails or takes longer than `timeout_s`, the link's own by default, and
        at once while the breaker is open.
        """
        if self.closed:
            raise GridError(CLOSED)
        breaker.enter()
        try:
            result = settle(start(), self.timeout_s if timeout_s is None else timeout_s)
        except ClientOfflineError:
            breaker.failed("not connected")
            raise GridError(f"grid: {self.where} is not reachable; start it, or go on without") from None
        except Exception as error:  # the library raises what it likes, and none of it may pass
            reason = _line(error)
            breaker.failed(reason)
            raise GridError(CLOSED if self.closed else f"grid: {self.where}: {reason}") from None
        except BaseException:
            breaker.failed("interrupted")
            raise
        breaker.worked()
        return result

    def invoke(self, request: Any, decode: Callable[[Any], Any]) -> Any:
        """The future of a bare request, for what the library's proxies would wait for without end."""
        invocation = Invocation(request, response_handler=decode)
        self.client._invocation_service.invoke(invocation)
        return invocation.future

    def deregister(self, registration: str) -> None:
        """End a listener's registration, without waiting for an answer."""
        with contextlib.suppress(Exception):  # its handler calls nobody any more
            self.client._listener_service.deregister_listener(registration)

    def members(self) -> list[tuple[str, str]]:
        """Address and version of each member that the client is connected to, sorted."""
        connected = set(self._connections.active_connections)
        found = self.client.cluster_service.get_members()
        return sorted(
            (f"{one.address.host}:{one.address.port}", f"{one.version.major}.{one.version.minor}.{one.version.patch}")
            for one in found
            if one.uuid in connected
        )

    def close(self) -> None:
        """End the client; when the cluster does not answer, it ends by itself later."""
        self.closed = True
        thread = threading.Thread(target=self._shut_down, name="grid-hazelcast-close", daemon=True)
        thread.start()
        thread.join(_CLOSE_S)

    @property
    def _connections(self) -> Any:
        return self.client._connection_manager

    def _shut_down(self) -> None:
        with contextlib.suppress(Exception):  # it is over either way
            self.client.shutdown()

    def _config(self, addresses: Sequence[str], cluster: str) -> Config:
        config = Config()
        config.cluster_name = cluster
        config.cluster_members = list(addresses)
        config.async_start = True  # a start that waits has no bound when a member accepts and says nothing
        config.reconnect_mode = ReconnectMode.ASYNC
        config.cluster_connect_timeout = -1.0
        config.connection_timeout = 2.0
        config.retry_initial_backoff, config.retry_max_backoff = 0.1, 1.0
        config.retry_multiplier, config.retry_jitter = 1.5, 0.2
        config.invocation_timeout = self.timeout_s  # nothing is sent again after its caller gave up
        config.invocation_retry_pause = min(0.1, self.timeout_s / 4.0)
        config.heartbeat_interval, config.heartbeat_timeout = HEARTBEAT_S, DEAD_AFTER_S
        config.redo_operation = False
        # A write counts when its backups have it; one whose backups are silent is not known to be done.
        config.fail_on_indeterminate_operation_state = True
        config.operation_backup_timeout = 0.8 * self.timeout_s
        config.lifecycle_listeners = [self._on_lifecycle]
        return config

    def _on_lifecycle(self, state: str) -> None:
        if state == LifecycleState.CONNECTED:
            self.groups = {}  # it may be another cluster at the same place
            self.maps.worked()
            self.cp.worked()
        if state in (LifecycleState.CONNECTED, LifecycleState.DISCONNECTED):
            self._changed()

    def _connected_within(self, timeout_s: float) -> bool:
        """Wait for the first member, then a little for the others, which a listener needs to be told by."""
        end = time.monotonic() + timeout_s
        asked = 0
        while time.monotonic() < end:
            active = len(self._connections.active_connections)
            members = self.client.cluster_service.get_members() if active else []
            if members and active >= len(members):
                return True
            if members and not asked:
                asked = active
                end = time.monotonic() + _SETTLE_S
                for member in members:
                    self._connections._get_or_connect_to_member(member)
            time.sleep(0.01)
        return asked > 0


def settle(future: Any, timeout_s: float) -> Any:
    """The future's result. Raises what it failed with, or TimeoutError; the library itself waits without end."""
    if not future.done():
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:g} s; what was asked for may be done or not")
    return future.result()


def mend_waker(waker: Any) -> None:
    """Keep the library's event loop from sleeping through calls for good.

    It forgets a wake-up that comes between its note "nobody woke me" and its emptying of the pipe: the note then says
    that it was woken, nobody wakes it again, and every call waits for the loop's own 10 ms. Said once more afterwards,
    the note cannot be wrong for long: what was queued before is looked at in the next turn of the loop.
    """
    read = waker.handle_read

    def handle_read() -> None:
        read()
        waker.awake = False

    waker.handle_read = handle_read


def check_timeout(timeout_s: float, what: str) -> None:
    """Raise GridError for a time that is none."""
    if not 0.0 < timeout_s < math.inf:
        raise GridError(f"grid: {what} of {timeout_s} s; expected a number above 0")


def _check_loopback(host: str) -> None:
    if host != "localhost" and not host.startswith("127."):
        raise GridError(
            f"grid: address {host!r}: expected this machine's, 127.0.0.1, for there is neither encryption nor a "
            "password; use a tunnel, or say remote=yes"
        )


def _loopback_only(address: Any) -> Any:
    _check_loopback(address.host)
    return address


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"
