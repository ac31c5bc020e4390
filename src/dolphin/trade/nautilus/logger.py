"""TradeLoggerActor: an audit trail of its own beside whatever else is written (SPEC §13; Bible §8.4).

settings_<ts>.json   what the session was started with, written whole at its start
trades_<ts>.csv      every order and position event, one line each, on disk before the next one is handled
"""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any, TextIO

from nautilus_trader.common.actor import Actor
from nautilus_trader.config import ActorConfig

from dolphin.core.clock import ns_to_iso
from dolphin.market.atomic import write_json_atomic

DEFAULT_FOLDER = "logs/paper_trading"

COLUMNS = (
    *("timestamp", "event", "instrument", "client_order_id", "venue_order_id", "side", "type", "quantity", "price"),
    *("commission", "reason", "position_id", "realized_pnl", "event_id"),
)

_FIRST = 10
"""Before anybody acts on an event, it is written down: so a fill stands above the stop that was sent because of it."""

_FIELDS: dict[str, tuple[str, ...]] = {
    "instrument": ("instrument_id",),
    "client_order_id": ("client_order_id", "opening_order_id"),
    "venue_order_id": ("venue_order_id",),
    "side": ("order_side", "side"),
    "type": ("order_type",),
    "quantity": ("last_qty", "quantity"),
    "price": ("last_px", "trigger_price", "avg_px_close", "avg_px_open"),
    "commission": ("commission",),
    "reason": ("reason",),
    "position_id": ("position_id",),
    "realized_pnl": ("realized_pnl",),
    "event_id": ("id",),
}
"""Where each column is found; the first that an event has counts."""


class TradeLoggerConfig(ActorConfig, frozen=True):
    """Where to write, and the settings to write down."""

    folder: str = DEFAULT_FOLDER
    settings: dict[str, Any] | None = None


class TradeLoggerActor(Actor):
    """Writes the session's settings and every order and position event as it happens.

    A file that cannot be written is told of in the log and does not stop the session. `events` counts what happened,
    `lost` what of it could not be written.
    """

    def __init__(self, config: TradeLoggerConfig) -> None:
        super().__init__(config)
        self._file: TextIO | None = None
        self.events = 0
        self.lost = 0

    def on_start(self) -> None:
        """Write the settings and open the trail."""
        stamp = ns_to_iso(self.clock.timestamp_ns()).replace("-", "").replace(":", "").split(".")[0].rstrip("Z")
        folder = Path(self.config.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = _free_name(folder, stamp)
            settings = {"started": ns_to_iso(self.clock.timestamp_ns()), **(self.config.settings or {})}
            write_json_atomic(folder / f"settings_{name}.json", settings)
            self._file = (folder / f"trades_{name}.csv").open("x", newline="", encoding="utf-8")
            self._file.write(",".join(COLUMNS) + "\n")
            self._file.flush()
        except OSError as error:
            self._failed(error)
        for topic in ("events.order.*", "events.position.*"):
            self.msgbus.subscribe(topic, self._on_event, priority=_FIRST)

    def _on_event(self, event: Any) -> None:
        self.events += 1
        if self._file is None:
            self.lost += 1
            return
        row = [ns_to_iso(event.ts_event) if event.ts_event else "", type(event).__name__]
        more = getattr(event, "options", None) or {}  # what only some kinds of orders have, a stop's trigger among it
        for names in _FIELDS.values():
            found = (getattr(event, name, more.get(name)) for name in names)
            value = next((v for v in found if v is not None), "")
            row.append(getattr(value, "name", None) or str(value))
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        try:
            self._file.write(line.getvalue())
            self._file.flush()
        except OSError as error:
            self.lost += 1
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what is still in its buffer cannot be written either
                file.close()
        self.log.error(f"trade log: {self.config.folder} cannot be written ({error.strerror}); going on without")

    def on_stop(self) -> None:
        """Close the trail."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _free_name(folder: Path, stamp: str) -> str:
    """`stamp`, or with a number behind it where a session of the same second has left its files."""
    name, k = stamp, 1
    while (folder / f"settings_{name}.json").exists() or (folder / f"trades_{name}.csv").exists():
        k += 1
        name = f"{stamp}_{k}"
    return name
