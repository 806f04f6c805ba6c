"""How messages are put into requests to Pub/Sub."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.broker.pubsub_publisher import Publisher
from pipeline.broker.pubsub_service import Method, Service
from pipeline.broker.pubsub_wire import PubsubMessage
from pipeline.errors import BrokerUnavailable
from pipeline.settings import PubsubSettings


class SlowService(Service):
    """Notes the requests, and answers one after the other when told to."""

    def __init__(self) -> None:
        super().__init__(PubsubSettings("lab"))
        self.requests: list[list[bytes]] = []
        self.go_on = asyncio.Event()
        self.at_once = 0
        self.fails = False

    async def call(self, method: Method, **fields: Any) -> None:
        self.requests.append([message.data for message in fields["messages"]])
        self.at_once += 1
        assert self.at_once == 1
        await self.go_on.wait()
        self.at_once -= 1
        if self.fails:
            raise BrokerUnavailable("away")


def message(number: int, size: int = 0) -> Any:
    return PubsubMessage(data=b"%d" % number + bytes(size), ordering_key="0")


async def test_what_waits_while_a_request_is_under_way_goes_out_together() -> None:
    service = SlowService()
    publisher = Publisher(service)
    first = asyncio.create_task(publisher.publish("t", [message(0)]))
    while not service.requests:
        await asyncio.sleep(0)
    others = [asyncio.create_task(publisher.publish("t", [message(number)])) for number in range(1, 5)]
    await asyncio.sleep(0)
    service.go_on.set()
    await asyncio.gather(first, *others)
    assert service.requests == [[b"0"], [b"1", b"2", b"3", b"4"]]
    await publisher.close()


async def test_requests_stay_within_the_limits_and_in_order() -> None:
    service = SlowService()
    service.go_on.set()
    publisher = Publisher(service)
    await publisher.publish("t", [message(number) for number in range(2500)])
    await publisher.publish("t", [message(number, 4_000_000) for number in range(5)])
    assert [len(request) for request in service.requests] == [1000, 1000, 500, 2, 2, 1]
    numbers = [int(data.rstrip(b"\0")) for request in service.requests for data in request]
    assert numbers == [*range(2500), *range(5)]
    await publisher.close()


async def test_after_a_failure_the_rest_of_a_call_is_not_sent_and_others_are() -> None:
    service = SlowService()
    service.go_on.set()
    service.fails = True
    publisher = Publisher(service)
    with pytest.raises(BrokerUnavailable, match="away"):
        await publisher.publish("t", [message(number) for number in range(1500)])
    assert [len(request) for request in service.requests] == [1000]
    service.fails = False
    await publisher.publish("t", [message(7)])
    assert service.requests[-1] == [b"7"]
    await publisher.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await publisher.publish("t", [message(8)])


async def test_a_caller_that_goes_away_takes_nobodys_messages_along() -> None:
    service = SlowService()
    publisher = Publisher(service)
    tasks = [asyncio.create_task(publisher.publish("t", [message(number)])) for number in range(3)]
    while not service.requests:
        await asyncio.sleep(0)
    tasks[0].cancel()
    service.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None, None]
    assert sorted(data for request in service.requests for data in request) == [b"0", b"1", b"2"]
    await publisher.close()
