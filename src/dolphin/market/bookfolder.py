"""A whole folder of books at once: there with its manifest, or not at all (SPEC §1.4)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dolphin.core.errors import ConfigError, DataError
from dolphin.market.atomic import put_folder
from dolphin.market.bookarchive import BookManifest, make_book_manifest, write_book_manifest
from dolphin.market.bookfiles import BookDay, book_entry, write_book_day
from dolphin.market.dayfile import DAY_NAME, day_path
from dolphin.market.manifest import MANIFEST_NAME, DayEntry


class BookFolder:
    """Writes days of books and their manifest to `folder`; a context manager.

    They are written beside it and take its place when the block ends normally; when it raises, nothing is left behind.
    With `force` books that are there are replaced. For recording as time goes by there is `BookWriter`. Raises
    ConfigError, when made, for a folder that holds anything else, books without `force`, or cannot be written.
    """

    def __init__(self, folder: Path, source: Mapping[str, Any], *, force: bool = False) -> None:
        self.folder = Path(folder).absolute()
        self.manifest: BookManifest | None = None
        self._given, self._source, self._force = Path(folder), dict(source), force
        self._entries: list[DayEntry] = []
        self._staging = self.folder
        self._check()

    def __enter__(self) -> Self:
        """Make room beside the folder."""
        self._check()
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._staging = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.folder.parent))
            self._staging.chmod(0o755)
        except OSError as error:
            raise ConfigError(f"{self._given}: cannot be written ({error.strerror}); choose another folder") from None
        return self

    def write(self, day: BookDay) -> None:
        """Add one day, later than all before; DataError otherwise."""
        if self._entries and day.day <= self._entries[-1].day:
            raise DataError(f"{self._given}: {day.day} comes after {self._entries[-1].day}; expected days that ascend")
        write_book_day(day_path(self._staging, day.day), day)
        self._entries.append(book_entry(day))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the books in their place, or clear away what was written of them."""
        try:
            if error is None:
                self._commit()
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _commit(self) -> None:
        if not self._entries:
            raise DataError(f"{self._given}: no day of books; nothing was written")
        self.manifest = make_book_manifest(self._source, self._entries)
        write_book_manifest(self._staging, self.manifest)
        put_folder(self._staging, self.folder)

    def _check(self) -> None:
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{self._given}: is a file; expected a folder for the books")
        if not folder.exists():
            return
        held = sorted(path.name for path in folder.iterdir())
        strange = [name for name in held if name != MANIFEST_NAME and not DAY_NAME.fullmatch(name)]
        if strange:
            raise ConfigError(f"{self._given}: holds {strange[0]}, which is no book; choose another folder")
        if held and not self._force:
            raise ConfigError(
                f"{self._given}: already holds {len(held)} files; choose another folder, or replace them with --force"
            )
        if not os.access(folder.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"{self._given}: its parent folder cannot be written; choose another folder")
