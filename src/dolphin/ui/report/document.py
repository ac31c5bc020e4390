"""One file, no network: content, the charts' data, the style, and the chart library itself.

A content security policy in the page forbids every request, and lets only the scripts written here run (by hash),
so that neither a chart library nor a hostile asset name could ever phone home.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from dolphin.ui.report.numbers import esc
from dolphin.ui.report.series import Figure

_BOOT = 'document.documentElement.dataset.theme=matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light";'


def document(title: str, body: str, charts: Mapping[str, Figure]) -> str:
    """The whole page as text: trusted `body` markup, and the charts that fill its places by name."""
    style, script, library = _own("style.css"), _own("page.js"), _chart_library()
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_policy(_BOOT, library, script)}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{esc(title.strip())}</title>'
        f'<link rel="icon" href="data:,"><style>{style}</style><script>{_BOOT}</script></head>'
    )
    tail = (
        f'<script type="application/json" id="charts">{_json(charts)}</script>'
        f"<script>{library}</script><script>{script}</script></body></html>\n"
    )
    return f"{head}<body>{body}{tail}"


def _policy(*scripts: str) -> str:
    """The page may run these scripts and draw; it may not fetch anything from anywhere."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    # WebGL point clouds compile small functions at run time, hence 'unsafe-eval'; charts style their nodes inline.
    rules = f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">'


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _own(name: str) -> str:
    return resources.files("dolphin.ui.report").joinpath(name).read_text(encoding="utf-8")


def _chart_library() -> str:
    # The file is read rather than asked of plotly's Python side, whose imports cost as much as the rest of this page.
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
