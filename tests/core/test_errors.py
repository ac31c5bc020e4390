"""One exception tree; a class says which exit code its cause deserves."""

from __future__ import annotations

import pytest

from dolphin.core import codes, errors

TREE = {
    "InputError": ("DolphinError", 2),
    "DataError": ("InputError", 2),
    "ConfigError": ("InputError", 2),
    "GridError": ("DolphinError", 1),
    "ExchangeError": ("DolphinError", 1),
    "SafetyError": ("DolphinError", 1),
}


def test_the_tree_is_whole() -> None:
    found = {
        name: (kind.__bases__[0].__name__, kind.exit_code)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and kind.__module__ == errors.__name__ and name != "DolphinError"
    }
    assert found == TREE
    assert (errors.DolphinError.__bases__[0], errors.DolphinError.exit_code) == (Exception, 1)


@pytest.mark.parametrize("name", TREE)
def test_each_says_when_it_occurs_and_carries_its_message(name: str) -> None:
    kind = getattr(errors, name)
    assert kind.__doc__
    assert str(kind("what, where")) == "what, where"
    assert errors.__doc__ is not None
    assert name in errors.__doc__


def test_published_codes_keep_their_meaning() -> None:
    """Records on disk carry these numbers: the lists may grow at their end and change nowhere."""
    assert [g.name for g in codes.Gate] == [
        *("ENTERED", "IN_POSITION", "JUST_EXITED", "CAPITAL", "WARM_UP", "HALT", "VOL_REGIME", "VEL_DIV"),
        *("SELECTION", "DIRECTION_CONFIRMATION", "BOOK_IMBALANCE"),
    ]
    assert [r.name for r in codes.ExitReason] == [
        *("NONE", "HIBERNATE_HALT", "SUBDAY_ACB_NORMALIZATION", "FIXED_TP", "STOP_LOSS", "VEL_DIV_ADVERSE"),
        *("TF_EXHAUST", "TF_FLIP", "MAX_HOLD", "STALE_PRICE", "DATA_GAP", "END_OF_DATA", "PROTECTIVE_STOP"),
    ]
    assert [p.name for p in codes.Posture] == ["APEX", "STALKER", "TURTLE", "HIBERNATE"]
    for kind in (codes.Gate, codes.ExitReason, codes.Posture, codes.Drop, codes.Confirmation, codes.AcbUpdate):
        assert [int(value) for value in kind] == list(range(len(kind)))
    assert (int(codes.Direction.SHORT), int(codes.Direction.LONG)) == (-1, 1)
