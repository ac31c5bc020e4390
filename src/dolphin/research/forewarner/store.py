"""Finished trials on disk, so that a long training can be stopped and continued (SPEC §1.4, §11).

The store is a folder beside the model: `store.json` says what is being trained, and each `part_NNNNN.parquet` holds a
run of finished trials. Parts are whole or absent; a trial is the same whoever computes it, so a part is never wrong,
only missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dolphin.core.errors import DataError
from dolphin.market.atomic import atomic_path, write_json_atomic
from dolphin.research.forewarner.design import Trial
from dolphin.research.forewarner.trials import Outcome

PART = 50
"""Trials per part: a few tenths of a second of work, which is what an interruption loses."""

STORE = "store.json"
SCHEMA = pa.schema(
    [("trial", pa.int64()), ("roi", pa.float64()), ("max_drawdown", pa.float64()), ("trades", pa.int64())]
)


def store_of(out: Path) -> Path:
    """The folder that holds the trials of the model `out` while it is being trained."""
    named = out if out.name not in ("", "..") else out.resolve()
    return named.with_name(f"{named.name}.trials")


class TrialStore:
    """The finished trials of one training, described by `identity` (plain values)."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self._identity = identity

    def check(self, *, force: bool) -> None:
        """Raise DataError when what is there belongs to another training, unless `force` is to discard it, or is no
        store at all."""
        if self.folder.exists() and not self._is_mine():
            raise DataError(f"{self.folder}: is no store of trials; it is in the way, move it or change --out")
        difference = self._difference()
        if difference and not force:
            raise DataError(
                f"{self.folder}: holds trials of another training ({difference}); give the same options to "
                "continue it, or --force to discard it"
            )

    def open(self, *, force: bool) -> None:
        """Make the store, or continue the one that is there; raises DataError as `check` does, or when it cannot be
        written."""
        self.check(force=force)
        try:
            if self._difference():
                self.remove()
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / STORE).exists():
                write_json_atomic(self.folder / STORE, self._identity)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror}); choose another --out") from None

    def finished(self, trials: Sequence[Trial]) -> dict[int, Outcome]:
        """The outcomes that are already there, by trial number; a part that cannot be read counts as missing."""
        found: dict[int, Outcome] = {}
        for path in sorted(self.folder.glob("part_*.parquet")):
            try:
                with pq.ParquetFile(path) as file:
                    table = file.read()
            except (OSError, pa.ArrowException):
                continue
            for row in table.to_pylist() if table.schema.equals(SCHEMA) else ():
                found[row["trial"]] = Outcome(row["trial"], row["roi"], row["max_drawdown"], row["trades"])
        return {trial.number: found[trial.number] for trial in trials if trial.number in found}

    def complete(
        self,
        trials: Sequence[Trial],
        compute: Callable[[Sequence[Trial]], Iterator[Outcome]],
        advance: Callable[[int], None] | None = None,
    ) -> list[Outcome]:
        """The outcomes of all `trials` in order: what is there is read, the rest computed and kept part by part."""
        known = self.finished(trials)
        tell = advance or (lambda _n: None)
        tell(len(known))
        missing = [trial for trial in trials if trial.number not in known]
        held: list[Outcome] = []
        try:
            for outcome in compute(missing):
                held.append(outcome)
                tell(1)
                if len(held) == PART:
                    self._write(held)
                    known |= {done.number: done for done in held}
                    held = []
        finally:  # an interruption keeps what is finished
            if held:
                self._write(held)
        known |= {done.number: done for done in held}
        return [known[trial.number] for trial in trials]

    def remove(self) -> None:
        """Take the store away, its own files and then the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, outcomes: Sequence[Outcome]) -> None:
        columns = {
            "trial": [o.number for o in outcomes],
            "roi": [o.roi for o in outcomes],
            "max_drawdown": [o.max_drawdown for o in outcomes],
            "trades": [o.trades for o in outcomes],
        }
        with atomic_path(self.folder / f"part_{outcomes[0].number:07d}.parquet") as temp:
            pq.write_table(pa.table(columns, schema=SCHEMA), temp)

    def _is_mine(self) -> bool:
        return self.folder.is_dir() and all(
            path.name == STORE or path.name.startswith(("part_", ".")) for path in self.folder.iterdir()
        )

    def _difference(self) -> str | None:
        """The first entry in which the store's training differs from this one, in words; None when it is the same, or
        there is none."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return None
        try:
            held = json.loads((self.folder / STORE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return f"{STORE} cannot be read"
        if not isinstance(held, dict):
            return f"{STORE} holds no object"
        # Through text and back, so that both sides have passed the same door.
        for name, value in json.loads(json.dumps(self._identity)).items():
            if held.get(name) != value:
                small = not isinstance(value, (dict, list))
                return f"{name} {held.get(name)}, now {value}" if small else f"another {name}"
        return None
