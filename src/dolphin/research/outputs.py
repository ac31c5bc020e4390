"""A run's folder, or a model's: it appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dolphin.core.errors import DataError
from dolphin.market.atomic import put_folder, remove_empty

RUN_FILES = ("summary.json", "trades.parquet", "trades.csv", "equity.parquet", "report.html")


@contextmanager
def run_folder(out: Path, *, force: bool, files: Sequence[str] = RUN_FILES, what: str = "run") -> Iterator[Path]:
    """Yield a fresh folder beside `out` that becomes `out` when the block ends, and vanishes when it fails.

    `files` are the names that such a folder may hold, `what` is its kind in messages. Raises DataError when `out`
    cannot be written, is a file, or holds anything: a run needs `force` to be replaced, and a folder with other
    people's files is never touched."""
    check_target(out, force=force, files=files, what=what)
    absent = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        remove_empty(absent)
        raise DataError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield fresh
        fresh.chmod(0o755)
        try:
            put_folder(fresh, out)
        except OSError as error:
            raise DataError(f"--out {out}: cannot be replaced ({error.strerror}); choose another folder") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        remove_empty(absent)


def check_target(out: Path, *, force: bool, files: Sequence[str] = RUN_FILES, what: str = "run") -> None:
    """Refuse an `out` that `run_folder` would refuse, before the work that is to fill it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"--out {out}: is a file; expected a folder for the results")
    held = sorted(p.name for p in out.iterdir())
    strange = [name for name in held if name not in files]
    if strange:
        raise DataError(f"--out {out}: holds {strange[0]}, which is not part of a {what}; choose another folder")
    if held and not force:
        raise DataError(f"--out {out}: already holds a {what}; give another folder, or --force to replace it")
    if not os.access(out.parent, os.W_OK):
        raise DataError(f"--out {out}: its parent folder cannot be written; choose another folder")
