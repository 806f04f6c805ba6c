"""The policy file while the watchdog runs: a bad one changes nothing, and shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.watchdog.policy_source import PolicySource
from pipeline.errors import Misconfigured
from pipeline.metrics import HEALING_POLICY_BAD

GOOD = "{pools: {Lab: {attempts: 3}}}"


def is_bad() -> bool:
    return bool(HEALING_POLICY_BAD._value.get())


@pytest.mark.parametrize("bad", ["{", "{pools: {Lab: {tries: 3}}}", "{pools: {Lab: {attempts: 1}, Lab: {}}}"])
@pytest.mark.parametrize("mended", [GOOD, "{pools: {Lab: {attempts: 4}}}"], ids=["put back", "another"])
def test_a_bad_file_leaves_the_one_before_in_force_and_shows_until_it_is_mended(
    tmp_path: Path, bad: str, mended: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "healing.json5"
    path.write_text(GOOD)
    source = PolicySource(path)
    before = source.policies
    source.refresh()
    assert not is_bad()

    path.write_text(bad)
    for _ in range(2):
        source.refresh()
        assert is_bad()
    assert source.policies == before

    path.write_text(mended)
    source.refresh()
    assert not is_bad()
    assert (source.policies == before) is (mended == GOOD)
    said = [word for word in capsys.readouterr().out.split() if word.startswith("heal_policy_")]
    assert said == ["heal_policy_refused", "heal_policy_loaded"]


def test_a_file_that_is_gone_shows_as_well(tmp_path: Path) -> None:
    path = tmp_path / "healing.json5"
    path.write_text(GOOD)
    source = PolicySource(path)
    path.unlink()
    source.refresh()
    assert is_bad()
    path.write_text(GOOD)
    source.refresh()
    assert not is_bad()


def test_a_watchdog_does_not_begin_with_a_pool_that_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "healing.json5"
    path.write_text("{pools: {\n  Lab: {},\n  Lab: {enabled: false}}}")
    with pytest.raises(Misconfigured, match=r"line 3: pools\.Lab stands on line 2, too"):
        PolicySource(path)
