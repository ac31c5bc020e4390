"""Where Java is, and Hazelcast's one file, whose content is known by its hash."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from dolphin.core.errors import ConfigError

VERSION = "5.4.0"
"""The last community release with the CP subsystem."""

SHA256 = "cbcd4de863ee859dd6094fe01752e1bc9986c5240621443fe6609a5e16903f0d"
OLDEST_JAVA = 17

_JAR = f"hazelcast-{VERSION}.jar"
_FETCH_S = 600.0


def find_java() -> Path:
    """The `java` of JAVA_HOME or of the PATH. Raises ConfigError when there is none, or one older than 17."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise ConfigError(
            f"java: not found; Hazelcast needs version {OLDEST_JAVA} or later (Debian: openjdk-17-jre-headless)"
        )
    try:
        told = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60.0, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    match = re.search(r'version "(\d+)', told)
    if match is None or int(match[1]) < OLDEST_JAVA:
        met = match[1] if match else "what does not tell its version"
        raise ConfigError(f"java: {found} is {met}; Hazelcast needs version {OLDEST_JAVA} or later")
    return Path(found)


def find_jar(cache: Path | None = None) -> Path:
    """Hazelcast's file: from `cache`, from the local Maven repository, else fetched by Maven into `cache`, a folder of
    the user's own by default. Raises ConfigError when it is not to be had, or is not what it should be."""
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dolphin"
    for place in (cache / _JAR, Path.home() / f".m2/repository/com/hazelcast/hazelcast/{VERSION}/{_JAR}"):
        if place.exists():
            return _checked(place)
    maven = shutil.which("mvn")
    if maven is None:
        raise ConfigError(f"{_JAR}: not found; install Maven (Debian: maven), or put the file into {cache}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            artifact = f"-Dartifact=com.hazelcast:hazelcast:{VERSION}"
            command = [maven, "-q", "-B", "dependency:copy", artifact, f"-DoutputDirectory={folder}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False, cwd=folder)
            fetched = Path(folder) / _JAR
            if done.returncode != 0 or not fetched.exists():
                lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
                raise ConfigError(f"{_JAR}: Maven could not fetch it: {lines[0][:200] if lines else 'it said nothing'}")
            _checked(fetched).replace(cache / _JAR)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{_JAR}: could not be fetched into {cache}: {error}") from None
    return cache / _JAR


def _checked(path: Path) -> Path:
    with path.open("rb") as file:
        met = hashlib.file_digest(file, "sha256").hexdigest()
    if met != SHA256:
        raise ConfigError(f"{path}: its SHA-256 is {met}; expected {SHA256}; delete it, and it is fetched anew")
    return path
