"""Replays and what is learnt from them: backtest, metrics, the why-not ledger."""
