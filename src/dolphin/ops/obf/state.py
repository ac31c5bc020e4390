"""What the service remembers over a restart, in one sealed file; and a book's memory moved to other assets (SPEC §8,
§10, §15)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from dolphin.book.layout import new_book_state
from dolphin.book.saved import pack, unpack
from dolphin.core import sealed
from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError
from dolphin.market.atomic import atomic_path
from dolphin.ops.obf.settings import ObfSettings

STATE_NAME = "obf_state.bin"
VERSION = 1


class Cat3(msgspec.Struct, frozen=True, kw_only=True):
    """What the survival stack's Cat3 is made of: medians over assets with a usable book, None without one."""

    book_stale: bool
    depth_quality: float | None
    fill_probability: float | None


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The state at `saved_ns`; `engine` is what `OBFeatureEngine.snapshot` gave."""

    saved_ns: int
    cadence_ns: int
    cat3: Cat3
    engine: bytes


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    saved_ns: int
    cadence_ns: int
    cat3: Cat3


def write_state(folder: Path, saved: Saved) -> None:
    """Write `obf_state.bin` of `folder`, whole or not at all. Raises OSError."""
    head = _Head(version=VERSION, saved_ns=saved.saved_ns, cadence_ns=saved.cadence_ns, cat3=saved.cat3)
    with atomic_path(folder / STATE_NAME) as temp:
        temp.write_bytes(sealed.pack(head, (saved.engine,)))


def read_state(folder: Path, now_ns: int, settings: ObfSettings) -> tuple[Saved | None, str]:
    """The state to go on from and "", or None and one line that says why there is none to go on from.

    One that is torn, of another cadence (its bars would be of another length), older than `keep_s` or from the future
    is none: the service then starts with empty books, as it did on its first day.
    """
    path = folder / STATE_NAME
    try:
        value = path.read_bytes()
        packed, engine = sealed.unpack(value, "obf", "start with empty books")
        head = msgspec.json.decode(packed, type=_Head)
        unpack(bytes(engine))
    except FileNotFoundError:
        return None, f"{path}: there is none; starting with empty books"
    except (OSError, ConfigError, msgspec.MsgspecError) as error:
        return None, f"{path}: not readable ({error}); starting with empty books"
    age_s = (now_ns - head.saved_ns) / NS_PER_S
    if head.version != VERSION or head.cadence_ns != settings.cadence_ns:
        return None, f"{path}: of version {head.version} and a beat of {head.cadence_ns} ns; starting with empty books"
    if not -settings.max_age_s <= age_s <= settings.keep_s:
        return None, f"{path}: {age_s:.0f} s old; expected up to {settings.keep_s:g}; starting with empty books"
    return Saved(saved_ns=head.saved_ns, cadence_ns=head.cadence_ns, cat3=head.cat3, engine=bytes(engine)), ""


def moved(engine: bytes, assets: Sequence[str], max_stale_bars: int, max_age_s: float) -> tuple[bytes, list[int]]:
    """A book's snapshot with the columns `assets`, and each asset's dark streak: who was in it keeps all that is
    remembered, who is new has seen nothing, who is not named is dropped. The limits are those given."""
    head, old = unpack(engine)
    new = new_book_state(len(assets))
    column = {asset: k for k, asset in enumerate(head.assets)}
    pairs = [(column[asset], k) for k, asset in enumerate(assets) if asset in column]
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    new.core[...], new.market[...] = old.core, old.market
    for name in ("assets", "imbalances", "depths", "features"):
        getattr(new, name)[after] = getattr(old, name)[before]
    new.bar_depths[:, after] = old.bar_depths[:, before]
    where = msgspec.structs.replace(
        head, assets=tuple(assets), max_stale_bars=max_stale_bars, max_age_s=float(max_age_s)
    )
    return pack(where, new), np.asarray(new.assets["dark"]).tolist()
