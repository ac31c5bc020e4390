"""Reading back what the service writes into its cache folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dolphin.core.errors import DataError


def read_cache_file[T](path: Path, kind: type[T], what: str) -> T:
    """The value of type `kind` that `path` holds. Raises DataError, in one line, for one that is missing, or is not
    `what` it should be: it is refused whole."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); start `dolphin obf run` with that folder"
        ) from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise DataError(f"{path}: not the {what} ({' '.join(str(error).split())})") from None
