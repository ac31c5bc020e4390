"""The pages say what exists: commands, options, files, links, code, figures."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dolphin.core.codes import Drop, ExitReason, Gate
from dolphin.core.params import champion_hash, settable_names
from dolphin.market.tables import META_COLUMNS
from dolphin.research.metrics import TRADE_COLUMNS
from dolphin.research.results import EQUITY_SCHEMA
from dolphin.risk.forewarner.space import MC_BASE_CFG, SPACE
from dolphin.ui.cli import root, run
from tests.support.shared import RECORDED

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
GROUPS = ("data", "scan")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """What a heading can be linked by, as renderers of Markdown make it."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(plain.replace(" ", "-"))
    return found


def command_at(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The command that `words` (without `dolphin`) name and the words after it; None when there is no such command."""
    command: click.Command = root
    words = list(words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return None
        command, words = found, words[1:]
    return command, words


def leaves(group: click.Group = root, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its path."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def options_of(command: click.Command) -> set[str]:
    """The long options of a command."""
    params = command.get_params(click.Context(command))
    return {opt for p in params if isinstance(p, click.Option) for opt in p.opts if opt.startswith("--")}


def typed_lines(text: str) -> list[str]:
    """Command lines in shell blocks: a `$` in front and the path of the environment are left out."""
    lines = []
    for language, body in FENCE.findall(text):
        if language in ("sh", "console", "bash"):
            for line in body.splitlines():
                bare = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if bare.startswith("dolphin "):
                    lines.append(bare)
    return lines


TYPED = [(name_of(page), line) for page in PAGES for line in typed_lines(page.read_text(encoding="utf-8"))]


def test_pages_hold_command_lines() -> None:
    assert len(TYPED) > 15


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_every_command_line_is_accepted_by_the_parser(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    found = command_at(words)
    assert found is not None, f"{page}: no such command: {line}"
    command, rest = found
    assert not isinstance(command, click.Group) or rest, f"{page}: names a group only: {line}"
    # Parsing checks names, choices, numbers and what is required; it runs nothing.
    with command.make_context("dolphin", rest):
        pass


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_in_a_code_span_exists(page: Path) -> None:
    for span in re.findall(r"`(dolphin [a-z][^`\n]*)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
        found = command_at(shlex.split(span)[1:])
        assert found is not None, f"{name_of(page)}: {span}"
        command, rest = found
        for word in rest:
            if word.startswith("--"):
                known = options_of(command) | {"--help"}
                assert word.partition("=")[0] in known, f"{name_of(page)}: {span}: no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_named_exists_somewhere(page: Path) -> None:
    known = {"--help", "--debug", "--version"}.union(*(options_of(command) for _, command in leaves()))
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    named = {
        match for span in re.findall(r"`([^`\n]+)`", text) for match in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)
    }
    assert named <= known, f"{name_of(page)}: {sorted(named - known)}"


@pytest.mark.parametrize(("path", "command"), list(leaves()), ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_the_command_page_covers_every_command_and_option(path: tuple[str, ...], command: click.Command) -> None:
    heading = f"## dolphin {' '.join(path)}\n"
    page = text_of("docs/cli.md")
    assert heading in page
    section = page.split(heading)[1].split("\n## ")[0]
    named = set(re.findall(r"--[a-z][a-z-]*", section))
    assert options_of(command) - {"--help"} <= named, f"missing: {sorted(options_of(command) - named)}"
    assert "```sh" in section, "a section needs an example"


def test_the_command_page_lists_every_parameter_with_its_default() -> None:
    table = text_of("docs/cli.md").split("| name | default | |")[1].split("\n## ")[0]
    named: dict[str, str] = {}
    for names, values, _ in re.findall(r"^\| (`[^|]+) \| ([^|]+) \| ?([^|]*) ?\|$", table, re.MULTILINE):
        pairs = zip(re.findall(r"`(\w+)`", names), values.replace("−", "-").split(", "), strict=True)
        named |= {name: value.strip("` ") for name, value in pairs}
    assert set(named) == set(settable_names())
    for name, default in settable_names().items():
        text = named[name]
        assert (float(text) == default) if type(default) in (int, float) else (text == str(default).lower()), name


def test_the_forewarner_page_lists_the_space_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) … (\S+?)(, logarithmic)? \| (\S+) \| ([^|]*)\|$",
                      text_of("docs/forewarner.md").replace("−", "-"), re.MULTILINE)  # fmt: skip
    shown = [(n, float(low), float(high), bool(log), float(c), "drawn" in note) for n, low, high, log, c, note in rows]
    assert shown == [(p.name, p.low, p.high, p.log, MC_BASE_CFG[p.name], p.riskier) for p in SPACE]


def test_the_champion_hash_on_the_pages_is_the_champion_s() -> None:
    assert champion_hash() in text_of("docs/cli.md")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), f"{name_of(page)}: {target} leaves the repository"
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_source_file_named_exists(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for span in re.findall(
        r"`((?:src/|docs/|tests/|scripts/|core/|scan/|alpha/|exchange/|market/|research/|ui/)[\w/.-]+)`", text
    ):
        assert any((base / span).exists() for base in (ROOT, ROOT / "src/dolphin")), f"{name_of(page)}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_named_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(re.findall(r"^\s*make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets, f"{name_of(page)}: {sorted(named - targets)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_the_pages_is_python(page: Path) -> None:
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(body)


@pytest.mark.parametrize(
    "page",
    [
        "docs/engine.md",
        "docs/book.md",
        "docs/exchange.md",
        "docs/live.md",
        "docs/liveloop.md",
        "docs/obf.md",
        "docs/grid.md",
    ],
)
def test_a_page_s_example_runs(page: str) -> None:
    blocks = [body for language, body in FENCE.findall(text_of(page)) if language == "python"]
    assert blocks
    for body in blocks:
        exec(compile(body, page, "exec"), {})


def test_pages_name_every_gate_exit_and_column() -> None:
    engine, formats = text_of("docs/engine.md"), text_of("docs/data-formats.md")
    for gate in Gate:
        assert f"`{gate.name}`" in engine or gate == Gate.ENTERED
    for reason in ExitReason:
        assert f"`{reason.name}`" in engine or reason == ExitReason.NONE
    for drop in Drop:
        assert f"`{drop.name}`" in engine or drop == Drop.KEPT
    for column in (*META_COLUMNS, *TRADE_COLUMNS, *EQUITY_SCHEMA.names):
        assert f"`{column}`" in formats, column


def test_decisions_have_their_four_parts_and_are_listed() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    index = text_of("docs/decisions/README.md")
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        assert title.startswith(page.name[:4])
        assert f"[{page.name[:4]}]({page.name}) | {title[5:]} |" in index, page.name
        for part in ("**Context.**", "**Decision.**", "**Consequence.**", "**How we would notice.**"):
            assert part in text, f"{page.name}: {part}"


def test_the_picture_is_a_small_png_of_the_promised_width() -> None:
    data = (ROOT / "docs/images/report.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") == 1400
    assert len(data) < 400_000


def figures(text: str) -> dict[str, str]:
    """Rows of a printed table: name -> value."""
    return {name.strip(): value.strip() for name, value in re.findall(r"^│ (.+?) │ +(.+?) │$", text, re.MULTILINE)}


@pytest.mark.slow
def test_the_readme_shows_what_the_demo_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    market, scans = str(tmp_path / "market"), str(tmp_path / "scans")
    assert run(["data", "make", "--out", market, "--days", "5"]) == 0
    assert run(["scan", "run", market, "--out", scans]) == 0
    capsys.readouterr()
    assert run(["backtest", "--data", scans, "--out", str(tmp_path / "run")]) == 0
    printed = figures(capsys.readouterr().out)
    shown = figures(text_of("README.md").split("## What `make demo` prints")[1].split("## ")[0])
    assert len(shown) > 8
    assert shown == {name: printed[name] for name in shown}


@pytest.mark.slow
def test_the_measuring_script_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    market = str(tmp_path / "market")
    assert run(["data", "make", "--out", market, "--days", "5"]) == 0
    capsys.readouterr()
    scope: dict[str, object] = {"__name__": "measure_signal"}
    exec(compile(text_of("docs/measure_signal.py"), "docs/measure_signal.py", "exec"), scope)
    main = scope["main"]
    assert callable(main)
    main([market])
    printed = capsys.readouterr().out
    shown = re.search(r"synthetic demo, 1 min, 48 \| ([\d,]+) \| ([\d.]+) % \| ([\d.]+) %", text_of("docs/signal.md"))
    assert shown is not None
    assert f"with a signal {shown[1]}" in printed
    below = [f"{float(share):.1f}" for share in re.findall(r"P\(< -0\.0[25]\) = ([\d.]+)%", printed)]
    assert below == [shown[2], shown[3]]


def test_pages_tell_nothing_of_one_machine() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert str(ROOT) not in text, name_of(page)
        assert str(RECORDED.parent) not in text, name_of(page)
        assert "/home/" not in text, name_of(page)
