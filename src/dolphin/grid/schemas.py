"""Every map, key and value of the grid, and the one place where values become bytes and back (SPEC §14).

    value = schemas.ACB_BOOST.decode(grid.get(*schemas.ACB_BOOST.at()), counts)

`CATALOGUE` is the table of docs/grid.md. What does not decode raises GridError and is counted: it is refused whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dolphin.core.errors import GridError
from dolphin.grid import values as v

SHARDS = 10
SAFETY, FEATURES, HEARTBEAT, BOOKS, SIGNALS = (
    "DOLPHIN_SAFETY", "DOLPHIN_FEATURES", "DOLPHIN_HEARTBEAT", "DOLPHIN_OB", "DOLPHIN_SIGNALS",
)  # fmt: skip
ACB_LOCK = "acb_lock"
"""The lock that every writer of the circuit breaker's update holds."""

VERSION = 1
"""Of all schemas. One that changes so that older readers would misread it gets the next number in its `_v`."""

PLACES = {
    "SYMBOL": r"[A-Z0-9]+",
    "date": r"\d{4}-\d{2}-\d{2}",
    "COLOR": r"BLUE|GREEN",
    "NN": r"0[0-9]",
    "feature": r"[a-z][a-z0-9_]*?",
    "strategy": r"[a-z][a-z0-9]*",
    "engine": r"[a-z][a-z0-9]*",
    "profile": r"[a-z][a-z0-9]*",
    "daemon": r"[a-z][a-z0-9_]*",
}
"""What may stand for each place in a name or key."""


class Decoded:
    """What became of values read: `decoded` of them, `refused` ones with the reason in `last_refusal`, and
    `unknown_fields` that were let pass, with the names of the latest in `last_unknown`."""

    def __init__(self) -> None:
        self.decoded = self.refused = self.unknown_fields = 0
        self.last_refusal = ""
        self.last_unknown: tuple[str, ...] = ()


class Entry[T]:
    """One key of the grid, or one kind of keys: where it is, what it holds, who writes and reads it.

    `name` and `key` may hold places in braces. `moves_money`: to change it by hand can open or close positions.
    """

    def __init__(
        self,
        name: str,
        key: str,
        kind: Any,
        writers: str,
        readers: str,
        note: str = "",
        *,
        moves_money: bool = False,
    ) -> None:
        self.name, self.key, self.kind = name, key, kind
        self.writers, self.readers, self.note, self.moves_money = writers, readers, note, moves_money
        self._name, self._key = _pattern(name), _pattern(key)
        self._decoder = msgspec.json.Decoder(kind)
        struct = next((one for one in _members(kind) if isinstance(one, type) and issubclass(one, v.Value)), None)
        self.fields = frozenset(struct.__struct_encode_fields__) if struct else None

    def at(self, **places: str) -> tuple[str, str]:
        """Map and key with the places filled in. Raises GridError for one that is missing or cannot stand there."""
        return _filled(self.name, places), _filled(self.key, places)

    def matches(self, name: str, key: str) -> bool:
        """Whether this entry is that key."""
        return bool(self._name.fullmatch(name) and self._key.fullmatch(key))

    def encode(self, value: T) -> bytes:
        """The value's JSON. Raises GridError for one that would not decode, so that a wrong one is never written."""
        try:
            data = msgspec.json.encode(value)
            self._decoder.decode(data)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            raise GridError(f"{self}: not written: {_line(error)}") from None
        return data

    def decode(self, data: bytes | None, counts: Decoded | None = None) -> T:
        """The value that `data` holds; None, for no value at all, is refused as well.

        Raises GridError, in one line, for whatever is not wholly as it should be; `counts` hears of it either way.
        """
        try:
            if data is None:
                raise ValueError("there is no value")
            value = self._decoder.decode(data)
            version = getattr(value, "schema", VERSION)
            if version is not msgspec.UNSET and version > VERSION:
                raise ValueError(f"version {version}; this build reads up to {VERSION}")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            refusal = f"{self}: refused: {_line(error)}; met {_shown(data)}"
            if counts is not None:
                counts.refused += 1
                counts.last_refusal = refusal
            raise GridError(refusal) from None
        if counts is not None:
            counts.decoded += 1
            if self.fields is not None and value is not None:
                self._count_unknown(data, self.fields, counts)
        return value  # type: ignore[no-any-return]

    def _count_unknown(self, data: bytes, fields: frozenset[str], counts: Decoded) -> None:
        unknown = _names(data).keys() - fields
        if unknown:
            counts.unknown_fields += len(unknown)
            counts.last_unknown = tuple(sorted(unknown))

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.name}[{self.key!r}]"


