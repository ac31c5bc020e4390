"""One file, no network: content, the charts' data, the style, and the chart library itself.

A content security policy in the page forbids every request, and lets only the scripts written here run (by hash),
so that neither a chart library nor a hostile asset name could ever phone home.

A page is made piece by piece, so that writing it needs no more memory than its largest piece.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from dolphin.market.atomic import atomic_path
from dolphin.ui.report.numbers import esc
from dolphin.ui.report.series import Figure

_BOOT = 'document.documentElement.dataset.theme=matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light";'


def write_document(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a page to `path`, whole or not at all; what was there before is replaced."""
    with atomic_path(path) as temp, temp.open("wb") as file:
        file.writelines(pieces)


def serialised(figures: Iterable[tuple[str, Figure]]) -> dict[str, bytes]:
    """Figures by name as JSON that cannot end the script element it stands in; each is let go before the next."""
    # Plain ASCII: in memory a page of hover texts with one wide character among them takes twice the room.
    return {name: _json(figure).replace("<", "\\u003c").encode() for name, figure in figures}


def document(title: str, body: Iterable[str], charts: Mapping[str, bytes]) -> Iterator[bytes]:
    """The page as UTF-8: trusted `body` markup, and the `serialised` charts that fill its places by name."""
    # As text the chart library would take four bytes a character.
    script, library = _own("page.js").encode(), _chart_library()
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_policy(_BOOT.encode(), library, script)}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{esc(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{_own("style.css")}</style><script>{_BOOT}</script></head><body>'
    ).encode()
    for piece in body:
        yield piece.encode()
    yield b'<script type="application/json" id="charts">{'
    for k, (name, chart) in enumerate(charts.items()):
        yield f"{',' if k else ''}{_json(name)}:".encode()
        yield chart
    yield b"}</script><script>"
    yield library
    yield b"</script><script>" + script + b"</script></body></html>\n"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _policy(*scripts: bytes) -> str:
    """The page may run these scripts and draw; it may not fetch anything from anywhere."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s).digest()).decode()}'" for s in scripts)
    # WebGL point clouds compile small functions at run time, hence 'unsafe-eval'; charts style their nodes inline.
    rules = f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">'


def _own(name: str) -> str:
    return resources.files("dolphin.ui.report").joinpath(name).read_text(encoding="utf-8")


def _chart_library() -> bytes:
    # The file is read rather than asked of plotly's Python side, whose imports cost as much as the rest of this page.
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
