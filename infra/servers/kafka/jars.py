"""The jars of an Apache Kafka version: fetched from Maven Central once and kept in the cache."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from infra.servers.cache import cache_folder, cached
from infra.servers.errors import ServerUnavailable
from infra.servers.tool import run, tool

_POM: Final = Path(__file__).with_name("pom.xml")
_FETCH_S: Final = 600
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9]+){2}(-[A-Za-z0-9]+)?")


def default_version() -> str:
    """The version in `pom.xml`."""
    found = re.search(r"<kafka\.version>([^<]+)<", _POM.read_text())
    if found is None:
        raise ServerUnavailable(f"{_POM} names no kafka.version")
    return found[1]


def jars(version: str) -> Path:
    """The folder with the jars of `version`. Raises `ServerUnavailable` when they cannot be fetched."""
    if not _VERSION.fullmatch(version):
        raise ServerUnavailable(
            f"{version!r} is no version of Apache Kafka; one looks like {default_version()}"
        )
    return cached(_cached_name(version), lambda folder: _fetch(version, folder))


def check_programs(version: str) -> None:
    """Raises `ServerUnavailable` when Java is missing, or the jars and Maven to fetch them with; fetches nothing."""
    java()
    if not (cache_folder() / _cached_name(version)).exists():
        _maven()


def java() -> str:
    """Path of the Java launcher. Raises `ServerUnavailable` without one."""
    return tool("java", "there is no Java: install one of version 17 or newer (Debian: default-jre-headless)")


def _cached_name(version: str) -> str:
    recipe = hashlib.sha256(_POM.read_bytes()).hexdigest()[:8]
    return f"kafka-{version}-{recipe}"


def _maven() -> str:
    return tool("mvn", "there is no Maven to fetch its jars with: install one (Debian: maven)")


def _fetch(version: str, folder: Path) -> None:
    command = [_maven(), "-B", "-q", "-ntp", "-f", str(_POM), f"-Dkafka.version={version}"]
    done = run(
        [*command, "dependency:copy-dependencies", f"-DoutputDirectory={folder}"],
        within_s=_FETCH_S,
        late=f"Maven did not fetch Kafka {version}",
    )
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        raise ServerUnavailable(f"Maven could not fetch Kafka {version}: {' '.join(said[:1])[:500]}")
