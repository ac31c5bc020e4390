"""What a set-up stands on: the locks, the project's data, and the verbs that the pages promise."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from trove_classifiers import classifiers

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("main", "nautilus", "dev")

Pins = dict[str, tuple[str, frozenset[str]]]


def pins(name: str) -> Pins:
    """Package -> (the requirement's line, its hashes)."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    found: Pins = {}
    for entry in re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text)):
        line, *rest = entry.replace("\\\n", "\n").split("\n")
        assert Requirement(line).name not in found, line
        found[Requirement(line).name] = (line.strip(), frozenset(re.findall(r"--hash=(\S+)", "".join(rest))))
    return found


# --- the locks and the project's data


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_an_exact_version_and_hashes(name: str) -> None:
    found = pins(name)
    assert len(found) > 20
    for line, hashes in found.values():
        requirement = Requirement(line)
        assert [item.operator for item in requirement.specifier] == ["=="], line
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in hashes), line


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_host_no_index_and_no_place(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    for banned in ("://", "-index", "--find-links", "--trusted-host", " @ ", "file:", "/tmp", "/home", "~/"):
        assert banned not in text, banned
    assert not re.search(r"(?m)(^|\s)/\w", text)


@pytest.mark.parametrize(("small", "large"), itertools.pairwise(LOCKS))
def test_each_lock_holds_the_one_before(small: str, large: str) -> None:
    held, holds = pins(small), pins(large)
    assert set(holds) > set(held)
    for name, (line, hashes) in held.items():
        # The marker may differ: what the main job needs on one version of Python, the tests may need on all.
        assert (holds[name][0].partition(" ;")[0], holds[name][1]) == (line.partition(" ;")[0], hashes), name


def test_the_locks_carry_what_the_project_asks_for() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = [line for line in (ROOT / "requirements" / "build.in").read_text().splitlines() if not line.startswith("#")]
    wanted = {
        "main": data["project"]["dependencies"] + data["build-system"]["requires"] + build,
        "nautilus": data["project"]["optional-dependencies"]["nautilus"],
        "dev": data["project"]["optional-dependencies"]["dev"],
    }
    for name, lines in wanted.items():
        found = pins(name)
        for requirement in map(Requirement, lines):
            (pin,) = Requirement(found[requirement.name.replace("_", "-")][0]).specifier
            assert Version(pin.version) in requirement.specifier, requirement


def test_the_main_lock_leaves_out_what_only_tests_need() -> None:
    only_tests = {"pytest", "hypothesis", "mypy", "ruff", "coverage", "import-linter"}
    assert not only_tests & set(pins("nautilus"))
    assert not (only_tests | {"nautilus-trader", "pandas"}) & set(pins("main"))


def test_the_project_data_are_real_classifiers_and_a_licence_that_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["classifiers"]) <= set(classifiers)
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


# --- the verbs


def targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))


def test_the_makefile_has_the_verbs_and_make_alone_lists_them() -> None:
    assert {"help", "demo", "test", "check", "lint", "bench", "lock", "clean"} <= targets()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert set(re.findall(r"(?m)^  make (\S+)", done.stdout)) == targets() - {"setup", "setup-dev"}


def test_pages_promise_only_verbs_that_exist() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        promised = set(re.findall(r"(?m)(?:^\s*\$?\s*|`)make ([a-z][a-z-]*)", page.read_text()))
        assert promised <= targets(), page.name