class TextEntry(Entry[str]):
    """A key that holds a time as plain text; as a JSON string it is read too."""

    def encode(self, value: str) -> bytes:
        """The text as it is."""
        return super().encode(value)[1:-1]

    def decode(self, data: bytes | None, counts: Decoded | None = None) -> str:
        """See Entry."""
        return super().decode(data if data is None or data[:1] == b'"' else b'"' + data + b'"', counts)


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(f"({PLACES[p]})" if i % 2 else re.escape(p) for i, p in enumerate(parts)))


def _filled(template: str, places: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        place = match[1]
        if not re.fullmatch(PLACES[place], places.get(place, "")):
            raise GridError(f"grid: {template}: {place} is {places.get(place)!r}; expected {PLACES[place]}")
        return places[place]

    return re.sub(r"\{(\w+)\}", fill, template)


def _members(kind: Any) -> Iterable[Any]:
    return getattr(kind, "__args__", (kind,))


_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _shown(data: bytes | None) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}…"


_E = Entry
SAFETY_LATEST: Entry[v.Safety] = _E(
    SAFETY, "latest", v.Safety, "watchdog", "trader, flows, dashboards",
    "The atomic reference of the same name comes first; this is for who cannot read it.", moves_money=True,
)  # fmt: skip
KILL_SWITCH: Entry[v.KillSwitch] = _E(
    SAFETY, "kill_switch", v.KillSwitch, "operator", "trader, watchdog", "Ours. Absent is released.", moves_money=True
)
ACB_BOOST: Entry[v.AcbBoost] = _E(
    FEATURES, "acb_boost", v.AcbBoost, "ACB processor, under `acb_lock`", "trader, by a listener",
    "A fall below 1.10 closes positions.", moves_money=True,
)  # fmt: skip
LATEST_SCAN: Entry[v.EigenScan] = _E(
    FEATURES, "latest_eigen_scan", v.EigenScan, "scan bridge", "trader, dashboards", "Each `scan_number` once."
)
EXF_LATEST: Entry[v.ExternalFactors] = _E(FEATURES, "exf_latest", v.ExternalFactors, "ExF fetcher", "ACB processor")
FOREWARNER_LATEST: Entry[v.ForewarnerReport] = _E(
    FEATURES, "mc_forewarner_latest", v.ForewarnerReport, "forewarner", "trader, watchdog"
)
ASSET_BOOK: Entry[v.BookSnapshot] = _E(FEATURES, "asset_{SYMBOL}_ob", v.BookSnapshot, "OBF", "trader's book")
BOOK: Entry[v.BookSnapshot] = _E(BOOKS, "{SYMBOL}", v.BookSnapshot, "OBF", "dashboards", "The same value.")
BOOK_MACRO: Entry[v.BookMacro] = _E(
    FEATURES, "obf_macro", v.BookMacro, "OBF", "dashboards, book readers", "By bar, the newest 20. Ours."
)
BOOK_SERVICE: Entry[v.BookService] = _E(FEATURES, "obf_latest", v.BookService, "OBF", "watchdog", "Cat3. Ours.")
SHARD_BOOK: Entry[v.BookFeatures] = _E(
    FEATURES + "_SHARD_{NN}", "{SYMBOL}", v.BookFeatures, "OBF", "book providers", "Shard: sum of ord modulo 10."
)
SHARD_FEATURE: Entry[float | None] = _E(
    FEATURES + "_SHARD_{NN}", "{feature}_{SYMBOL}", float | None, "feature stores", "feature stores", "One number."
)
DAY_RESULT: Entry[v.DailyResult] = _E(
    "DOLPHIN_PNL_{COLOR}", "{date}", v.DailyResult, "the flow that holds the capital", "analytics", "One a day."
)
ENGINE_RESULT: Entry[v.DailyResult] = _E(
    "DOLPHIN_PNL_{COLOR}", "{date}_{engine}", v.DailyResult, "another engine's run of that day", "analytics", "Ours."
)
PAPER_STATE: Entry[v.PaperState] = _E(
    "DOLPHIN_STATE_{COLOR}", "latest", v.PaperState, "paper flow", "paper flow", "Capital and position go on from it.",
    moves_money=True,
)  # fmt: skip
NAUTILUS_STATE: Entry[v.NautilusState] = _E(
    "DOLPHIN_STATE_{COLOR}", "latest_nautilus", v.NautilusState, "trader, NautilusTrader flow", "NautilusTrader flow",
    "Capital goes on from it.", moves_money=True,
)  # fmt: skip
LEFT_BEHIND: Entry[v.LeftBehind | None] = _E(
    "DOLPHIN_STATE_{COLOR}", "left_behind", v.LeftBehind | None, "trader, when it stops", "operator", "Ours."
)
RUN_STATE: Entry[v.PaperState] = _E(
    "DOLPHIN_STATE_{COLOR}", "state_{strategy}_{date}", v.PaperState, "paper flow", "recovery", "One a run."
)
FLOW_HEARTBEAT: Entry[v.FlowHeartbeat] = _E(
    HEARTBEAT, "nautilus_flow_heartbeat", v.FlowHeartbeat, "NautilusTrader flow", "monitoring"
)
PROBE = TextEntry(HEARTBEAT, "probe_ts", v.Iso, "NautilusTrader flow", "liveness check", "Text, not an object.")
DAEMON_HEARTBEAT: Entry[v.DaemonHeartbeat] = _E(
    HEARTBEAT, "{daemon}", v.DaemonHeartbeat, "every daemon", "supervisor, watchdog"
)
SIGNAL: Entry[v.Signal] = _E(SIGNALS, "{profile}_latest", v.Signal, "signal bridge", "strategies", "Fields are ours.")

