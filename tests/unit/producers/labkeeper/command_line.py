"""Runs the command line in this process, from parsing to exit code."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from pipeline.command import run
from producers.labkeeper.__main__ import umbrella


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str
    raw: bytes = b""

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def labkeeper(*arguments: str, answer: str = "", **environment: str) -> Result:
    """Run `labkeeper ARGUMENTS`, with `answer` typed in and no other LABKEEPER variables than those given."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("LABKEEPER_")}
    runner = CliRunner()
    with runner.isolation(input=answer, env={**clean, **environment}) as (out, err, _):
        try:
            run(umbrella, arguments, name="labkeeper")
        except SystemExit as ended:
            code = ended.code
        assert isinstance(code, int)
        return Result(
            code, out.getvalue().decode().replace("\r\n", "\n"), err.getvalue().decode(), out.getvalue()
        )


async def labkeeper_beside(*arguments: str, answer: str = "", **environment: str) -> Result:
    """The same beside a server that runs in this event loop."""
    return await asyncio.to_thread(labkeeper, *arguments, answer=answer, **environment)
