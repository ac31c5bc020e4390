"""Factor files: per date a folder of small `.npz` files, one or two a scan (SPEC §1.3).

    YYYY-MM-DD/scan_000001__Indicators.npz     funding_btc, dvol_btc, fng, taker: one number each
    YYYY-MM-DD/scan_000001__scan_global.npz    lambda_vel_w750: one number

A factor that is not there, or is NaN, is missing. Pickles are never loaded. Scans are ordered by the number in their
name, and only a date's first ten are read: nothing later may count (SPEC §9).
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dolphin.core.errors import DataError
from dolphin.market.atomic import atomic_path

FACTORS = ("funding_btc", "dvol_btc", "fng", "taker")
"""Names in an Indicators file: fraction per settlement; percent per year; 0 to 100; ratio."""

W750 = "lambda_vel_w750"
"""The name in a scan_global file: the long window's velocity, per bar."""

FIRST_SCANS = 10
"""How many scans of a date are read."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SCAN = re.compile(r"scan_(\d{6,})__(Indicators|scan_global)\.npz")
_LARGEST = 1 << 20  # bytes unpacked; a handful of numbers takes a few hundred
_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, SyntaxError, TypeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What unpacking a damaged file raises, at one depth or another."""


def write_indicators(folder: Path, day: date, scan_number: int, values: Mapping[str, float]) -> Path:
    """Write the factors known at one scan of `day`, whole or not at all; give the file's path.

    `values` names some of FACTORS; one that is left out is missing. Raises DataError for a name that is no factor, a
    value that is not finite, or a scan number outside 0 … 999999.
    """
    unknown = sorted(set(values) - set(FACTORS))
    if unknown:
        raise DataError(f"factors of {day}: {unknown[0]!r} is no factor; expected {', '.join(FACTORS)}")
    if not values:
        raise DataError(f"factors of {day}: no value; expected at least one of {', '.join(FACTORS)}")
    return _write(folder, day, scan_number, "Indicators", values)


def write_scan_global(folder: Path, day: date, scan_number: int, lambda_vel_w750: float) -> Path:
    """Write the long window's velocity at one scan of `day`; give the file's path. Raises DataError as above."""
    return _write(folder, day, scan_number, "scan_global", {W750: lambda_vel_w750})


def factor_dates(folder: Path) -> tuple[date, ...]:
    """The dates that have a folder in `folder`, ascending; other names are passed over.

    Raises DataError when `folder` is missing or unreadable, or a name looks like a date and is none.
    """
    try:
        names = sorted(p.name for p in folder.iterdir() if _DATE.fullmatch(p.name) and p.is_dir())
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no such directory; expected factor files as 'dolphin factors import' makes"
        ) from None
    except NotADirectoryError:
        raise DataError(f"{folder}: not a directory; expected a folder of YYYY-MM-DD folders of factor files") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
    try:
        return tuple(map(date.fromisoformat, names))
    except ValueError:
        wrong = next(name for name in names if not _is_date(name))
        raise DataError(f"{folder / wrong}: is not a calendar date; expected YYYY-MM-DD, rename or remove it") from None


def read_factors(folder: Path, day: date) -> dict[str, list[float]]:
    """The factors of `day`: per name one value a scan, its first ten scans in order, NaN where a scan has none.

    Lists are of equal length, empty when the date has no Indicators file. Raises DataError naming the file for one that
    is torn, no `.npz`, holds objects, no factor, not one number per name, or an infinite value.
    """
    scans = [_read(path, FACTORS) for path in first_scans(folder, day, "Indicators")]
    return {name: [scan[name] for scan in scans] for name in FACTORS}


def read_w750(folder: Path, day: date) -> list[float]:
    """The w750 velocities of `day`'s first ten scans in order, NaN where missing; raises DataError as above."""
    return [_read(path, (W750,))[W750] for path in first_scans(folder, day, "scan_global")]


def first_scans(folder: Path, day: date, kind: str) -> list[Path]:
    """The files of the first ten scans of `day`, by scan number; `kind` is Indicators or scan_global.

    No folder for the date gives no file. Hidden files and other kinds of the scanner's files are passed over. Raises
    DataError for a file of one of the two kinds whose name is not as it must be: it would be lost silently.
    """
    home = folder / day.isoformat()
    if not home.is_dir():
        return []
    found: list[tuple[int, Path]] = []
    try:
        paths = sorted(home.iterdir())
    except OSError as error:
        raise DataError(f"{home}: cannot be read ({error.strerror}); check its permissions") from None
    for path in paths:
        if path.name.startswith(".") or path.suffix != ".npz":
            continue
        match = _SCAN.fullmatch(path.name)
        if match is None:
            if re.fullmatch(r"scan_\d{6,}__\w+\.npz", path.name) and not _is_near(path.name):
                continue  # another file of the same scan
            raise DataError(f"{path}: not the name of a factor file; expected scan_000001__Indicators.npz or the like")
        if match[2] == kind:
            found.append((int(match[1]), path))
    numbers = [number for number, _ in found]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{home}: two {kind} files of one scan number; expected one, remove the other")
    return [path for _, path in sorted(found)[:FIRST_SCANS]]


def _is_near(name: str) -> bool:
    """Whether a name is one of the two kinds, misspelt in upper or lower case."""
    return name.lower().partition("__")[2] in ("indicators.npz", "scan_global.npz")


def _is_date(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


def _write(folder: Path, day: date, scan_number: int, kind: str, values: Mapping[str, float]) -> Path:
    if not 0 <= scan_number <= 999_999:
        raise DataError(f"factors of {day}: scan number {scan_number}; expected 0 to 999999")
    for name, value in values.items():
        if not math.isfinite(value):
            raise DataError(f"factors of {day}: {name} is {value}; expected a finite number, leave it out if missing")
    path = folder / day.isoformat() / f"scan_{scan_number:06d}__{kind}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temp, temp.open("wb") as file:
            np.savez(file, allow_pickle=False, **{name: np.float64(value) for name, value in values.items()})
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
    return path


def _read(path: Path, names: tuple[str, ...]) -> dict[str, float]:
    """The numbers called `names` in one file, NaN for those it has not; at least one must be there."""
    values: dict[str, float] = {}
    held: list[str] = []
    try:
        _check_size(path)
        with np.load(path, allow_pickle=False) as archive:
            held = sorted(archive.files)
            for name in names:
                values[name] = _number(path, name, np.asarray(archive[name])) if name in held else math.nan
    except _BROKEN as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not readable as .npz without pickles ({what}); fetch or write it again") from None
    if not set(names) & set(held):
        raise DataError(f"{path}: holds {', '.join(held) or 'nothing'}; expected {' or '.join(names)}")
    return values


def _check_size(path: Path) -> None:
    """Refuse what would unpack to more than a few numbers, before it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > _LARGEST:
        raise DataError(f"{path}: {size:,} bytes unpacked; expected a handful of numbers")


def _number(path: Path, name: str, array: Any) -> float:
    """One float out of an array of one number; NaN stays NaN, as a missing value."""
    if array.dtype.kind not in "fiu" or array.size != 1:
        raise DataError(f"{path}: {name} is {array.dtype} of shape {array.shape}; expected one number")
    value = float(array.reshape(-1)[0])
    if math.isinf(value):
        raise DataError(f"{path}: {name} is {value}; expected a finite number, or NaN where it is missing")
    return value
