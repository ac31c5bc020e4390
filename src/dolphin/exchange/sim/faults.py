"""The fault menu: what may go wrong between an exchange and its client, typed, seeded, and changed while running.

Each fault has a *kind*, a window of simulated time (`at_s` … `at_s + for_s`, counted from the moment the plan was set)
and a probability per message or request within it. Without a window it may happen at any time. A window of length 0
(`at_s` without `for_s`) happens once, at the first chance. Determinism: draws come from one generator seeded with the
plan's seed, in the order in which messages are offered (SPEC §19).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from dolphin.core.errors import ConfigError


class Kind(StrEnum):
    """What a fault does."""

    DROP = "drop"
    """The message is lost."""
    DUPLICATE = "duplicate"
    """The message is sent twice."""
    REORDER = "reorder"
    """The message is held back and follows the next one of its stream."""
    CORRUPT = "corrupt"
    """The message is cut off, or one of its bytes is another."""
    STALL = "stall"
    """The connection stays open, answers pings, and brings nothing for `for_s` seconds; what it missed is lost."""
    DISCONNECT = "disconnect"
    """The connection breaks without a close frame."""
    SLOW = "slow"
    """The line carries `amount` messages a second; what waits too long costs the client its connection."""
    HTTP_429 = "http429"
    """A request is answered with 429 and Retry-After: `amount` seconds."""
    HTTP_418 = "http418"
    """A request is answered with 418, the address is banned, Retry-After: `amount` seconds."""
    HTTP_5XX = "http5xx"
    """A request is answered with the status `amount`, 503 by default, and a page that is no JSON."""
    SKEW = "skew"
    """The exchange's clock is `amount` milliseconds ahead (or, when negative, behind)."""


_REQUESTS = frozenset({Kind.HTTP_429, Kind.HTTP_418, Kind.HTTP_5XX})
_DEFAULT_AMOUNT = {
    Kind.SLOW: 1.0,
    Kind.HTTP_429: 1.0,
    Kind.HTTP_418: 120.0,
    Kind.HTTP_5XX: 503.0,
    Kind.SKEW: 1000.0,
}
_KEYS = {"p": "probability", "at": "at_s", "for": "for_s", "amount": "amount", "streams": "streams"}
HOW = "write kind:p=0.01,at=30,for=5,amount=503,streams=btcusdt@*|ethusdt@*; items are separated by ';'"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault. Times are simulated seconds; `streams` are patterns (`*`, `?`) of stream names or REST paths, all
    when empty; `amount` is what the kind says, 0 for its default. Raises ConfigError (`checked`).
    """

    kind: Kind
    probability: float | None = None
    at_s: float | None = None
    for_s: float = 0.0
    streams: tuple[str, ...] = ()
    amount: float = 0.0

    def checked(self) -> Fault:
        """The fault with its defaults put in, or a ConfigError that names the value at fault."""
        p = self.probability
        if p is None:
            p = 1.0
            if self.at_s is None and self.kind not in (Kind.SKEW, Kind.SLOW):
                raise ConfigError(f"fault {self.kind}: neither p nor at is given; {HOW}")
        for name, value, low, high in (
            ("p", p, 0.0, 1.0),
            ("at", self.at_s or 0.0, 0.0, 1e9),
            ("for", self.for_s, 0.0, 1e9),
            ("amount", self.amount, -1e9, 1e9),
        ):
            if not low <= value <= high:
                raise ConfigError(f"fault {self.kind}: {name} is {value}; expected {low:g} to {high:g}")
        if self.kind is Kind.STALL and not self.for_s:
            raise ConfigError(f"fault {self.kind}: no for is given; say how many seconds it lasts, such as for=5")
        amount = self.amount or _DEFAULT_AMOUNT.get(self.kind, 0.0)
        if self.kind is Kind.HTTP_5XX and not 500 <= amount <= 599:
            raise ConfigError(f"fault {self.kind}: amount is {amount:g}; expected a status from 500 to 599")
        if self.kind is not Kind.SKEW and amount < 0:
            raise ConfigError(f"fault {self.kind}: amount is {amount:g}; expected 0 or more")
        return msgspec.structs.replace(self, probability=p, amount=amount)

    def covers(self, name: str) -> bool:
        """Whether the fault concerns this stream or path."""
        return not self.streams or any(fnmatchcase(name, pattern) for pattern in self.streams)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults from one line of text; see `HOW`. Raises ConfigError."""
    return tuple(_parse_one(item.strip()) for item in text.split(";") if item.strip())


