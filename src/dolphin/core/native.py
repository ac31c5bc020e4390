"""Compiled entry points kept as machine code, so that a fresh process runs them without importing the compiler.

Importing Numba and reviving its cache costs more than a second; a day of bars costs a tenth of one. An `Entry` wraps
one kernel that Python calls with one fixed list of argument types. The first call ever compiles it and writes the
object code, with everything it calls, beside the kernel cache. Later processes load that file through LLVM's linker
and call it.

Safety: the file is keyed by kernel sources, Numba's version and the processor, and carries its own checksum;
arguments are checked against the compiled types at every call, and a mismatch is an error, never a guess."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dolphin.core.errors import DolphinError
from dolphin.core.jit import CACHE_DIR, DISABLED, OPTIONS, Kernel

_engines: list[Any] = []  # LLVM frees the code with its engine


@functools.lru_cache(maxsize=256)
def _layout(dtype: np.dtype[Any]) -> str:
    """Names, types and offsets of a dtype, as text; spelling out a record's takes longer than stepping a bar."""
    return str(dtype.descr) if dtype.names else dtype.str


class Flat:
    """An argument, or a tuple of them, taken apart once: what the machine code receives, and the types it was made of.

    Holds a reference to the arrays. They may change their contents but not their place or shape.
    """

    __slots__ = ("keep", "kinds", "raw", "types")

    def __init__(self, *args: Any) -> None:
        self.keep = args
        types: list[str] = []
        kinds: list[str] = []
        values: list[int | float] = []
        for arg in args:
            self._take(arg, types, kinds, values)
        self.types = tuple(types)
        self.kinds = "".join(kinds)
        """One letter a value: q for a whole number or an address, d for a float."""
        self.raw = struct.pack(f"={self.kinds}", *values)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy takes its own arrays apart: addresses are worth nothing elsewhere, and harm in a copied owner."""
        return Flat, self.keep

    def _take(self, arg: Any, types: list[str], kinds: list[str], values: list[int | float]) -> None:
        if isinstance(arg, np.ndarray):
            if not arg.flags.c_contiguous or not arg.flags.aligned:
                raise DolphinError(f"native call: an array of shape {arg.shape} is not contiguous")
            # Numba's array: owner, parent, items, bytes each, data, then shape and strides.
            values += (0, 0, arg.size, arg.itemsize, arg.ctypes.data, *arg.shape, *arg.strides)
            kinds.append("q" * (5 + 2 * arg.ndim))
            types.append(f"{arg.ndim}:{_layout(arg.dtype)}")
        elif isinstance(arg, np.void):
            values.append(arg.__array_interface__["data"][0])
            kinds.append("q")
            types.append(f"record:{_layout(arg.dtype)}")
        elif isinstance(arg, tuple):
            for part in arg:
                self._take(part, types, kinds, values)
        elif isinstance(arg, int):
            values.append(arg)
            kinds.append("q")
            types.append("int")
        elif isinstance(arg, float):
            values.append(arg)
            kinds.append("d")
            types.append("float")
        else:
            raise DolphinError(f"native call: {type(arg).__name__} cannot be passed")


class _Head(msgspec.Struct, frozen=True):
    symbol: str
    undefined: list[str]
    types: str
    checksum: str


class Entry:
    """One kernel, `fn(...) -> int`, called from Python with arguments of always the same types.

    Raises DolphinError when called with other types than the first time, or when the machine code reports a failure.
    """

    def __init__(self, fn: Callable[..., int]) -> None:
        self._fn = fn
        self.name = fn.__name__
        self._native: Any = None
        self._types: tuple[str, ...] = ()
        self._parts: tuple[tuple[str, ...], ...] = ()

    def is_ready(self) -> bool:
        """Whether the machine code is in memory or on disk: the next call will not compile."""
        return DISABLED or self._native is not None or self._path().exists()

    def __call__(self, *args: Any) -> int:
        """Run the kernel; an argument may be a `Flat` of several taken apart beforehand."""
        if DISABLED:
            return self._fn(*_joined(args))
        parts = [arg if isinstance(arg, Flat) else Flat(arg) for arg in args]
        self._check(args, parts)
        return self._run(b"".join([part.raw for part in parts]))

    def prepared(self, leading: int, *args: Any) -> Callable[..., int]:
        """The kernel with all arguments but the first `leading` whole numbers taken apart once: a call of it costs a
        few of them, not all."""
        if DISABLED:
            rest = _joined(args)
            return lambda *first: self._fn(*first, *rest)
        parts = [Flat(0) for _ in range(leading)] + [arg if isinstance(arg, Flat) else Flat(arg) for arg in args]
        self._check([*[0] * leading, *args], parts)
        values = b"".join([part.raw for part in parts])
        block = ctypes.create_string_buffer(values, len(values))
        place, native, result = struct.Struct(f"={leading}q").pack_into, self._native, ctypes.c_int64(0)
        where = ctypes.byref(result)

        def call(*first: int) -> int:
            place(block, 0, *first)
            status = native(block, where)
            if status != 0:
                raise DolphinError(f"native call: {self.name} failed with status {status}")
            return result.value

        call.__dict__["arguments"] = parts  # their arrays must outlive the addresses in the block
        return call

    def _check(self, args: Sequence[Any], parts: Sequence[Flat]) -> None:
        met = tuple([part.types for part in parts])
        if met == self._parts and self._native is not None:
            return
        types = tuple(kind for part in met for kind in part)
        if self._native is None:
            self._prepare(_joined(args), types, "".join(part.kinds for part in parts))
        if types != self._types:
            raise DolphinError(f"native call: {self.name} was compiled for other argument types")
        self._parts = met

    def _run(self, block: Any) -> int:
        result = ctypes.c_int64(0)
        status = self._native(block, ctypes.byref(result))
        if status != 0:
            raise DolphinError(f"native call: {self.name} failed with status {status}")
        return result.value

    def _path(self) -> Path:
        import llvmlite.binding as llvm

        cpu = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
        return CACHE_DIR / f"native-{self.name}-{_digest([cpu])}.bin"

    def _prepare(self, args: Sequence[Any], types: tuple[str, ...], kinds: str) -> None:
        path = self._path()
        found = _read(path)
        if found is None or found[0].types != _digest(types):
            found = self._build(args, _digest(types))
            _write(path, *found)
        head, code = found
        address = _bridge(_link(head, code), kinds)
        self._native = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)(address)
        self._types = types

    def _build(self, args: Sequence[Any], types: str) -> tuple[_Head, bytes]:
        numba: Any = importlib.import_module("numba")
        source = self._fn.py_func if isinstance(self._fn, Kernel) else self._fn
        dispatcher = numba.njit(**OPTIONS)(source)
        signature = tuple(numba.typeof(arg) for arg in args)
        dispatcher.compile(signature)
        compiled = dispatcher.overloads[signature]
        if compiled.signature.return_type != numba.int64:
            raise DolphinError(f"native call: {self.name} returns {compiled.signature.return_type}, expected int64")
        code = bytes(compiled.library._get_compiled_object())
        symbol = compiled.fndesc.llvm_func_name
        helpers = sorted({name for name in _words(code) if name.startswith("numba_")})
        return _Head(symbol, helpers, types, hashlib.blake2b(code, digest_size=16).hexdigest()), code


def _words(code: bytes) -> list[str]:
    """The names in an object file's string table: enough to find the symbols that only Numba could resolve."""
    return [word.decode("ascii", "ignore") for word in code.split(b"\0") if word.startswith(b"numba_")]