CATALOGUE: tuple[Entry[Any], ...] = (
    SAFETY_LATEST, KILL_SWITCH, ACB_BOOST, LATEST_SCAN, EXF_LATEST, FOREWARNER_LATEST, ASSET_BOOK, BOOK, SHARD_BOOK,
    SHARD_FEATURE, DAY_RESULT, ENGINE_RESULT, PAPER_STATE, NAUTILUS_STATE, LEFT_BEHIND, RUN_STATE, FLOW_HEARTBEAT,
    PROBE, DAEMON_HEARTBEAT, SIGNAL, BOOK_MACRO, BOOK_SERVICE,
)  # fmt: skip


def find(name: str, key: str) -> Entry[Any] | None:
    """The entry of a key, the first that fits; None for one that no document names."""
    return next((entry for entry in CATALOGUE if entry.matches(name, key)), None)


def shard_of(symbol: str) -> int:
    """The shard of an asset: the sum of its characters' code points modulo 10, the same everywhere and always."""
    return sum(map(ord, symbol)) % SHARDS


def shard_map(symbol: str) -> str:
    """The map of an asset's features."""
    return f"{FEATURES}_SHARD_{shard_of(symbol):02d}"


def symbols_in(keys: Iterable[str]) -> list[str]:
    """The assets among a shard's keys, sorted: capital letters and digits only, for features are kept there too."""
    return sorted(key for key in keys if re.fullmatch(PLACES["SYMBOL"], key))


def market_snapshot(scan: v.EigenScan, symbol: str = "BTCUSDT") -> v.MarketSnapshot:
    """One asset of a scan; a scan that names no assets has BTCUSDT first. A number that is not known is NaN.

    Raises GridError when the scan has no such asset.
    """
    assets = scan.assets if scan.assets is not msgspec.UNSET else ["BTCUSDT"]
    if symbol not in assets or not scan.asset_prices:
        raise GridError(f"{LATEST_SCAN}: scan {scan.scan_number} has no price of {symbol}")
    return v.MarketSnapshot(
        timestamp=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=scan.timestamp_ns // 1000),
        symbol=symbol,
        price=_number(scan.asset_prices[assets.index(symbol)]),
        eigenvalues=[_number(one) for one in scan.asset_loadings or ()],
        velocity_divergence=_number(scan.vel_div),
        scan_number=scan.scan_number,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
