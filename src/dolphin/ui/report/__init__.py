"""The tearsheet: one HTML file that draws itself from disk, with no network at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dolphin.research.reportdata import ReportData


def write_report(path: Path, data: ReportData) -> None:
    """Write the tearsheet of one run to `path`, whole or not at all; what was there before is replaced.

    The page needs nothing beside itself: charts, style and scripts are inside. Raises OSError when the folder does
    not exist or cannot be written.
    """
    from dolphin.ui.report.page import render

    text = render(data)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp keeps others out; a report is for whoever may read its folder.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


__all__ = ["write_report"]
