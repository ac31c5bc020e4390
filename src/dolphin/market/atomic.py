"""Files that are either whole or absent (SPEC §1.4)."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_counter = itertools.count()
"""Keeps two threads of one process that write the same target from sharing a temp file."""


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temp path in the folder of `target`; the block writes that file, and it then takes the target's name.

    When the block ends normally the file is synced to disk and replaces `target` in one step; when it raises, the
    temp file is removed and `target` is as it was. Readers never see a half-written file. The folder must exist.
    """
    temp = target.with_name(f".{target.name}.{os.getpid()}.{next(_counter)}.tmp")
    try:
        yield temp
        with temp.open("rb") as written:
            os.fsync(written.fileno())
        temp.replace(target)
        sync_folder(target.parent)
    finally:
        temp.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; where the file system cannot, the rename alone has to do."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text_atomic(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as temp:
        temp.write_text(text, encoding="utf-8")


def write_json_atomic(target: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinities are refused with ValueError."""
    write_text_atomic(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def put_folder(fresh: Path, target: Path) -> None:
    """Give the folder `fresh`, beside `target`, that name; what had it steps aside first and is removed last.

    Raises OSError, and changes nothing, when what is there cannot be moved.
    """
    aside = None
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        try:
            target.rename(aside / "old")
        except OSError:
            aside.rmdir()
            raise
    fresh.rename(target)
    sync_folder(target.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def remove_empty(folders: Sequence[Path]) -> None:
    """Take back folders, deepest first, that were made for something that failed; stop at the first that holds
    anything."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
