"""Google's fake Pub/Sub server as tests start it, and in what it is known to differ from the real one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import psutil
import pytest
from google.api_core.exceptions import NotFound
from google.pubsub_v1 import PublisherClient, PubsubMessage, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from infra.servers.pubsub.server import PubsubServer
from tests.e2e.processes import eventually
from tests.servers.kinds import temporary_folder
from tests.servers.pubsub import PUBSUB

pytestmark = pytest.mark.integration

TOPIC = "projects/lab/topics/machine.events"
SUBSCRIPTION = "projects/lab/subscriptions/writer"


@pytest.fixture
def server() -> Iterator[PubsubServer]:
    with PUBSUB.needed(), temporary_folder() as folder, PubsubServer.start(folder) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Client:
    publisher: PublisherClient
    subscriber: SubscriberClient

    def create(self) -> None:
        self.publisher.create_topic(name=TOPIC)
        wanted = {"name": SUBSCRIPTION, "topic": TOPIC, "enable_message_ordering": True}
        self.subscriber.create_subscription(request=wanted)

    def publish(self, *texts: str) -> None:
        messages = [PubsubMessage(data=text.encode(), ordering_key="rack4-07") for text in texts]
        self.publisher.publish(topic=TOPIC, messages=messages)

    def pull(self) -> Sequence[str]:
        """What comes, acknowledged."""
        answer = self.subscriber.pull(subscription=SUBSCRIPTION, max_messages=100, timeout=10)
        ids = [each.ack_id for each in answer.received_messages]
        self.subscriber.acknowledge(subscription=SUBSCRIPTION, ack_ids=ids)
        return [each.message.data.decode() for each in answer.received_messages]


@contextmanager
def client(server: PubsubServer) -> Iterator[Client]:
    with grpc.insecure_channel(server.address) as channel:
        yield Client(
            PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
            SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
        )


def test_of_a_key_it_hands_out_one_message_at_a_time(server: PubsubServer) -> None:
    with client(server) as google:
        google.create()
        google.publish("one", "two", "three")
        assert [google.pull(), google.pull(), google.pull()] == [["one"], ["two"], ["three"]]


def test_it_comes_back_empty_at_the_same_address(server: PubsubServer) -> None:
    before = server.address
    with client(server) as google:
        google.create()
    server.kill()
    server.restart()
    assert server.address == before
    with client(server) as google, pytest.raises(NotFound):
        google.publish("one")


@pytest.fixture
def starter() -> Iterator[subprocess.Popen[str]]:
    with PUBSUB.needed():
        PUBSUB.choice()
    command = [sys.executable, "-m", "infra.servers.pubsub"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export PUBSUB_EMULATOR_HOST=127.0.0.1:")
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_server_whose_starter_ended(
    starter: subprocess.Popen[str], number: signal.Signals
) -> None:
    started = psutil.Process(starter.pid).children(recursive=True)
    assert any("pstest" in process.name() for process in started)
    starter.send_signal(number)
    assert starter.wait(20) == (-number if number is signal.SIGKILL else 0)
    eventually(lambda: not any(map(psutil.Process.is_running, started)), "all of them end", within_s=20)


def test_its_starter_ends_when_the_server_is_killed(starter: subprocess.Popen[str]) -> None:
    for process in psutil.Process(starter.pid).children(recursive=True):
        if "pstest" in process.name():
            process.kill()

    assert starter.wait(20) == 1
