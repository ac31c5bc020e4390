"""What the service's threads have in common: started once, watched, and ended by whoever made them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Worker(ABC):
    """A thread of its own that runs `_run`."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=f"obf-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def _ended_within(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @abstractmethod
    def _run(self) -> None:
        """The thread's work."""
