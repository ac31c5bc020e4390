"""The tearsheet: one HTML file that draws itself from disk, with no network at all."""

from __future__ import annotations

from pathlib import Path

from dolphin.research.reportdata import ReportData


def write_report(path: Path, data: ReportData) -> None:
    """Write the tearsheet of one run to `path`, whole or not at all; what was there before is replaced.

    The page needs nothing beside itself: charts, style and scripts are inside. Raises OSError when the folder does
    not exist or cannot be written.
    """
    from dolphin.ui.report.document import write_document
    from dolphin.ui.report.page import parts

    write_document(path, parts(data))


__all__ = ["write_report"]
