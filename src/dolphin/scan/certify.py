"""A certificate for one largest eigenvalue: 512-bit ball arithmetic, from the raw prices (SPEC §2).

A ball is a number with a proven error bound, so what comes out is an interval that holds the true eigenvalue for the
prices exactly as they stand in float64. It judges float64 results on demand; nothing trades on it.

How the interval is proven. For any vector x, the Rayleigh quotient θ = xᵀCx/xᵀx never exceeds λ. For the other side, V,
the float64 eigenvectors, turns C − yI into Vᵀ(C − yI)V, which is almost diagonal; where every row's diagonal entry
outweighs the rest of its row, Sylvester's law makes the signs on the diagonal those of the eigenvalues of C − yI. One
eigenvalue above y, and all others below, gives Temple's bound λ ≤ θ + ‖Cx − θx‖²/(θ − y) (x of unit length), which an x
refined to 512 bits makes as sharp as the arithmetic. Where the two largest are too close for such a y, the bound is a y
just above θ with no eigenvalue above it. Neither step trusts float64: a poor V or x proves less, never something false.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import DataError, DolphinError

F8 = NDArray[np.float64]

BITS = 512
"""Precision of every midpoint, bits."""

DIGITS = 40
"""Decimal digits of an interval's written ends."""

REL_TOL = 1e-9
"""What float64 results are held against (SPEC §2)."""

_REFINEMENTS = 60


@dataclass(frozen=True)
class Certificate:
    """A proven interval for λ, the largest eigenvalue of one window's correlation matrix.

    `lower` ≤ λ ≤ `upper` as float64 and, tighter, as decimals `lower_text` and `upper_text`, all rounded outwards;
    `value_mid` is the float64 nearest to the interval's middle, `radius` a float64 no less than half its width.
    `members` counts the assets in the window; `bits` is the precision that was used.
    """

    value_mid: float
    radius: float
    lower: float
    upper: float
    lower_text: str
    upper_text: str
    members: int
    bits: int


def certify_largest(prices_window: F8, bits: int = BITS) -> Certificate:
    """Prove an interval for the largest eigenvalue of the correlation matrix of W log returns.

    `prices_window`: float64 (W + 1, N) closes, W ≥ 2, oldest first; a missing one is NaN, ≤ 0 or infinite. Assets are
    left out as the scanner does, see `window_members`; returns are taken in ball arithmetic from the exact prices.

    Raises DataError when the window has no member or is no such matrix; DolphinError if no proof is found. About a
    fifth of a second for 50 assets and 750 bars. The precision of the ball library is set back to what it was.
    """
    prices = np.asarray(prices_window, np.float64)
    if prices.ndim != 2 or prices.shape[0] < 3:
        raise DataError(f"certificate: prices of shape {prices.shape}; expected (W + 1, N), W at least 2")
    inside = window_members(prices)
    if not inside:
        raise DataError(
            f"certificate: none of {prices.shape[1]} assets has {prices.shape[0]} valid prices that move; "
            "choose a bar whose window is full"
        )
    from flint import ctx

    with ctx.workprec(bits):
        lower, upper = _enclose(_correlation(prices[:, inside]), len(inside), bits)
        return _certificate(lower, upper, len(inside), bits)


def window_members(prices: F8) -> list[int]:
    """Columns of (W + 1, N) closes that take part: every price finite and > 0, log returns not all equal in float64."""
    valid = np.isfinite(prices).all(axis=0) & (prices > 0.0).all(axis=0)
    return [int(i) for i in np.flatnonzero(valid) if _moves(prices[:, i])]


def relative_distance(float_value: float, certificate: Certificate) -> float:
    """The most that `float_value` can be from λ, relative to λ; inf when it is not finite."""
    if not math.isfinite(float_value):
        return math.inf
    return max(abs(float_value - certificate.lower), abs(float_value - certificate.upper)) / certificate.lower


def check(float_value: float, certificate: Certificate, rel_tol: float = REL_TOL) -> bool:
    """Whether `float_value` is proven to lie within `rel_tol` of λ, relative to λ."""
    return relative_distance(float_value, certificate) <= rel_tol


def _moves(column: F8) -> bool:
    """Whether an asset's log returns differ; decided in float64, where the scanner decides it."""
    returns = (_log_return(before, after) for before, after in itertools.pairwise(column.tolist()))
    first = next(returns)
    return any(later != first for later in returns)


def _log_return(before: float, after: float) -> float:
    ratio = after / before
    return math.log(ratio) if 0.0 < ratio < math.inf else math.log(after) - math.log(before)


