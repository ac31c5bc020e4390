"""`latest_ob_features.json`: the newest features and snapshots in a file, for when the grid is not there (SPEC §8).

`SCHEMA.md` is written beside it and says what it holds, from these types.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dolphin.book.payload import seconds_of
from dolphin.core.clock import ns_to_iso
from dolphin.grid.values import BookFeatures, BookService, BookSnapshot, Iso, MacroBar, Seconds
from dolphin.market.atomic import write_text_atomic
from dolphin.ops.obf.beat import Frame
from dolphin.ops.obf.cachefile import read_cache_file
from dolphin.ops.obf.words import features_value, live, macro_bar, snapshot_value, status_of

FEATURES_NAME, SCHEMA_NAME = "latest_ob_features.json", "SCHEMA.md"
Phase = Literal["starting", "running", "degraded", "stopping", "stopped"]
Status = Literal["MISSING", "WARMING", "LIVE", "STALE_DATA", "STALE"]


class AssetLine(msgspec.Struct, frozen=True, kw_only=True):
    """One asset. `snapshot` and `features` are null unless they may be used now; a reader judges their age itself."""

    status: Status
    snapshot: BookSnapshot | None
    features: BookFeatures | None


class FeaturesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. `mode` is `file_only` while the breaker keeps pushes from the grid; `market` is null without a
    usable book; `timestamp` (seconds) and `iso` are those of the beat."""

    schema: Literal[1]
    timestamp: Seconds
    iso: Iso
    bar: Annotated[int, Meta(ge=0)]
    phase: Phase
    mode: Literal["grid", "file_only"]
    service: BookService
    market: MacroBar | None
    assets: dict[str, AssetLine]


def features_file(frame: Frame, service: BookService, phase: str, *, file_only: bool) -> FeaturesFile:
    """A frame as the file holds it."""
    usable, regime = set(live(frame)), int(frame.market["regime_signal"][0])
    iso = ns_to_iso(frame.now_ns)
    lines = {
        asset: AssetLine(
            status=status_of(frame, k),  # type: ignore[arg-type]  # checked when it is read
            snapshot=None
            if frame.snapshots["timestamp"][k] != frame.snapshots["timestamp"][k]
            else snapshot_value(frame.snapshots[k], iso, frame.now_ns // 1_000_000),
            features=features_value(frame.books[k], float(frame.last_s[k]), regime) if k in usable else None,
        )
        for k, asset in enumerate(frame.assets)
    }
    return FeaturesFile(
        schema=1,
        timestamp=seconds_of(frame.now_ns),
        iso=iso,
        bar=frame.bar,
        phase=phase,  # type: ignore[arg-type]
        mode="file_only" if file_only else "grid",
        service=service,
        market=macro_bar(frame),
        assets=lines,
    )


def write_features(folder: Path, value: FeaturesFile) -> None:
    """Write the file, whole or not at all. Raises OSError."""
    write_text_atomic(folder / FEATURES_NAME, msgspec.json.encode(value).decode() + "\n")


def read_features(folder: Path) -> FeaturesFile:
    """What the file in `folder` holds. Raises DataError, in one line, for one that is missing or not as SCHEMA.md has
    it: it is refused whole."""
    return read_cache_file(folder / FEATURES_NAME, FeaturesFile, "features that SCHEMA.md beside it describes")


def schema_text() -> str:
    """SCHEMA.md, as it is written beside the file and stands in docs/obf.md."""
    return (files("dolphin.ops.obf") / "schema.md").read_text(encoding="utf-8")


def write_schema(folder: Path) -> None:
    """Write SCHEMA.md into `folder`. Raises OSError."""
    write_text_atomic(folder / SCHEMA_NAME, schema_text())
