"""`dolphin forewarner`: train the models, and ask them about a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.errors import ConfigError, DataError, DolphinError
from dolphin.ui.cli.console import emit_json, json_option, note, print_table, progress

if TYPE_CHECKING:
    from dolphin.market.forewarnerfiles import DolphinForewarner, ModelCard
    from dolphin.research.forewarner.design import TrainSpec
    from dolphin.research.forewarner.fit import Fitted
    from dolphin.research.forewarner.train import Plan
    from dolphin.risk.forewarner import Report

GROUP_EPILOG = """\b
Example, from an archive to an assessment:
  dolphin forewarner train --data days --out model
  dolphin forewarner assess --model model --boost 1.5
"""
TRAIN_EPILOG = """\b
Examples:
  dolphin forewarner train --data days --out model
  dolphin forewarner train --data days --trials 5000 --days-per-trial 10 --seed 11 --out model --force
\b
--out receives model.json, the models, trials.parquet, report.html and a seal, all or nothing. While it runs, finished
trials are kept in OUT.trials; the same command goes on where it was stopped.
"""
ASSESS_EPILOG = """\b
Examples:
  dolphin forewarner assess --model model
  dolphin forewarner assess --model model --boost 1.5
  dolphin forewarner assess --model model --config mine.json --json
\b
mine.json holds parameters by name; those that it leaves out are the champion's:
  {"max_leverage": 10, "abs_max_leverage": 12, "fraction": 0.5}
"""
_LOW_BOOST, _HIGH_BOOST = 1.0, 3.0


@click.group(epilog=GROUP_EPILOG)
def forewarner() -> None:
    """Train the Monte-Carlo forewarner, and let it assess a configuration."""


@forewarner.command(epilog=TRAIN_EPILOG, short_help="Replay sampled configurations and fit the models.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Archive of scans, or of prices only.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the model.")
@click.option("--trials", type=int, default=2000, show_default=True, help="Configurations to sample and replay.")
@click.option("--from", "first", metavar="DAY", help="First day to draw from (default: the archive's first).")
@click.option("--to", "last", metavar="DAY", help="Last day to draw from (default: the archive's last).")
@click.option("--days-per-trial", type=int, default=5, show_default=True, help="Length of a trial.")
@click.option("--block-days", type=int, default=2, show_default=True, help="Consecutive days drawn together.")
@click.option("--capital", type=float, default=25_000.0, show_default=True, help="Starting capital, USDT.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same trials.")
@click.option("--workers", type=int, help="Threads (default: one per core); does not change the result.")
@click.option("--force", is_flag=True, help="Replace what --out holds, discard other trials, save a useless model.")
@json_option
def train(
    data: Path,
    out: Path,
    trials: int,
    first: str | None,
    last: str | None,
    days_per_trial: int,
    block_days: int,
    capital: float,
    seed: int,
    workers: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Replay sampled configurations on resampled days, and fit models of what ends in a catastrophe.

    A catastrophe is a drawdown beyond 35 % or a loss beyond 25 %. A quarter of the trials is held out to judge the
    models; one that is no better than chance is not saved.
    """
    from dolphin.core.clock import parse_date
    from dolphin.research.forewarner.design import TrainSpec

    spec = TrainSpec(
        data=data,
        trials=trials,
        days_per_trial=days_per_trial,
        block_days=block_days,
        capital=capital,
        seed=seed,
        workers=workers if workers is not None else os.cpu_count() or 1,
        first=None if first is None else parse_date(first, "--from"),
        last=None if last is None else parse_date(last, "--to"),
    )
    spec.check()
    card = _train(spec, out, force=force, quiet=as_json)
    if as_json:
        import msgspec

        emit_json({"out": str(out), **msgspec.to_builtins(card)})
    else:
        _show_card(card, out)


