"""The forewarner's page: is it calibrated, what does leverage do, what did the trials bring (SPEC §11)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dolphin.risk.forewarner.report import ORANGE_PROBABILITY, RED_PROBABILITY
from dolphin.ui.report.document import document, serialised, write_document
from dolphin.ui.report.numbers import counted, esc, number, percent, whole
from dolphin.ui.report.sections import card_list, chart, masthead, provenance
from dolphin.ui.report.series import Figure, ink

_SPREAD = 1.25
"""Widest ROI drawn, and drawdown: a trial can lose more than its capital, and few do."""


def write_forewarner_page(
    path: Path,
    *,
    card: Mapping[str, Any],
    trials: Mapping[str, ArrayLike],
    curve: Mapping[str, Sequence[float]],
    command: str,
) -> None:
    """Write the page of one model to `path`, whole or not at all.

    `card` is `model.json` as plain values; `trials` holds `roi`, `max_drawdown` and `catastrophe` of every trial;
    `curve` the champion's `catastrophic_probability` and `envelope_score` by `max_leverage`."""
    charts = {
        "calibration": calibration_figure(card["metrics"]["calibration_bins"]),
        "leverage": leverage_figure(curve),
        "outcomes": outcomes_figure(
            np.asarray(trials["roi"]), np.asarray(trials["max_drawdown"]), np.asarray(trials["catastrophe"], bool)
        ),
    }
    pieces = document("Forewarner", [_body(card, command)], serialised(charts.items()))
    write_document(path, pieces)


