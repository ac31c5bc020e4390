"""One Hazelcast member: a Java process that any process can find again, by a folder."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dolphin.core.errors import GridError
from dolphin.market.atomic import write_text_atomic
from dolphin.ops.infra.memberconfig import CLUSTER, HOST, member_config

_MAIN = "com.hazelcast.core.server.HazelcastMemberStarter"
_OPENED = ("java.base/java.lang", "java.base/sun.nio.ch", "java.management/sun.management",
           "jdk.management/com.sun.management.internal")  # fmt: skip
_FLAGS = [
    "--add-modules=java.se",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    *(f"--add-opens={each}=ALL-UNNAMED" for each in _OPENED),
]
_ASK_S = 2.0

_started: list[subprocess.Popen[bytes]] = []  # members outlive who started them, and Python wants to be told so


class Member:
    """The member at `port` of `host`, a loopback address; configuration, log and process number are in `folder`."""

    def __init__(self, folder: Path, port: int, host: str = HOST) -> None:
        self.folder, self.port, self.host = folder, port, host
        self.log = folder / "member.log"
        self._config, self._pid_file = folder / "hazelcast.yaml", folder / "pid"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run. A number that another process has by now is not taken for it."""
        if self._child is not None:
            return self._child.pid if self._child.poll() is None else None
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def start(self, java: Path, jar: Path, ports: Sequence[int], heap_mb: int, hosts: Sequence[str] = ()) -> None:
        """Start it, to join those at `ports` of `hosts`. It runs on when this process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self._config, member_config(self.port, ports, hosts))
        command = [
            str(java), f"-Xms{min(64, heap_mb)}m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", *_FLAGS,
            f"-Dhazelcast.config={self._config.resolve()}", "-cp", str(jar), _MAIN,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        _started.append(self._child)
        write_text_atomic(self._pid_file, str(self._child.pid))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it does not run."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def gone_within(self, seconds: float) -> bool:
        """Wait until it does not run."""
        end = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        self._pid_file.unlink(missing_ok=True)
        return True

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Status and text that its REST interface, on loopback only, answers. Raises GridError when it does not."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_ASK_S)
        try:
            connection.request(method, f"/hazelcast{path}", body)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise GridError(f"hazelcast member at port {self.port}: {error}") from None
        finally:
            connection.close()

    def last_words(self) -> str:
        """The last line of its log that says what went wrong, or the last line."""
        with contextlib.suppress(OSError):
            lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line]
            wrong = [line for line in lines if line.startswith(("SEVERE", "Exception", "Error", "Caused by"))]
            return (wrong or lines or [""])[-1][:200]
        return ""

    def _is_ours(self, pid: int) -> bool:
        try:
            told = subprocess.run(
                ["ps", "-ww", "-o", "command=", "-p", str(pid)],
                capture_output=True, text=True, timeout=10.0, check=False,
            ).stdout  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        return str(self._config.resolve()) in told


CREDENTIALS = f"{CLUSTER}&"
"""What the REST interface wants before it changes anything: the cluster's name, and no password."""
