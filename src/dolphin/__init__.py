"""DOLPHIN-NAUTILUS: systematic trading of Binance USDT-M perpetuals on correlation-eigenvalue divergence."""

__version__ = "0.1.0"
