"""Writing an archive so that it is there whole, or not at all (SPEC §1.4)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from dolphin.core.clock import ns_to_date, system_clock_ns
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.atomic import sync_folder, write_text_atomic
from dolphin.market.daychecks import check_bar
from dolphin.market.dayfile import DAY_NAME, checked, day_path, set_aside, write_price_day, write_scan_day
from dolphin.market.manifest import (
    MANIFEST_NAME,
    DayEntry,
    Kind,
    Manifest,
    entry_of,
    make_manifest,
    write_manifest,
)
from dolphin.market.tables import PriceDay, ScanDay

REWRITING = ".rewriting"
"""Lies in a folder while an old archive gives way to a new one; a reader that meets it refuses the folder."""


class ArchiveWriter:
    """Write day files and a manifest into `folder`; a context manager.

    Days are written into a hidden folder on the same file system and take their place when the block ends normally;
    when it raises, nothing is left behind. With `force` an archive that is already there is replaced: its files that
    differ are kept as `*.STALE_YYYYMMDD`, dated `stale_on` (default: today, UTC). Other files in `folder` stay.

    Raises ConfigError when made on a folder that holds an archive (without `force`) or cannot be written, and on
    entering the block when another process is writing there.
    """

    def __init__(
        self,
        folder: Path,
        kind: Kind,
        bar_seconds: float,
        source: Mapping[str, Any] | None = None,
        force: bool = False,
        *,
        stale_on: date | None = None,
    ) -> None:
        """Check the arguments and the folder; nothing is written before the block is entered."""
        if kind not in get_args(Kind):
            raise ConfigError(f"kind {kind!r}: expected one of {', '.join(get_args(Kind))}")
        if not 0.0 < bar_seconds <= 86_400.0:
            raise ConfigError(f"bar_seconds {bar_seconds}: expected more than 0 and at most a day, 86400")
        self.folder = Path(folder)
        self.kind = kind
        self.bar_seconds = float(bar_seconds)
        self.manifest: Manifest | None = None
        self._source = dict(source or {})
        self._force = force
        self._stale_on = stale_on
        self._entries: list[DayEntry] = []
        self._lock: int | None = None
        self._staging = self.folder
        self._check_folder()

    def __enter__(self) -> Self:
        """Claim the folder; ConfigError when another process has, or when the disk refuses."""
        self._check_folder()
        base = _deepest_existing(self.folder)
        inside = base == self.folder
        self._staging = base / (".partial" if inside else f".{self.folder.name}.partial")
        try:
            self._staging.mkdir(exist_ok=True)
            self._lock = os.open(self._staging, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A writer that has just finished may have moved the folder away between our two steps.
            mine = os.fstat(self._lock).st_ino == self._staging.stat().st_ino
        except BlockingIOError:
            mine = False
        except OSError as error:
            self._release()
            raise _unwritable(self.folder, error.strerror) from None
        if not mine:
            self._release()
            raise ConfigError(f"{self.folder}: another process is writing there; wait, or choose another folder")
        for left in self._staging.iterdir():  # by a writer that was killed
            left.unlink()
        self._entries.clear()
        return self

    def write(self, day: PriceDay) -> None:
        """Add one day, later than all before; DataError when it is not legal, or not of this kind and bar length."""
        where = str(day_path(self.folder, day.day))
        kind = "scans" if isinstance(day, ScanDay) else "prices"
        if kind != self.kind:
            raise DataError(f"{where}: holds {kind}, expected {self.kind} as the archive that is being written")
        if self._entries and day.day <= self._entries[-1].day:
            raise DataError(f"{where}: comes after {self._entries[-1].day}; expected days that ascend")
        day = checked(day, where)
        check_bar(day.ts_ns, self.bar_seconds, where)
        if isinstance(day, ScanDay):
            write_scan_day(self._staging, day)
        else:
            write_price_day(self._staging, day)
        self._entries.append(entry_of(day))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the archive in its place, or clear away what was written of it."""
        try:
            if error is None:
                self._commit()
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._release()

    def _commit(self) -> None:
        if not self._entries:
            raise DataError(f"{self.folder}: no day to write; nothing was written")
        self.manifest = make_manifest(self.kind, self.bar_seconds, self._source, self._entries)
        write_manifest(self._staging, self.manifest)
        if self._staging.parent == self.folder:
            self._replace_files()
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._staging.rename(self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error.strerror) from None
        sync_folder(self.folder.parent)

    def _replace_files(self) -> None:
        """Move the new files into an existing folder, setting old ones aside; interrupted, readers refuse it."""
        old = archive_files(self.folder)
        today = self._stale_on or ns_to_date(system_clock_ns())
        write_text_atomic(self.folder / REWRITING, "an archive is being replaced here\n")
        new = {path.name: path for path in sorted(self._staging.iterdir())}
        for path in old:
            set_aside(path, today, same_as=new.get(path.name))
            if path.name not in new:
                path.unlink()
        for name, path in new.items():
            path.replace(self.folder / name)
        sync_folder(self.folder)
        (self.folder / REWRITING).unlink()
        sync_folder(self.folder)

    def _check_folder(self) -> None:
        base = _deepest_existing(self.folder)
        if not base.is_dir():
            raise _unwritable(self.folder, f"{base} is a file")
        if not os.access(base, os.W_OK | os.X_OK):
            raise _unwritable(self.folder, "permission denied")
        if base == self.folder and not self._force:
            held = archive_files(self.folder)
            if held or (self.folder / REWRITING).exists():
                raise ConfigError(
                    f"{self.folder}: already holds an archive of {len(held)} files; choose another folder, or "
                    "replace it with --force"
                )

    def _release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None


def archive_files(folder: Path) -> list[Path]:
    """The day files and the manifest that lie in `folder`, by name."""
    return sorted(p for p in folder.iterdir() if p.name == MANIFEST_NAME or DAY_NAME.fullmatch(p.name))


def _deepest_existing(folder: Path) -> Path:
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def _unwritable(folder: Path, reason: str | None) -> ConfigError:
    return ConfigError(f"{folder}: cannot be written ({reason}); choose another folder")
