"""The loopback exchange: Binance USDT-M's REST and WebSocket protocol on 127.0.0.1, with faults (SPEC §8, §19).

A market (`synthetic`, `recorded`) moves in simulated time and hands what happened to the `feed`, which builds the
messages; the `hub` brings them to connections; `rest` and `sockets` speak the protocol; `faults` spoils it on demand;
`server` holds them together. Nothing here can reach another machine: the server listens, and connects to nobody.
"""
