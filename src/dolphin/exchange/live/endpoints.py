"""Where a venue is, and which of its routes carries a stream (SPEC §8).

Nothing here knows an address: whoever wants a venue names it, and one that is not on this machine must be allowed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from dolphin.core.errors import ConfigError

PUBLIC, MARKET = "public", "market"
_PUBLIC_WORDS = ("depth", "bookTicker")


@dataclass(frozen=True)
class Endpoints:
    """Bases of REST (`http://`, `https://`) and streams (`ws://`, `wss://`), without a path behind the host, or with
    one.

    `routed`: streams lie under the venue's routes `/public` and `/market`; else all of them under the root. Raises
    ConfigError for an address that is none, and for one beyond this machine unless `allow_remote`.
    """

    rest: str
    ws: str
    routed: bool = True
    allow_remote: bool = False

    def __post_init__(self) -> None:
        """Check both bases, and take the slash off their ends."""
        for name, schemes in (("rest", ("http", "https")), ("ws", ("ws", "wss"))):
            base = getattr(self, name)
            object.__setattr__(self, name, base.rstrip("/"))
            host = _host(base, name, schemes)
            if not self.allow_remote and not _is_loopback(host):
                raise ConfigError(
                    f"{name} address {base!r}: {host} is not this machine; expected a loopback address; "
                    "other machines must be allowed explicitly"
                )

    def url(self, path: str) -> str:
        """A REST address, such as that of `/fapi/v1/time`."""
        return self.rest + path

    def socket_url(self, route: str) -> str:
        """Where combined streams of `route` are subscribed by message."""
        return f"{self.ws}/{route}/stream" if self.routed else f"{self.ws}/stream"


def route_of(stream: str) -> str:
    """The route that carries a stream: `public` for depth and bookTicker, `market` for everything else."""
    return PUBLIC if stream.partition("@")[2].startswith(_PUBLIC_WORDS) else MARKET


def _host(base: str, name: str, schemes: tuple[str, str]) -> str:
    """The host of a base. Raises ConfigError."""
    wanted = f"expected {schemes[0]}://HOST[:PORT] or {schemes[1]}://HOST[:PORT]"
    try:
        parts = urlsplit(base)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in schemes or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"{name} address {base!r}: {wanted}")
    return host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
