"""Fake command-line tools: real executables, on a PATH of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


class Toolbox:
    """A folder of scripts, and the environment in which they are found before anything else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.calls_file = folder / "calls"

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PATH": f"{self._folder}:/usr/bin:/bin"}

    def add(self, name: str, script: str) -> None:
        """A tool that notes how it was called, then does what the shell script says."""
        path = self._folder / name
        path.write_text(f"#!/bin/sh\necho \"{name} $*\" >> '{self.calls_file}'\n{script}\n")
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Command lines so far."""
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
