"""What each risk layer did in a run, in one line; for the terminal and for the comparison's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def layer_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(layer, what it did) for every layer that was on; empty for a bare run."""
    lines = []
    acb, mc, survival = summary.get("acb"), summary.get("mc"), summary.get("survival")
    if acb is not None:
        boosted = [day["boost"] for day in acb if day["boost"] > 1.0]
        highest = f", at most {max(boosted):.3f}" if boosted else ""
        lines.append(("circuit breaker", f"boost on {len(boosted)} of {len(acb)} days{highest}"))
    if mc is not None:
        said = Counter(day["status"] for day in mc)
        lines.append(("forewarner", ", ".join(f"{status} {count}" for status, count in said.items()) + " days"))
    if survival is not None:
        spent = (f"{name} {100.0 * row['share']:.1f} %" for name, row in survival["postures"].items() if row["bars"])
        lines.append(("survival stack", ", ".join(spent)))
        lines.append(("signals halted by the posture", f"{survival['entries_blocked']:,}"))
    book = summary.get("book")
    if book is not None:
        fired = ", ".join(f"{name[3:]}: {rule['fired']:,}" for name, rule in book["rules"].items())
        share = book["bars_usable"] / book["bars"] if book["bars"] else 0.0
        lines.append(("order book", f"usable on {100.0 * share:.1f} % of bars"))
        lines.append(("OB-1 to OB-5 fired", fired))
    return lines
