"""Where the deployment's files are, and the command lines in them tried on our own command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from producers.labkeeper.__main__ import umbrella

ROOT: Final = Path(__file__).parents[2]
INFRA: Final = ROOT / "infra"


def complaint_about(arguments: Sequence[str]) -> str:
    """What `labkeeper` has against these arguments; empty when it knows the command and every option."""
    result = CliRunner().invoke(umbrella, [*arguments, "--help"])
    return "" if result.exit_code == 0 else result.output