def calibration_figure(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Predicted probability against met frequency with 95 % intervals, and below it how many trials each bin holds."""
    x = [float(b["predicted"]) for b in bins]
    y = [float(b["frequency"]) for b in bins]
    words = [f"{b['catastrophes']} of {b['count']} trials" for b in bins]
    diagonal = {
        "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
        "line": {"color": ink("muted"), "width": 1.2, "dash": "dot"},
    }  # fmt: skip
    points = {
        "type": "scatter", "mode": "lines+markers", "x": x, "y": y, "customdata": words,
        "line": {"color": ink("accent"), "width": 1.8}, "marker": {"color": ink("accent"), "size": 9},
        "error_y": {
            "type": "data", "symmetric": False, "color": ink("accent"), "thickness": 1.3, "width": 4,
            "array": [float(b["frequency_high"]) - float(b["frequency"]) for b in bins],
            "arrayminus": [float(b["frequency"]) - float(b["frequency_low"]) for b in bins],
        },
        "hovertemplate": "predicted %{x:.1%}, met %{y:.1%}<br>%{customdata}<extra></extra>",
    }  # fmt: skip
    counts = {
        "type": "bar", "x": [(float(b["low"]) + float(b["high"])) / 2 for b in bins],
        "y": [int(b["count"]) for b in bins], "yaxis": "y2", "width": 0.092, "marker": {"color": ink("bridge")},
        "hovertemplate": "%{y} trials<extra></extra>",
    }  # fmt: skip
    share = {"range": [-0.02, 1.02], "tickformat": ".0%"}
    layout = {
        "height": 520,
        "showlegend": False,
        "xaxis": {**share, "title": {"text": "predicted probability of a catastrophe"}, "anchor": "y2"},
        "yaxis": {**share, "domain": [0.3, 1], "title": {"text": "met frequency"}},
        # Logarithmic, from below one trial: a bin of one must still show a bar.
        "yaxis2": {
            "domain": [0, 0.22], "type": "log", "title": {"text": "trials"}, "dtick": 1,
            "range": [-0.3, 0.2 + math.log10(max(int(b["count"]) for b in bins))],
        },
        "shapes": _bands("x"),
    }  # fmt: skip
    return {"data": [diagonal, points, counts], "layout": layout}


def leverage_figure(curve: Mapping[str, Sequence[float]]) -> Figure:
    """The champion's probability and envelope score as only its `max_leverage` changes."""
    traces = []
    for name, axis, colour in (("catastrophic_probability", "y", "loss"), ("envelope_score", "y2", "accent")):
        line = {"type": "scatter", "mode": "lines", "x": list(curve["max_leverage"]), "y": list(curve[name])}
        hover = {"hovertemplate": "max_leverage %{x:.1f}: %{y:.3f}<extra></extra>"}
        traces.append({**line, **hover, "yaxis": axis, "line": {"color": ink(colour), "width": 2}})
    most = max(0.3, *(float(p) for p in curve["catastrophic_probability"]))
    scores = [float(s) for s in curve["envelope_score"]]
    layout = {
        "height": 380,
        "showlegend": False,
        "xaxis": {"title": {"text": "max_leverage, all else the champion's"}, "anchor": "y2"},
        "yaxis": {
            "domain": [0.54, 1],
            "range": [0, 1.08 * most],
            "tickformat": ".0%",
            "title": {"text": "probability"},
        },
        "yaxis2": {
            "domain": [0, 0.44],
            "range": [min(-0.2, *scores) - 0.1, max(scores) + 0.2],
            "title": {"text": "envelope score"},
        },
        "shapes": _bands("y"),
    }
    return {"data": traces, "layout": layout}


def outcomes_figure(roi: NDArray[Any], drawdown: NDArray[Any], lost: NDArray[Any]) -> Figure:
    """Every trial by ROI and maximum drawdown, catastrophes apart; what lies beyond the axes is drawn at their edge."""
    traces = []
    for name, rows, colour in (("survived", ~lost, "accent"), ("catastrophe", lost, "loss")):
        x, y = np.clip(roi[rows], -_SPREAD, _SPREAD).tolist(), np.clip(drawdown[rows], 0.0, _SPREAD).tolist()
        dots = {"type": "scattergl", "mode": "markers", "name": name, "x": x, "y": y}
        hover = {"hovertemplate": "ROI %{x:.1%}, drawdown %{y:.1%}<extra></extra>"}
        traces.append({**dots, **hover, "marker": {"color": ink(colour), "size": 4, "opacity": 0.55}})
    layout = {
        "height": 380,
        "xaxis": {"title": {"text": "ROI of the trial"}, "tickformat": ".0%"},
        "yaxis": {"title": {"text": "maximum drawdown"}, "tickformat": ".0%", "rangemode": "tozero"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout}


def _bands(axis: str) -> list[dict[str, Any]]:
    """Lines at the two probabilities that turn a status."""
    other = "y" if axis == "x" else "x"
    ends = {f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1}
    return [
        {
            "type": "line",
            **ends,
            f"{axis}0": at,
            f"{axis}1": at,
            "line": {"color": ink(tone), "width": 1, "dash": "dash"},
        }
        for at, tone in ((ORANGE_PROBABILITY, "warn"), (RED_PROBABILITY, "loss"))
    ]


def _body(card: Mapping[str, Any], command: str) -> str:
    m, data = card["metrics"], card["data"]
    forced = card["forced"]
    badge = '<span class="badge bad">forced</span>' if forced else '<span class="badge good">better than chance</span>'
    facts = (
        f"{esc(data['from'])} to {esc(data['to'])}",
        f"{counted(data['days'], 'day')}, {counted(data['assets'], 'asset')}",
        f"bars of {number(data['bar_seconds'], 0)} s",
        f"trials of {counted(card['days_per_trial'], 'day')} in blocks of {card['block_days']}",
        f"seed {card['seed']}",
    )
    doubts = "".join(f"<li>{esc(doubt)}</li>" for doubt in card["doubts"])
    banner = (
        '<aside class="banner" role="alert"><h2>No better than chance</h2>'
        f"<p>This model was saved by force. Its warnings, and its silence, mean nothing.</p><ul>{doubts}</ul></aside>"
    )
    rows = [("scikit-learn", card["versions"]["scikit-learn"]), ("champion hash", card["champion_hash"])]
    rows += [(f"data: {name}", value) for name, value in data.items()]
    main = (
        _cards(m),
        chart(
            "calibration",
            "Calibration",
            "Trials that the model has not seen. On the dotted line, one in five of the trials given 20 % ended in a "
            "catastrophe. Above it the forewarner is too calm, below it too nervous. Bars are 95 % intervals; dashed "
            "lines are where ORANGE and RED begin.",
            drawn=True,
            empty="",
        ),
        chart(
            "leverage",
            "The champion under leverage",
            "What the engine asks every day: the champion with max_leverage times the day's boost. The cap "
            "abs_max_leverage stays at 6, so the curve flattens.",
            drawn=True,
            empty="",
            wide=False,
        ),
        chart(
            "outcomes",
            "What became of the trials",
            "Every trial, training and held out. Nothing is liquidated in a trial, so it can lose more than it had.",
            drawn=True,
            empty="",
            wide=False,
        ),
        provenance(command, rows),
    )
    return (
        f"{masthead('forewarner', f'Forewarner {badge}', facts)}{banner if forced else ''}<main>{''.join(main)}</main>"
    )


def _cards(m: Mapping[str, Any]) -> str:
    base = f"base rate {number(m['brier_base_rate'], 4)}"
    fitted = "calibrated" if m["calibrated"] else "as the classifier gives it"
    return card_list(
        (
            ("Held-out AUC", number(m["auc"], 3), f"{number(m['auc_low'], 3)} to {number(m['auc_high'], 3)}, 95 %", ""),
            ("Held-out Brier score", number(m["brier"], 4), base, ""),
            ("Catastrophes", percent(m["catastrophes"] / m["trials"], 1), f"of {whole(m['trials'])} trials", ""),
            ("Held out", whole(m["held_out"]), f"{counted(m['held_out_catastrophes'], 'catastrophe')}; {fitted}", ""),
        )
    )
