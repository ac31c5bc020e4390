"""The manifest of an archive: what it holds, so that a stale or altered day is noticed (SPEC §1.4).

Hashes are over content, not over files: column names, types and little-endian values of the day as it is read, so
another Parquet writer or compression level changes nothing. A manifest holds no time of writing: the same content
gives the same manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from dolphin.core.clock import ns_to_iso
from dolphin.core.errors import DataError
from dolphin.market.atomic import write_text_atomic
from dolphin.market.tables import META_COLUMNS, PriceDay, ScanDay

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
Kind = Literal["prices", "scans"]


class DayEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One day: `first` and `last` are ISO stamps (None without rows); `assets` is None where it has all of them."""

    day: date
    rows: int
    first: str | None
    last: str | None
    hash: str
    assets: tuple[str, ...] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an archive holds; `assets` in order of first appearance, `source` free words about where it comes from."""

    schema: int
    kind: Kind
    bar_seconds: float
    rows: int
    content_hash: str
    source: dict[str, Any]
    assets: tuple[str, ...]
    days: tuple[DayEntry, ...]


def day_hash(day: PriceDay) -> str:
    """SHA-256 (hex) of a day's content as `read_day` gives it: names, types, values; independent of the machine."""
    columns = [["timestamp", "int64 ns"]]
    if isinstance(day, ScanDay):
        columns += [["scan_number", "int64"], *([name, "float64"] for name in META_COLUMNS[2:])]
    columns += [[name, "float64"] for name in day.assets]
    digest = hashlib.sha256(json.dumps([str(day.day), day.rows, columns]).encode())
    digest.update(_bytes(day.ts_ns, "<i8"))
    if isinstance(day, ScanDay):
        digest.update(_bytes(day.scan_number, "<i8"))
        digest.update(_bytes(day.signals, "<f8"))
    digest.update(_bytes(day.closes, "<f8"))
    return digest.hexdigest()


def manifest_hash(days: Iterable[DayEntry]) -> str:
    """SHA-256 (hex) over the days and their hashes, in order: the identity of an archive, or of a part of it."""
    digest = hashlib.sha256()
    for entry in days:
        digest.update(f"{entry.day} {entry.hash}\n".encode())
    return digest.hexdigest()


def entry_of(day: PriceDay, *, with_assets: bool = True) -> DayEntry:
    """The entry of one day, its hash computed."""
    first, last = (ns_to_iso(int(day.ts_ns[k])) for k in (0, -1)) if day.rows else (None, None)
    assets = day.assets if with_assets else None
    return DayEntry(day=day.day, rows=day.rows, first=first, last=last, hash=day_hash(day), assets=assets)


def make_manifest(kind: Kind, bar_seconds: float, source: dict[str, Any], entries: Iterable[DayEntry]) -> Manifest:
    """The manifest of entries that name their assets; the universe is their union in order of first appearance."""
    listed = tuple(entries)
    assets = union_of(entry.assets or () for entry in listed)
    days = tuple(msgspec.structs.replace(e, assets=None) if e.assets == assets else e for e in listed)
    return Manifest(
        schema=SCHEMA_VERSION,
        kind=kind,
        bar_seconds=float(bar_seconds),
        rows=sum(entry.rows for entry in days),
        content_hash=manifest_hash(days),
        source=source,
        assets=assets,
        days=days,
    )


def union_of(columns: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All names of all tuples, each once, in order of first appearance (SPEC §23, Bars)."""
    return tuple(dict.fromkeys(name for names in columns for name in names))


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write `manifest.json` of `folder`, atomically; give its path."""
    path = folder / MANIFEST_NAME
    write_text_atomic(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1).decode() + "\n")
    return path


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of `folder`, None when there is none; DataError when it is no manifest or was edited."""
    path = folder / MANIFEST_NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    try:
        version = msgspec.json.decode(raw, type=_Version).schema
        if version != SCHEMA_VERSION:
            raise DataError(f"{path}: schema {version}, expected {SCHEMA_VERSION}; write the archive again")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not an archive's manifest ({error}); write the archive again") from None
    listed = [entry.day for entry in manifest.days]
    if listed != sorted(set(listed)):
        raise DataError(f"{path}: its days do not ascend; write the archive again")
    found = manifest_hash(manifest.days)
    if found != manifest.content_hash:
        raise DataError(
            f"{path}: content_hash {manifest.content_hash[:16]}…, but its days give {found[:16]}…; it was edited: "
            "write the archive again"
        )
    return manifest


class _Version(msgspec.Struct):
    schema: int


def _bytes(values: np.ndarray, dtype: str) -> memoryview:
    return memoryview(np.ascontiguousarray(values, dtype=dtype)).cast("B") if values.size else memoryview(b"")
