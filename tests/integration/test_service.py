"""How a process starts, stops and explains itself: real processes, real signals, a real pipe."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from infra.servers.child import free_ports
from pipeline.service import LIFELINE_VARIABLE

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60

PROGRAM = """
import asyncio, click, sys, time
from pipeline import command as commands
from pipeline import service
from pipeline.errors import Misconfigured, StoreUnavailable
from pipeline.service import serve

@click.command()
@click.option("--fail")
@commands.service_options
def command(fail, **options):
    async def work(stop):
        print("working", flush=True)
        if fail == "unreachable":
            raise StoreUnavailable("the database is away: start it")
        if fail == "misconfigured":
            raise Misconfigured("the file is missing: make one")
        if fail == "hang":
            service.HANGS_AFTER_S = 0.2
            time.sleep(600)
        await stop.wait()
        print("drained", flush=True)
    serve("test", work, commands.service_settings(**options))

commands.run(command)
"""


@contextmanager
def started(*arguments: str, lifeline: int | None = None) -> Iterator[subprocess.Popen[str]]:
    environment = dict(os.environ) if lifeline is None else {**os.environ, LIFELINE_VARIABLE: str(lifeline)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=() if lifeline is None else (lifeline,),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_working(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_process_drain_and_end_well(number: signal.Signals) -> None:
    with started() as process:
        until_working(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)

    assert out == "drained\n"
    assert process.returncode == 0
    assert "Traceback" not in err


def test_a_process_ends_when_the_one_that_started_it_is_gone() -> None:
    reading, writing = os.pipe()
    with started(lifeline=reading) as process:
        os.close(reading)
        until_working(process)
        os.close(writing)
        out, _ = process.communicate(timeout=PATIENCE_S)

    assert (out, process.returncode) == ("drained\n", 0)


@pytest.mark.parametrize(
    ("fail", "code", "sentence"),
    [
        ("unreachable", 7, "labkeeper: the database is away: start it\n"),
        ("misconfigured", 2, "labkeeper: the file is missing: make one\n"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(fail: str, code: int, sentence: str) -> None:
    with started("--fail", fail, "--log-level", "error") as process:
        _, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err) == (code, sentence)


def test_a_taken_metrics_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started("--metrics-port", str(port), "--log-level", "error") as process:
            _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert err.startswith(f"labkeeper: cannot serve metrics on 127.0.0.1:{port}")
    assert "choose another --metrics-port" in err
    assert err.count("\n") == 1


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def silence_told(port: int) -> float:
    [line] = re.findall(
        r"^labkeeper_event_loop_silence_seconds (.+)$", get(port, "/metrics")[1], re.MULTILINE
    )
    return float(line)


def test_the_metrics_port_says_that_the_loop_turns() -> None:
    [port] = free_ports(1)
    with started("--metrics-port", str(port)) as process:
        until_working(process)

        assert get(port, "/healthz") == (200, "ok\n")
        assert silence_told(port) < 10


def test_a_process_that_hangs_says_so_though_its_metrics_can_still_be_read() -> None:
    [port] = free_ports(1)
    with started("--metrics-port", str(port), "--fail", "hang") as process:
        until_working(process)
        deadline = time.monotonic() + PATIENCE_S
        while (answer := get(port, "/healthz"))[0] == 200:
            assert time.monotonic() < deadline

        assert answer[0] == 503
        assert answer[1].startswith("the event loop has not turned for ")
        assert silence_told(port) > 0.2


def test_a_wrong_option_is_a_usage_error() -> None:
    with started("--log-format", "morse") as process:
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert "morse" in err