def _joined(args: Sequence[Any]) -> list[Any]:
    return [part for arg in args for part in (arg.keep if isinstance(arg, Flat) else (arg,))]


def _digest(words: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=8).hexdigest()


def _link(head: _Head, code: bytes) -> int:
    """Load object code and give the entry's address.

    The object also holds Numba's wrapper for calls from Python, whose helpers are absent here; it is never called, so
    they are bound to `abort`."""
    import llvmlite.binding as llvm

    abort = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    for name in head.undefined:
        if llvm.address_of_symbol(name) is None:
            llvm.add_symbol(name, abort)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address = int(engine.get_function_address(head.symbol))
    if address == 0:
        raise DolphinError(f"native call: {head.symbol[:60]} is not in its object file; remove {CACHE_DIR}")
    return address


def _bridge(target: int, kinds: str) -> int:
    """The address of a function that unpacks one block of values and calls `target` with all of them.

    An entry takes hundreds of arguments, since an array is seven of them; handing them over one by one from Python
    takes longer than a bar."""
    import llvmlite.binding as llvm
    from llvmlite import ir

    word, real, module = ir.IntType(64), ir.DoubleType(), ir.Module()
    given = [word if kind == "q" else real for kind in kinds]
    called = ir.FunctionType(ir.IntType(32), [word.as_pointer(), word.as_pointer(), *given])
    outer = ir.FunctionType(ir.IntType(32), [word.as_pointer(), word.as_pointer()])
    function = ir.Function(module, outer, "bridge")
    block, result = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    values = []
    for k, kind in enumerate(given):
        place = builder.gep(block, [ir.Constant(word, k)])
        values.append(builder.load(place if kind is word else builder.bitcast(place, real.as_pointer())))
    failure = builder.alloca(word)
    entry = builder.inttoptr(ir.Constant(word, target), called.as_pointer())
    builder.ret(builder.call(entry, [result, failure, *values]))
    machine = llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address("bridge"))


def _read(path: Path) -> tuple[_Head, bytes] | None:
    """Head and code of a stored entry; None when there is none or it is torn."""
    try:
        raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        head, code = msgspec.json.decode(raw[8 : 8 + size], type=_Head), raw[8 + size :]
    except (OSError, msgspec.MsgspecError, OverflowError):
        return None
    return (head, code) if hashlib.blake2b(code, digest_size=16).hexdigest() == head.checksum else None


def _write(path: Path, head: _Head, code: bytes) -> None:
    """Store an entry whole; a cache that cannot be written only costs the next process its time."""
    packed = msgspec.json.encode(head)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".native-")
        with os.fdopen(handle, "wb") as file:
            file.write(len(packed).to_bytes(8, "little") + packed + code)
        Path(temporary).replace(path)
    except OSError:
        return
