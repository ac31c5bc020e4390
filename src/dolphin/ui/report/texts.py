"""The words of the page: what its figures mean, what its signal does not know, and what nobody should claim from it."""

from __future__ import annotations

GATE_MEANINGS = {
    "ENTERED": "a position was opened",
    "IN_POSITION": "a position was already open",
    "JUST_EXITED": "a position was closed on this bar",
    "CAPITAL": "no capital was left",
    "WARM_UP": "fewer bars seen than the engine wants before its first trade",
    "HALT": "the risk stack had halted entries",
    "VOL_REGIME": "too early in the day's file to judge volatility",
    "VEL_DIV": "vel_div had not crossed the threshold, or had no value yet",
    "SELECTION": "no asset passed the selection's filters",
    "DIRECTION_CONFIRMATION": "the chosen asset had just moved the other way",
    "BOOK_IMBALANCE": "the order book leaned against the trade",
}
"""What each gate's refusal means, by the names of `core.codes.Gate`."""

CAVEATS = (
    (
        "One shock, two signals.",
        (
            "A velocity over W bars jumps when a large return enters its window and once more when that return "
            "drops out, W bars later. The echo is real and known at its bar, so it is no look-ahead; but it tells "
            "of the window, not of the market at that moment. A dip 50 or 750 bars after a shock deserves "
            "suspicion."
        ),
    ),
    (
        "Bars without trades.",
        (
            "A market that stands still, through an outage or because a coin sleeps, has no variance and leaves "
            "the correlation window. The number of assets changes with it; velocity across such a bar is taken on "
            "the assets that both bars share."
        ),
    ),
    (
        "Warm-up.",
        (
            "The longest window spans 750 bars, and its velocity needs 752 prices. A day borrows them from the "
            "day before; where there is none, vel_div is empty and nothing can be entered until the windows are "
            "full."
        ),
    ),
    (
        "Gaps.",
        (
            "A hole in time longer than ten bars restarts every window. A shorter one is spanned by a single "
            "return. No price is ever filled in."
        ),
    ),
    (
        "Cheap coins.",
        (
            "Asset selection judges absolute price differences unless told otherwise, so its noise term hardly "
            "touches coins of a few cents and weighs on dear ones."
        ),
    ),
)
"""What a reader should know of the signal before believing a replay of it: a heading and its text."""

REPLAYED = (
    "No fill is proven.",
    (
        "Every order is taken as filled at its bar's price. There is no queue, no market impact and no "
        "partial fill, no margin call and no liquidation."
    ),
)
TRADED = (
    "No fill is proven.",
    (
        "NautilusTrader filled every order in a market that knows closes only: spread and slippage are assumed, "
        "between two bars the price goes straight, whatever is asked for is there, and nobody is liquidated."
    ),
)
CLAIMS = (
    (
        "Past prices, chosen afterwards.",
        "An archive holds the assets somebody chose to keep. Those that were delisted are seldom among them.",
    ),
    (
        "Not the documents' figures.",
        (
            "The system's founding documents quote results on a private set of data. This page neither repeats "
            "nor confirms them; it speaks for the data named below and for nothing else."
        ),
    ),
    ("Not a forecast.", "It is what one fixed set of rules would have recorded, and no advice to anyone."),
)
"""What this page does not claim, beside what `run_claims` says of the run."""

MODELLED = (
    "Friction is modelled.",
    (
        "Fees assume fixed shares of maker fills and exits slip by a fixed 2 or 5 basis points. The modelled "
        "edge is a seeded random draw or a function of a recorded book: an assumption about good fills, never "
        "money received."
    ),
)
UNMODELLED = (
    "No friction at all.",
    "This run was asked to ignore fees, slippage and edge. What it earned, nobody could have earned.",
)
CHARGED = (
    "Friction is the venue's.",
    (
        "Fees are those of its table, on every fill. Spread, slippage and latency are as this run was told; what they "
        "cost stands in the bridge. The engine's own model of friction is off."
    ),
)
NO_FUNDING = (
    "No funding.",
    "Perpetuals charge or pay funding every few hours. No funding history enters this run, and its column is zero.",
)

_FRICTION = {"none": UNMODELLED, "native": CHARGED}


def run_claims(friction: object) -> tuple[tuple[str, str], tuple[str, str]]:
    """What to say of friction and of fills, given the run's friction."""
    return _FRICTION.get(str(friction), MODELLED), TRADED if friction == "native" else REPLAYED
