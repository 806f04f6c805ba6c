"""Where ssh may be told to connect to."""

from __future__ import annotations

import pytest

from pipeline.processor.ssh_target import is_ssh_target


@pytest.mark.parametrize(
    "text",
    [
        "chrome-bot@1.2.3.4",
        "1.2.3.4",
        "skia-sparky360-03",
        "chrome-bot@skia-sparky360-03",
        "user_with_underscore@1.2.3.4",
        "x",
    ],
)
def test_hosts_with_and_without_a_user_are_taken(text: str) -> None:
    assert is_ssh_target(text)


@pytest.mark.parametrize(
    "text",
    [
        "-oSomeOption=value",
        " -oSomeOption=value",
        "; ls",
        "chrome-bot@1.2.3.4;ls",
        "",
        "host\n",
        "host:22",
        "@host",
        "_host",
        "höst",
        "host$(ls)",
        "fe80::1",
    ],
)
def test_what_could_be_an_option_or_a_command_is_refused(text: str) -> None:
    assert not is_ssh_target(text)
