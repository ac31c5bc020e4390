"""Our scans as Nautilus data: the stream that drives the actor."""

from __future__ import annotations

from nautilus_trader.core.data import Data
from nautilus_trader.model.data import DataType

from dolphin.core.codes import ExitReason
from dolphin.trade.blocks import ScanBlock


class Scan(Data):
    """Row `row` of `block`: one bar with its closes, stamped (UNIX nanoseconds) with the instant it became known."""

    # Slots of these names, not properties: Nautilus asks for the stamps eight times a scan.
    __slots__ = ("block", "row", "ts_event", "ts_init")

    def __init__(self, block: ScanBlock, row: int, ts_ns: int) -> None:
        self.block, self.row, self.ts_event, self.ts_init = block, row, ts_ns, ts_ns


class Cut(Data):
    """The recorded market ends here, for good or until a gap is over: what is open closes at its last price."""

    __slots__ = ("reason", "ts_event", "ts_init")

    def __init__(self, reason: ExitReason, ts_ns: int) -> None:
        self.reason, self.ts_event, self.ts_init = reason, ts_ns, ts_ns


SCAN_TYPE, CUT_TYPE = DataType(Scan), DataType(Cut)