def _train(spec: TrainSpec, out: Path, *, force: bool, quiet: bool) -> ModelCard:
    from dolphin.market.archive import Archive
    from dolphin.market.forewarnerfiles import MODEL_FILES
    from dolphin.research.forewarner.store import TrialStore, store_of
    from dolphin.research.forewarner.train import plan
    from dolphin.research.forewarner.trials import load_days, run_trials
    from dolphin.research.outputs import check_target
    from dolphin.ui.cli.compiling import ready_kernels

    check_target(out, force=force, files=MODEL_FILES, what="model")
    planned = plan(spec)
    store = TrialStore(store_of(out), planned.identity)
    store.check(force=force)
    ready_kernels(planned.identity["data"]["kind"], quiet=quiet)
    archive = Archive.open(spec.data).select(spec.first, spec.last)
    with progress("reading", len(archive.days), "days", quiet=quiet) as advance:
        bank = load_days(spec, advance)
    store.open(force=force)
    try:
        with progress("replaying", spec.trials, "trials", quiet=quiet) as advance:
            outcomes = store.complete(planned.trials, lambda missing: run_trials(bank, missing, spec), advance)
    except KeyboardInterrupt:
        note(f"finished trials are kept in {store.folder}; the same command goes on from there")
        raise

    from dolphin.research.forewarner.fit import fit

    with progress("fitting", None, quiet=quiet):
        fitted = fit(planned.trials, outcomes, spec.seed)
    if fitted.doubts and not force:
        raise DolphinError(
            f"no better than chance: {'; '.join(fitted.doubts)}. Nothing was saved, the trials stay in {store.folder}; "
            "train on more trials or days, or save it with --force, marked as forced"
        )
    card = _save(out, planned, fitted, outcomes, force=force)
    store.remove()
    return card


def _save(out: Path, planned: Plan, fitted: Fitted, outcomes: Any, *, force: bool) -> ModelCard:
    import msgspec

    from dolphin.market.forewarnerfiles import MODEL_FILES, REPORT, write_model
    from dolphin.research.forewarner.train import card_of, leverage_curve, trial_table
    from dolphin.research.outputs import run_folder
    from dolphin.ui.cli.options import command_line
    from dolphin.ui.report.forewarner import write_forewarner_page

    card = card_of(planned, fitted)
    models = fitted.models
    drawn = {"roi": models.roi, "max_drawdown": models.max_drawdown, "catastrophe": models.catastrophe}
    with run_folder(out, force=force, files=MODEL_FILES, what="model") as folder:
        write_forewarner_page(
            folder / REPORT,
            card=msgspec.to_builtins(card),
            trials=drawn,
            curve=leverage_curve(fitted),
            command=command_line(),
        )
        return write_model(folder, card, models, trial_table(planned.trials, outcomes))


def _show_card(card: ModelCard, out: Path) -> None:
    m = card.metrics
    rows = [
        ("trials", f"{m['trials']:,}"),
        ("catastrophes", f"{m['catastrophes']:,}"),
        ("held out", f"{m['held_out']:,}, {m['held_out_catastrophes']:,} of them catastrophes"),
        ("held-out AUC (0.5 is chance)", f"{m['auc']:.3f}"),
        ("its 95 % interval", f"{m['auc_low']:.3f} … {m['auc_high']:.3f}"),
        ("held-out Brier score", f"{m['brier']:.4f}"),
        ("that of the base rate", f"{m['brier_base_rate']:.4f}"),
        ("calibrated", "yes" if m["calibrated"] else "no, it would not help"),
    ]
    data = card.data
    title = f"Forewarner, {data['days']} days {data['from']} … {data['to']}, {data['assets']} assets"
    print_table(title, [*_forced(card.forced), *rows], ("figure", "value"))
    note(f"the calibration plot is {os.path.relpath(out / 'report.html')}")


