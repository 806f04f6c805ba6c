"""Programs in Go that the tests need: built from their sources when the cache has none of just these."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from infra.servers.cache import cache_folder, cached
from infra.servers.errors import ServerUnavailable
from infra.servers.tool import run, tool

_SOURCES: Final = ("go.mod", "go.sum", "main.go")
_BUILD_S: Final = 840


def go_program(name: str, folder: Path) -> Path:
    """The program made of the three files in `folder`. Raises `ServerUnavailable` when it cannot be built."""
    return cached(_cached_name(name, folder), lambda target: _build(folder, target / name)) / name


def check_go_program(name: str, folder: Path) -> None:
    """Raises `ServerUnavailable` when `go_program` would have to build and there is no Go; builds nothing."""
    if not (cache_folder() / _cached_name(name, folder)).exists():
        _go()


def _cached_name(name: str, folder: Path) -> str:
    sources = hashlib.sha256(b"".join((folder / file).read_bytes() for file in _SOURCES)).hexdigest()[:8]
    return f"{name}-{sources}"


def _go() -> str:
    return tool("go", "there is no Go to build it with: install Go 1.26 or newer")


def _build(source: Path, program: Path) -> None:
    build = ["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", str(program), "."]
    done = run([_go(), *build], within_s=_BUILD_S, late="Go did not build it", folder=source)
    if done.returncode != 0:
        raise ServerUnavailable(
            f"Go (1.26 or newer is needed) cannot build it: {' '.join(done.stderr.split())[:500]}"
        )
