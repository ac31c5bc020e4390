"""NautilusTrader: the one room that knows its types (SPEC §13). What other rooms see of a run is plain arrays."""

from __future__ import annotations

from importlib.util import find_spec

from dolphin.core.errors import ConfigError


def require_nautilus() -> None:
    """Raise ConfigError when NautilusTrader is not installed; it is an extra, for it is large."""
    if find_spec("nautilus_trader") is None or find_spec("pandas") is None:
        raise ConfigError(
            "NautilusTrader is not installed; install the extra: 'make setup-nautilus' in a checkout, or "
            "pip install 'dolphin-nautilus[nautilus]'"
        )