def _parse_one(item: str) -> Fault:
    kind, _, rest = item.partition(":")
    if kind not in Kind:
        raise ConfigError(f"fault {kind!r}: unknown; expected one of {', '.join(Kind)}; {HOW}")
    values: dict[str, object] = {"kind": kind}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        name = _KEYS.get(key.strip())
        if name is None or not equals or name in values:
            raise ConfigError(f"fault {kind}: {pair.strip()!r} is not understood, or is there twice; {HOW}")
        if name == "streams":
            values[name] = tuple(value.split("|"))
            continue
        try:
            values[name] = float(value)
        except ValueError:
            raise ConfigError(f"fault {kind}: {key}={value!r} is no number; {HOW}") from None
    return msgspec.convert(values, Fault).checked()


class FaultPlan:
    """The faults in force, and how often each kind has struck."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 7, now_ms: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(seed)  # noqa: S311  faults, not secrets
        self.faults: tuple[Fault, ...] = ()
        self.set(faults, now_ms)

    def set(self, faults: Iterable[Fault], now_ms: int) -> None:
        """Replace the plan; windows count from `now_ms`. Nothing changes when a fault is refused (ConfigError)."""
        self.faults = tuple(fault.checked() for fault in faults)
        self._from_ms = now_ms
        self._spent: set[int] = set()
        self.on_messages = any(f.kind not in _REQUESTS and f.kind is not Kind.SKEW for f in self.faults)

    def strikes(self, name: str, now_ms: int) -> list[Fault]:
        """The faults that meet this message (a stream's name) or request (a path), in the plan's order."""
        request = name.startswith("/")
        met = []
        for index, fault in enumerate(self.faults):
            if (fault.kind in _REQUESTS) != request or fault.kind is Kind.SKEW or not fault.covers(name):
                continue
            if self._open(index, fault, now_ms) and self._rng.random() < (fault.probability or 0.0):
                if fault.at_s is not None and not fault.for_s:
                    self._spent.add(index)
                if fault.kind is not Kind.SLOW:
                    self.counts[fault.kind] += 1
                met.append(fault)
        return met

    def skew_ms(self, now_ms: int) -> int:
        """How far the exchange's clock is ahead at this moment, milliseconds."""
        return sum(
            round(f.amount)
            for k, f in enumerate(self.faults)
            if f.kind is Kind.SKEW and (self._open(k, f, now_ms) or (f.at_s is not None and self._since(f, now_ms)))
        )

    def until_ms(self, fault: Fault, now_ms: int) -> int:
        """When a stall that begins now is over: the end of its window, or `for_s` from now."""
        start = now_ms if fault.at_s is None else self._from_ms + fault.at_s * 1000.0
        return round(start + fault.for_s * 1000.0)

    def spoil(self, text: str) -> bytes:
        """A corrupted copy of a message: cut off, or with one byte changed."""
        data = text.encode()
        place = self._rng.randrange(1, len(data))
        if self._rng.random() < 0.5:
            return data[:place]
        return data[:place] + bytes([data[place] ^ 0x15]) + data[place + 1 :]

    def _since(self, fault: Fault, now_ms: int) -> bool:
        """A skew without an end begins at `at_s` and stays."""
        return not fault.for_s and now_ms >= self._from_ms + (fault.at_s or 0.0) * 1000.0

    def _open(self, index: int, fault: Fault, now_ms: int) -> bool:
        if fault.at_s is None:
            return True
        passed = now_ms - self._from_ms - fault.at_s * 1000.0
        if passed < 0:
            return False
        return passed < fault.for_s * 1000.0 if fault.for_s else index not in self._spent
