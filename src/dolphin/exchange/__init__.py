"""Binance USDT-M: order books built from its streams, and the loopback exchange of demo and tests (SPEC §8)."""
