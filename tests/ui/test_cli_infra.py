"""`dolphin infra hazelcast`, and grid commands on the cluster that it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dolphin.ops.infra.hazelcast import HazelcastCluster, free_ports
from dolphin.ui.cli import run
from tests.grid.clusters import need_java

Capture = pytest.CaptureFixture[str]


def test_nothing_was_started(tmp_path: Path, capsys: Capture) -> None:
    folder = ["--folder", str(tmp_path / "none")]
    assert run(["infra", "hazelcast", "status", *folder]) == 1
    _, err = capsys.readouterr()
    assert err.startswith(f"dolphin: {tmp_path / 'none'}: no cluster was started here")
    assert run(["infra", "hazelcast", "down", "--json", *folder]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": 0}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["hazelcast://127.0.0.1", "hazelcast://10.0.0.1:5701"])
def test_an_address_that_is_none_is_bad_input(address: str, capsys: Capture) -> None:
    assert run(["grid", "doctor", "--grid", address]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("dolphin: grid")
    assert err.count("\n") == 1


def test_a_file_that_is_not_hazelcasts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    need_java()
    (tmp_path / "dolphin").mkdir()
    (tmp_path / "dolphin" / "hazelcast-5.4.0.jar").write_bytes(b"not it")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(["infra", "hazelcast", "up", "--folder", str(tmp_path / "h")]) == 2
    assert "its SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for body, told in (("echo 'openjdk version \"11.0.2\"' >&2", "is 11;"), ("exit 1", "does not tell its version")):
        java = tmp_path / "bin" / "java"
        java.parent.mkdir(exist_ok=True)
        java.write_text(f"#!/bin/sh\n{body}\n")
        java.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        assert run(["infra", "hazelcast", "up", "--folder", str(tmp_path / "h")]) == 2
        assert told in capsys.readouterr().err
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert run(["infra", "hazelcast", "up", "--folder", str(tmp_path / "h")]) == 2
    assert "java: not found" in capsys.readouterr().err


@pytest.mark.slow
def test_from_up_to_down(tmp_path: Path, capsys: Capture) -> None:
    need_java()
    port = free_ports(1)[0]
    folder = ["--folder", str(tmp_path / "hazelcast")]
    grid = ["--grid", f"hazelcast://127.0.0.1:{port}/dolphin?timeout=10"]
    try:
        assert run(["infra", "hazelcast", "up", "--port", str(port), "--heap-mb", "160", "--json", *folder]) == 0
        up = json.loads(capsys.readouterr().out)
        assert up["address"] == f"hazelcast://127.0.0.1:{port}"
        assert [(row["port"], row["sees"], row["cp"]) for row in up["members"]] == [(port, 1, None)]
        posture = '{"posture":"TURTLE","Rm":0.6,"sensors":{"Cat1":1.0}}'
        assert run(["grid", "put", "DOLPHIN_SAFETY", "latest", posture, "--yes", *grid]) == 0
        assert run(["grid", "doctor", *grid]) == 0
        out, _ = capsys.readouterr()
        assert f"member 127.0.0.1:{port}, Hazelcast 5.4.0" in out
        assert "CP subsystem: off" in out
        assert run(["grid", "doctor", "--json", *grid]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["nodes"], found["cp"]) == (1, False)
        assert [row["map"] for row in found["maps"] if row["keys"]] == ["DOLPHIN_SAFETY"]
        dump, again = tmp_path / "dump.jsonl", str(tmp_path / "grid")
        assert run(["grid", "dump", "--out", str(dump), *grid]) == 0
        assert run(["grid", "load", str(dump), "--yes", "--grid", again]) == 0
        assert run(["infra", "hazelcast", "up", *folder]) == 0, "what runs is left alone"
        assert run(["infra", "hazelcast", "status", *folder]) == 0
        capsys.readouterr()
        assert run(["grid", "get", "DOLPHIN_SAFETY", "latest", "--grid", again]) == 0
        assert capsys.readouterr().out == posture + "\n"
        assert run(["infra", "hazelcast", "down", "--json", *folder]) == 0
        assert json.loads(capsys.readouterr().out) == {"stopped": 1}
        assert run(["infra", "hazelcast", "status", *folder]) == 1
        assert run(["grid", "get", "DOLPHIN_SAFETY", *grid[:1], f"hazelcast://127.0.0.1:{free_ports(1)[0]}"]) == 1
        assert "nobody answers within 10 s" in capsys.readouterr().err
    finally:
        HazelcastCluster(tmp_path / "hazelcast").stop()