def _correlation(prices: F8) -> Any:
    """(N, N) matrix of balls: correlations of the log returns of (W + 1, N) prices, every float entering exactly."""
    from flint import arb, arb_mat

    rows, n = prices.shape[0] - 1, prices.shape[1]
    logs = [arb(p).log() for p in prices.ravel().tolist()]
    returns = arb_mat(rows, n, [after - before for before, after in zip(logs, logs[n:], strict=False)])
    sums = arb_mat(1, rows, [1] * rows) * returns
    products = returns.transpose() * returns - sums.transpose() * sums / rows
    scale = [products[i, i].rsqrt() for i in range(n)]
    entries = [arb(1) if i == j else products[i, j] * scale[i] * scale[j] for i in range(n) for j in range(n)]
    if not all(entry.is_finite() for entry in entries):
        raise DolphinError("certificate: an asset's variance cannot be told from zero; raise the precision")
    return arb_mat(n, n, entries)


def _enclose(matrix: Any, n: int, bits: int) -> tuple[Any, Any]:
    """Exact balls (lower, upper) around the largest eigenvalue of `matrix` (n, n)."""
    from flint import arb, arb_mat

    values, vectors = np.linalg.eigh(_floats(matrix, n))
    basis = arb_mat(n, n, vectors.ravel().tolist())
    turned = basis.transpose() * matrix * basis
    metric = basis.transpose() * basis
    others_end = 0.5 * float(values[-1] + values[-2]) if n > 1 else 0.5
    x = arb_mat(n, 1, vectors[:, -1].tolist())
    apart = _count_above(turned, metric, n, arb(others_end)) == 1
    if apart:
        x = _refine(matrix, basis, values, x, bits)
    theta, residual2 = _rayleigh(matrix, x)
    if apart and theta > others_end:
        return theta.lower(), (theta + residual2 / (theta - others_end)).upper()
    for exponent in range(-50, -19):
        above = theta.upper() * (1 + arb(2) ** exponent)
        if _count_above(turned, metric, n, above) == 0:
            return theta.lower(), above.upper()
    raise DolphinError("certificate: no bound could be proven within 1e-6; raise the precision")


def _count_above(turned: Any, metric: Any, n: int, x: Any) -> int | None:
    """How many eigenvalues exceed x, proven by the signs of an almost diagonal congruence; None when it is not."""
    count = 0
    for i in range(n):
        row = [x * metric[i, j] - turned[i, j] for j in range(n)]
        rest = sum((abs(row[j]) for j in range(n) if j != i), 0 * x)
        if not abs(row[i]) > rest:
            return None
        count += bool(row[i] < 0)
    return count


def _rayleigh(matrix: Any, x: Any) -> tuple[Any, Any]:
    """Balls around θ = xᵀCx/xᵀx and ‖Cx − θx‖²/‖x‖² for an exact x (n, 1)."""
    image, size2 = matrix * x, (x.transpose() * x)[0, 0]
    theta = (x.transpose() * image)[0, 0] / size2
    residual = image - x * theta
    return theta, (residual.transpose() * residual)[0, 0] / size2


def _refine(matrix: Any, basis: Any, values: F8, x: Any, bits: int) -> Any:
    """Sharpen the eigenvector x (n, 1) with corrections solved in float64's eigenbasis: some 14 digits a step.

    Nothing is proven here, so radii are dropped; the result is exact, whatever its quality.
    """
    from flint import arb, arb_mat

    n = len(values)
    matrix, turn = matrix.mid(), basis.transpose()
    enough = arb(2) ** (40 - 2 * bits)
    best, least = x, None
    for _ in range(_REFINEMENTS):
        theta, residual2 = (ball.mid() for ball in _rayleigh(matrix, x))
        if least is not None and not residual2 < least:
            break
        best, least = x, residual2
        if residual2 < enough:
            break
        parts = turn * (matrix * x - x * theta)
        steps = [parts[k, 0] / (theta - float(values[k])) if k < n - 1 else arb(0) for k in range(n)]
        x = (x + basis * arb_mat(n, 1, steps)).mid()
    return best


def _floats(matrix: Any, n: int) -> F8:
    return np.array([float(entry.mid()) for entry in matrix.entries()]).reshape(n, n)


def _certificate(lower: Any, upper: Any, members: int, bits: int) -> Certificate:
    low, high = _fraction(lower), _fraction(upper)
    return Certificate(
        value_mid=float((low + high) / 2),
        radius=_rounded((high - low) / 2, up=True),
        lower=_rounded(low, up=False),
        upper=_rounded(high, up=True),
        lower_text=_decimal(low, up=False),
        upper_text=_decimal(high, up=True),
        members=members,
        bits=bits,
    )


def _fraction(exact: Any) -> Fraction:
    mantissa, exponent = (int(part) for part in exact.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent


def _rounded(value: Fraction, *, up: bool) -> float:
    """The float64 next to `value` on the side asked for."""
    nearest = float(value)
    wrong = nearest < value if up else nearest > value
    return math.nextafter(nearest, math.inf if up else -math.inf) if wrong else nearest


def _decimal(value: Fraction, *, up: bool) -> str:
    context = Context(prec=DIGITS, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return str(context.divide(Decimal(value.numerator), Decimal(value.denominator)))
