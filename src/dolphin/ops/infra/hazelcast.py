"""A Hazelcast cluster on this machine, from code: started, looked at, mended, stopped (SPEC §14)."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dolphin.core.errors import ConfigError, GridError
from dolphin.grid.opening import open_grid
from dolphin.ops.infra.java import find_jar, find_java
from dolphin.ops.infra.member import CREDENTIALS, Member
from dolphin.ops.infra.memberconfig import HOST

FIRST_PORT = 5701
HEAP_MB = 256

_TERMINATE_S = 10.0
_CP_MEMBERS = "/rest/cp-subsystem/members"


class MemberStatus(NamedTuple):
    """One member: `cluster_size` is how many members it sees, 0 when it does not answer; `cp` whether it takes part in
    the CP subsystem, None when the cluster has none."""

    port: int
    pid: int | None
    cluster_size: int
    cp: bool | None


class HazelcastCluster:
    """Members on this machine, kept track of in `folder`: another process that names the same folder finds them.

    One member has no CP subsystem (references and locks in unsafe mode); three have one of three. All are at 127.0.0.1
    unless `hosts` gives three loopback addresses, so that a network can come between them.
    """

    def __init__(self, folder: Path, *, heap_mb: int = HEAP_MB, hosts: Sequence[str] = (HOST,) * 3) -> None:
        self.folder, self._heap_mb, self._hosts = folder, heap_mb, tuple(hosts)
        self.members = self._members(self._ports())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where clients connect."""
        return tuple(f"{member.host}:{member.port}" for member in self.members)

    @property
    def address(self) -> str:
        """What `open_grid`, and `--grid`, take."""
        return f"hazelcast://{','.join(self.addresses)}"

    def start(self, members: int = 1, *, ports: Sequence[int] | None = None, timeout_s: float = 120.0) -> None:
        """Start it, or those of its members that do not run, and wait until all are one cluster.

        Raises ConfigError for a number of members that is not 1 or 3, for one that differs from what is running, for
        ports that are taken, and when Java or Hazelcast's file is missing; GridError when only one of three runs, and
        when the cluster does not come up in time, and then what was started is stopped.
        """
        if members not in (1, 3):
            raise ConfigError(f"hazelcast: {members} members; expected 1, or 3 for a CP subsystem")
        running = [member for member in self.members if member.pid is not None]
        if running and (len(self.members) != members or (ports and [m.port for m in self.members] != list(ports))):
            raise ConfigError(f"{self.folder}: {len(self.members)} members are set up and some run; stop them first")
        if len(running) == 1 < members:
            raise GridError(
                f"{self.folder}: one member of three is left, and the CP subsystem is lost with the others; "
                "`dolphin grid dump` saves what the maps hold; then take it down and up again"
            )
        java, jar = find_java(), find_jar()
        if not running:
            ports = list(ports or range(FIRST_PORT, FIRST_PORT + members))
            self.members = self._members(ports)
        starting = [member for member in self.members if member.pid is None]
        for member in starting:
            _check_free(member.host, member.port)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cluster.json").write_text(json.dumps({"ports": [m.port for m in self.members]}))
        try:
            for member in starting:
                ports, hosts = zip(*((each.port, each.host) for each in self.members), strict=True)
                member.start(java, jar, ports, self._heap_mb, hosts)
            self._wait(time.monotonic() + timeout_s, mend=bool(running))
        except BaseException:
            for member in starting:
                member.send(signal.SIGKILL)
                member.gone_within(_TERMINATE_S)
            raise

    def stop(self, timeout_s: float = _TERMINATE_S) -> int:
        """Stop all members; how many ran."""
        running = [member for member in self.members if member.pid is not None]
        for number in (signal.SIGCONT, signal.SIGTERM):
            for member in running:
                member.send(number)
        for member in running:
            if not member.gone_within(timeout_s):
                member.send(signal.SIGKILL)
                member.gone_within(timeout_s)
        return len(running)

    def status(self) -> list[MemberStatus]:
        """How each member is."""
        return [self._status(member) for member in self.members]

    def _status(self, member: Member) -> MemberStatus:
        pid, size, cp = member.pid, 0, False
        if pid is not None:
            with contextlib.suppress(GridError, ValueError):
                size = int(member.ask("GET", "/health/cluster-size")[1])
                cp = bool(self._cp_identity(member))
        return MemberStatus(member.port, pid, size, cp if len(self.members) >= 3 else None)

    def _wait(self, end: float, *, mend: bool) -> None:
        expected = len(self.members)
        while True:
            for member in self.members:
                if member.pid is None:
                    raise GridError(
                        f"hazelcast member at port {member.port}: it ended at once: {member.last_words()} "
                        f"(all of it: {member.log})"
                    )
            status = self.status()
            if all(one.cluster_size == expected for one in status):
                if expected >= 3 and mend:
                    self._mend()
                if all(one.cp is not False for one in status) and self._answers():
                    return
            if time.monotonic() > end:
                seen = ", ".join(f"{one.port} sees {one.cluster_size}" for one in status)
                raise GridError(f"hazelcast: {expected} members started and did not become one cluster in time: {seen}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether a client gets a map's value, and a reference's, which wants a leader in the CP subsystem."""
        try:
            grid = open_grid(self.address)
        except GridError:
            return False
        try:
            grid.get("dolphin-probe", "up")
            grid.reference("dolphin-probe").get()
        except GridError:
            return False
        else:
            return True
        finally:
            grid.close()

    def _mend(self) -> None:
        """Put members that were started anew into the CP subsystem, in the place of those that died: one that starts
        has another identity than the one before it."""
        with contextlib.suppress(GridError, ValueError, KeyError, StopIteration):
            # One that does not answer is not one that died: then nothing is changed.
            mine = {member: self._cp_identity(member) for member in self.members}
            asked = next(member for member in self.members if mine[member])
            listed: list[dict[str, str]] = json.loads(asked.ask("GET", _CP_MEMBERS)[1])
            for gone in {each["uuid"] for each in listed} - set(mine.values()):
                asked.ask("POST", f"{_CP_MEMBERS}/{gone}/remove", CREDENTIALS)
            for member, identity in mine.items():
                if not identity:
                    member.ask("POST", _CP_MEMBERS, CREDENTIALS)

    @staticmethod
    def _cp_identity(member: Member) -> str:
        """Its identity in the CP subsystem, "" when it takes no part. Raises GridError when it does not answer."""
        status, text = member.ask("GET", f"{_CP_MEMBERS}/local")
        if status == http.client.OK:
            return str(json.loads(text)["uuid"])
        if status == http.client.NOT_FOUND:
            return ""
        raise GridError(f"hazelcast member at port {member.port}: answered {status}")

    def _members(self, ports: Sequence[int]) -> list[Member]:
        return [
            Member(self.folder / f"member-{port}", port, host)
            for port, host in zip(ports, self._hosts[: len(ports)], strict=True)
        ]

    def _ports(self) -> list[int]:
        try:
            found = json.loads((self.folder / "cluster.json").read_text(encoding="utf-8"))
            return [int(port) for port in found["ports"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1 that nobody has at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise ConfigError(f"hazelcast: port {port} is taken; stop who has it, or choose another") from None
