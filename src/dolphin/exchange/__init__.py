"""Binance USDT-M as the rest of the system meets it: depth streams and the books built from them."""