@forewarner.command(epilog=ASSESS_EPILOG, short_help="Assess a configuration with trained models.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=Path("model"),
    show_default=True,
    help="Folder of a trained model.",
)
@click.option("--config", type=click.Path(path_type=Path), help="JSON file of parameters (default: the champion).")
@click.option("--boost", type=float, default=1.0, show_default=True, help="Multiplies max_leverage, as a day's does.")
@json_option
def assess(model: Path, config: Path | None, boost: float, as_json: bool) -> None:
    """Say how likely a configuration is to end in a catastrophe, and how foreign it is.

    OK trades, ORANGE halves every size, RED allows no entry.
    """
    from dolphin.market.forewarnerfiles import DolphinForewarner

    if not _LOW_BOOST <= boost <= _HIGH_BOOST:
        raise ConfigError(f"--boost {boost:g}: expected {_LOW_BOOST:g} to {_HIGH_BOOST:g}, as the engine takes it")
    values = _configuration(config, boost)
    warner = DolphinForewarner(model)
    try:
        report = warner.assess_config_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from None
    if as_json:
        emit_json(_document(model, values, boost, warner, report))
    else:
        _show_report(report, warner, values)


def _configuration(path: Path | None, boost: float) -> dict[str, Any]:
    """The file's parameters, `max_leverage` multiplied by the boost."""
    from dolphin.market.jsonfile import read_json
    from dolphin.risk.forewarner import MC_BASE_CFG

    values: Any = {} if path is None else read_json(path, "parameters", instead="write a number")
    if not isinstance(values, dict):
        raise DataError(f'{path}: {type(values).__name__}; expected parameters by name such as {{"max_leverage": 10}}')
    leverage = values.get("max_leverage", MC_BASE_CFG["max_leverage"])
    if boost != 1.0 and _number(leverage):
        values["max_leverage"] = leverage * boost
    return values


def _document(
    model: Path, values: dict[str, Any], boost: float, warner: DolphinForewarner, report: Report
) -> dict[str, Any]:
    import msgspec

    from dolphin.risk.forewarner import MC_BASE_CFG, mc_scale_of

    told: dict[str, Any] = msgspec.to_builtins(report)
    card = warner.card
    return {
        "model": str(model),
        "boost": boost,
        "config": {**MC_BASE_CFG, **values},
        **told,
        "mc_scale": mc_scale_of(report.status),
        "trained": {"trials": card.trials, "days_per_trial": card.days_per_trial, "data": card.data, "seed": card.seed},
    }


def _show_report(report: Report, warner: DolphinForewarner, values: dict[str, Any]) -> None:
    days = warner.card.days_per_trial
    over = f"over {days} day{'' if days == 1 else 's'}"
    rows = [
        ("catastrophic probability", f"{100.0 * report.catastrophic_probability:.1f} %"),
        ("envelope score", f"{report.envelope_score:+.2f}"),
        (f"ROI {over}, median", f"{100.0 * report.predicted_roi:+.1f} %"),
        (f"max drawdown {over}, median", f"{100.0 * report.predicted_max_drawdown:.1f} %"),
    ]
    changed = ", ".join(f"{name}={value:g}" if _number(value) else f"{name}={value}" for name, value in values.items())
    click.echo(f"{report.status}: {changed or 'the champion'}")
    print_table("Assessment", [*_forced(report.forced), *rows], ("figure", "value"))
    near = [
        (
            str(trial.trial),
            f"{trial.distance:.2f}",
            f"{100.0 * trial.roi:+.1f} %",
            f"{100.0 * trial.max_drawdown:.1f} %",
            "catastrophe" if trial.catastrophe else "survived",
        )
        for trial in report.nearest
    ]
    if near:
        print_table("Nearest trials", near, ("trial", "distance", "ROI", "max drawdown", "outcome"))
    for name in report.outside:
        note(f"{name}: outside of what was trained; the envelope score says how far")


def _forced(forced: bool) -> list[tuple[str, str]]:
    return [("FORCED", "no better than chance")] if forced else []


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
