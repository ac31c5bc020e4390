"""Servers in containers: versions pinned, this machine only, and members configured as those that the tests run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dolphin.ops.infra.java import VERSION
from dolphin.ops.infra.memberconfig import member_config

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
PORTS = (5701, 5702, 5703)


def test_images_are_pinned_to_a_whole_version() -> None:
    images = re.findall(r"^ +image: (\S+)$", COMPOSE, re.MULTILINE)
    assert len(images) == 3
    for image in images:
        assert re.fullmatch(r"[a-z]+/[a-z-]+:\d+\.\d+\.\d+(-python3\.12)?", image), image
    assert f"hazelcast/hazelcast:{VERSION}" in images


def test_nothing_is_published_beyond_this_machine() -> None:
    published = re.findall(r'^ +- "?([\d.:]+:\d+)"?$', COMPOSE, re.MULTILINE)
    assert published == ["127.0.0.1:4200:4200"]
    assert COMPOSE.count("network_mode: host") == 2, "members (by their anchor) and Management Center bind loopback"
    for address in re.findall(r"bind\.address=(\S+?)[ \"]", COMPOSE):
        assert address == "127.0.0.1"


@pytest.mark.parametrize("port", PORTS)
def test_members_are_configured_as_the_command_does_it(port: int) -> None:
    path = DEPLOY / "hazelcast" / f"member-{port}.yaml"
    assert path.read_text(encoding="utf-8") == member_config(port, PORTS)


def test_the_form_is_right() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not on the PATH; it alone knows the file's form")
    done = subprocess.run(
        [docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
