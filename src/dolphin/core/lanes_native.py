"""What `core.lanes` compiles to: LLVM's own eight-lane vectors, as Numba intrinsics. Imported only to compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.registry import cpu_target
from numba.extending import intrinsic, register_model

from dolphin.core.lanes import LANES

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_WORD = 8
"""Bytes of alignment that are promised: those of one float64."""


class _LanesType(types.Type):
    """Eight float64 in one register."""


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]  # Numba's is not annotated


_lanes = _LanesType(name=f"Lanes{LANES}")
_Emit = Callable[..., Any]


def _place(context: Any, builder: Any, kind: Any, array: Any, index: tuple[Any, ...]) -> Any:
    """The address of eight values in a C-contiguous array, without wrapping round and without a test."""
    parts = context.make_array(kind)(context, builder, value=array)
    at = index[-1]
    if kind.ndim == 2:
        columns = builder.extract_value(parts.shape, 1)
        at = builder.add(builder.mul(index[0], columns, flags=("nsw",)), at, flags=("nsw",))
    return builder.bitcast(builder.gep(parts.data, [at], inbounds=True), _VECTOR.as_pointer())


def _load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    value = builder.load(_place(context, builder, signature.args[0], args[0], args[1:]))
    value.align = _WORD
    return value


def _store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    stored = builder.store(args[-1], _place(context, builder, signature.args[0], args[0], args[1:-1]))
    stored.align = _WORD
    return context.get_dummy_value()


def _spread(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    del context, signature
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], _index(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), order)


def _fused(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    del context, signature
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = f"llvm.fma.v{LANES}f64"
    known = builder.module.globals.get(name)
    return builder.call(known or ir.Function(builder.module, kind, name), args)


def _total(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    del context, signature
    x = [builder.extract_element(args[0], _index(k)) for k in range(LANES)]
    even = builder.fadd(builder.fadd(x[0], x[4]), builder.fadd(x[2], x[6]))
    odd = builder.fadd(builder.fadd(x[1], x[5]), builder.fadd(x[3], x[7]))
    return builder.fadd(even, odd)


def _index(k: int) -> Any:
    return ir.Constant(ir.IntType(32), k)


# Numba calls what follows with the types of the arguments, to learn the type of the result and how to emit the code.


@intrinsic
def _load_one(_context: Any, a: Any, i: Any) -> Any:
    return _lanes(a, types.intp), _load


@intrinsic
def _load_row(_context: Any, a: Any, j: Any, i: Any) -> Any:
    return _lanes(a, types.intp, types.intp), _load


@intrinsic
def _store_one(_context: Any, a: Any, i: Any, lanes: Any) -> Any:
    return types.none(a, types.intp, _lanes), _store


@intrinsic
def _store_row(_context: Any, a: Any, j: Any, i: Any, lanes: Any) -> Any:
    return types.none(a, types.intp, types.intp, _lanes), _store


@intrinsic
def _spread_one(_context: Any, x: Any) -> Any:
    return _lanes(types.float64), _spread


@intrinsic
def _fused_three(_context: Any, x: Any, y: Any, z: Any) -> Any:
    return _lanes(_lanes, _lanes, _lanes), _fused


@intrinsic
def _times_two(_context: Any, x: Any, y: Any) -> Any:
    return _lanes(_lanes, _lanes), lambda _context, builder, _signature, args: builder.fmul(*args)


@intrinsic
def _plus_two(_context: Any, x: Any, y: Any) -> Any:
    return _lanes(_lanes, _lanes), lambda _context, builder, _signature, args: builder.fadd(*args)


@intrinsic
def _total_one(_context: Any, x: Any) -> Any:
    return types.float64(_lanes), _total


_INTRINSICS = {
    "load_nb": _load_one,
    "load_row_nb": _load_row,
    "store_nb": _store_one,
    "store_row_nb": _store_row,
    "spread_nb": _spread_one,
    "fused_nb": _fused_three,
    "times_nb": _times_two,
    "plus_nb": _plus_two,
    "total_nb": _total_one,
}


def function_type(name: str) -> Any:
    """Numba's type of the primitive `name` of `core.lanes`."""
    context = cpu_target.typing_context
    context.refresh()  # Numba looks for new intrinsics only when asked to
    return context.resolve_value_type(_INTRINSICS[name])
