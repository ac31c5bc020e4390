"""Eight float64 at a time, spelled out: what the hottest loops use where the compiler's own vectors fall short.

A loop over arrays is only vectorised after tests, at every entry, that they do not overlap; and products and sums are
fused or reordered at the compiler's will or not at all. These primitives load, multiply-add and store eight lanes as
written: the same bits on every processor, in the widest registers it has. Arrays must be C-contiguous float64 and hold
eight values from the index on (pad them to `LANES`): nothing is checked.

In Python (JIT off) a group is a float64 (8,) array, and `fused_nb` rounds twice where the processor rounds once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dolphin.core.jit import DISABLED

F8 = NDArray[np.float64]
LANES = 8


def padded(n: int) -> int:
    """The smallest multiple of `LANES` that is at least n."""
    return -(-n // LANES) * LANES


class _Primitive:
    """A function that kernels call and that Numba compiles to the intrinsic of the same name in `lanes_native`."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self.__name__ = fn.__name__
        self.__doc__ = fn.__doc__

    @property
    def _numba_type_(self) -> Any:
        from dolphin.core import lanes_native

        return lanes_native.function_type(self.__name__)

    def __call__(self, *args: Any) -> Any:
        return self._fn(*args)


def _primitive[F: Callable[..., Any]](fn: F) -> F:
    return fn if DISABLED else cast(F, _Primitive(fn))


@_primitive
def load_nb(a: F8, i: int) -> F8:
    """Lanes a[i … i+7]."""
    return a[i : i + LANES].copy()


@_primitive
def load_row_nb(a: F8, j: int, i: int) -> F8:
    """Lanes a[j, i … i+7]."""
    return a[j, i : i + LANES].copy()


@_primitive
def store_nb(a: F8, i: int, lanes: F8) -> None:
    """a[i … i+7] = lanes."""
    a[i : i + LANES] = lanes


@_primitive
def store_row_nb(a: F8, j: int, i: int, lanes: F8) -> None:
    """a[j, i … i+7] = lanes."""
    a[j, i : i + LANES] = lanes


@_primitive
def spread_nb(x: float) -> F8:
    """Eight lanes of x."""
    return np.full(LANES, x)


@_primitive
def fused_nb(x: F8, y: F8, z: F8) -> F8:
    """x·y + z, lane by lane, rounded once."""
    return x * y + z


@_primitive
def times_nb(x: F8, y: F8) -> F8:
    """x·y, lane by lane."""
    return x * y


@_primitive
def plus_nb(x: F8, y: F8) -> F8:
    """x + y, lane by lane."""
    return x + y


@_primitive
def total_nb(x: F8) -> float:
    """The sum of the lanes, in one fixed order."""
    return float(((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])))
