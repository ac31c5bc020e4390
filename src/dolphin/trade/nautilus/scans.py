"""Our scans as Nautilus data: the stream that drives the actor."""

from __future__ import annotations

from nautilus_trader.core.data import Data
from nautilus_trader.model.data import DataType

from dolphin.core.codes import ExitReason
from dolphin.trade.blocks import ScanBlock


class Scan(Data):
    """Row `row` of `block`: one bar with its closes. Stamped with the instant at which it became known."""

    __slots__ = ("_ts", "block", "row")

    def __init__(self, block: ScanBlock, row: int, ts_ns: int) -> None:
        self.block, self.row, self._ts = block, row, ts_ns

    @property
    def ts_event(self) -> int:
        """UNIX nanoseconds."""
        return self._ts

    @property
    def ts_init(self) -> int:
        """UNIX nanoseconds; the same instant."""
        return self._ts


class Cut(Data):
    """The recorded market ends here, for good or until a gap is over: what is open closes at its last price."""

    __slots__ = ("_ts", "reason")

    def __init__(self, reason: ExitReason, ts_ns: int) -> None:
        self.reason, self._ts = reason, ts_ns

    @property
    def ts_event(self) -> int:
        """UNIX nanoseconds."""
        return self._ts

    @property
    def ts_init(self) -> int:
        """UNIX nanoseconds; the same instant."""
        return self._ts


SCAN_TYPE, CUT_TYPE = DataType(Scan), DataType(Cut)
