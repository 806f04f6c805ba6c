from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

import structlog

from producers.machine_monitor.probes.memory import Remembered
from producers.machine_monitor.probes.protocol import ProbeFailed


class Answers:
    """Gives one answer after the other; an error is raised."""

    def __init__(self, answers: Iterable[str | ProbeFailed]) -> None:
        self._answers: Iterator[str | ProbeFailed] = iter(answers)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        answer = next(self._answers)
        if isinstance(answer, ProbeFailed):
            raise answer
        return answer


class Watch:
    """A clock that stands still until told to move."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def remembered(answers: Answers, watch: Watch) -> Remembered[str]:
    return Remembered("thing", answers, fallback="nothing", period=timedelta(hours=1), monotonic=watch)


async def test_an_answer_is_asked_for_once_in_its_period() -> None:
    answers, watch = Answers(["one", "two"]), Watch()
    fact = remembered(answers, watch)
    assert [await fact.get(), await fact.get()] == ["one", "one"]
    watch.seconds += 3600
    assert await fact.get() == "two"
    assert answers.asked == 2


async def test_a_failure_leaves_the_fallback_and_is_tried_again_sooner() -> None:
    answers, watch = Answers([ProbeFailed("broken"), "one"]), Watch()
    fact = remembered(answers, watch)
    assert [await fact.get(), await fact.get()] == ["nothing", "nothing"]
    watch.seconds += 300
    assert await fact.get() == "one"


async def test_a_later_failure_leaves_the_last_answer() -> None:
    answers, watch = Answers(["one", ProbeFailed("broken")]), Watch()
    fact = remembered(answers, watch)
    await fact.get()
    watch.seconds += 3600
    assert await fact.get() == "one"


async def test_what_cannot_be_told_is_logged_once_for_each_reason_and_is_no_warning() -> None:
    failures = [ProbeFailed(reason) for reason in ("no tool", "no tool", "no answer")]
    answers, watch = Answers(failures), Watch()
    fact = remembered(answers, watch)

    with structlog.testing.capture_logs() as lines:
        for _ in failures:
            await fact.get()
            watch.seconds += 300

    assert answers.asked == 3
    assert [(line["log_level"], line["reason"]) for line in lines] == [
        ("info", "no tool"),
        ("info", "no answer"),
    ]
