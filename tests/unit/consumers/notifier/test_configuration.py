"""The notifier's file: what is wrong is named by its key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from consumers.notifier import configuration
from consumers.notifier.configuration import Secret, read_configuration
from consumers.notifier.notices import Notice, NoticeKind
from pipeline.errors import Misconfigured
from tests.unit.consumers.notifier.lab import NOON, configured

MAIL_IN_THE_CLEAR = (
    "{to: ['a@b'], from: 'c@d', server: 's:25', user: 'u', password_env: 'P', security: 'none'}"
)
SLACK = '{slack: {url_env: "URL"}}'


def read(tmp_path: Path, text: str) -> configuration.Configuration:
    path = tmp_path / "notifier.json5"
    path.write_text(text)
    return read_configuration(path)


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    example = re.search(r"\n    \{\n.*?\n    \}\n", configuration.__doc__ or "", re.DOTALL)
    assert example is not None
    found = read(tmp_path, example[0])
    assert sorted(found.channels) == ["mail", "phones", "tickets"]
    assert len(found.routes) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "{channels: {a: " + SLACK + ", a: " + SLACK + "}, routes: [{channels: ['a']}]}",
            r"notifier\.json5, line 1: channels\.a stands on line 1, too",
        ),
        ("{channels: {}, routes: []}", r"notifier\.json5: channels: .*routes: "),
        (
            "{channels: {a: " + SLACK + "}, routes: [{channels: ['b']}]}",
            "routes.0: there is no channel 'b'; there are a",
        ),
        (
            "{channels: {a: " + SLACK + "}, routes: [{channels: ['a'], kind: ['down']}]}",
            r"routes\.0\.kind: there is no such key",
        ),
        (
            "{channels: {a: " + SLACK + "}, routes: [{channels: ['a'], kinds: ['dead']}]}",
            r"routes\.0\.kinds\.0: ",
        ),
        (
            "{channels: {a: {}}, routes: [{channels: ['a']}]}",
            r"channels\.a: say one of webhook, slack and email",
        ),
        (
            "{channels: {a: {webhook: {url: 'https://x'}}}, routes: [{channels: ['a']}]}",
            "needs secret_file or secret_env",
        ),
        (
            "{channels: {a: {slack: {url: 'https://hooks.example/s3cret'}}}, routes: [{channels: ['a']}]}",
            r"channels\.a\.slack: use url_file or url_env in place of url: whoever knows the URL can post$",
        ),
        ("{channels: {a: {slack: {}}}, routes: [{channels: ['a']}]}", "needs url_file or url_env"),
        (
            "{channels: {a: {email: " + MAIL_IN_THE_CLEAR + "}}, routes: [{channels: ['a']}]}",
            "must not travel in the clear",
        ),
        ("[1]", r"notifier\.json5: body: "),
        ("{", r"notifier\.json5, line 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        read(tmp_path, text)


def test_every_route_that_matches_counts_and_each_channel_once() -> None:
    found = configured(
        routes=[
            {"pools": ["Phones"], "channels": ["chat"]},
            {"pools": ["P*"], "kinds": ["down"], "channels": ["mail", "chat"]},
            {"kinds": ["gave_up"], "channels": ["mail"]},
        ]
    )

    def channels(kind: NoticeKind, *pools: str) -> list[str]:
        return list(found.channels_for(Notice(kind=kind, machine_id="m", pools=pools, at=NOON, text="")))

    assert channels(NoticeKind.DOWN, "Phones") == ["chat", "mail"]
    assert channels(NoticeKind.BACK, "Phones") == ["chat"]
    assert channels(NoticeKind.BACK, "Boards") == []
    assert channels(NoticeKind.GAVE_UP) == ["mail"]


def test_a_secret_comes_from_a_file_or_the_environment_and_is_missed_by_name(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" hush \n")
    assert Secret(file=file).read({}, "the key") == "hush"
    assert Secret(variable="KEY").read({"KEY": "hush"}, "the key") == "hush"
    with pytest.raises(Misconfigured, match="the key is empty: put it into KEY"):
        Secret(variable="KEY").read({}, "the key")
    with pytest.raises(Misconfigured, match="cannot read the key"):
        Secret(file=tmp_path / "missing").read({}, "the key")
