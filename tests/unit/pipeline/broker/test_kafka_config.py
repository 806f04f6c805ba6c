"""The file of properties that says how to reach a Kafka cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.broker.kafka_config import read_kafka_settings
from pipeline.errors import Misconfigured
from pipeline.settings import KafkaSettings, SaslMechanism


def _file(folder: Path, text: str) -> Path:
    path = folder / "kafka.properties"
    path.write_text(text, "utf-8")
    return path


def test_without_a_file_there_is_a_broker_on_this_host() -> None:
    assert read_kafka_settings(None) == KafkaSettings(servers=("localhost:9092",))


def test_a_file_as_kcat_reads_it_is_understood(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    path = _file(
        tmp_path,
        """
        # the lab's cluster
        metadata.broker.list = kafka-1:9093, kafka-2:9093
        security.protocol=sasl_ssl
        sasl.mechanisms=SCRAM-SHA-512
        sasl.username=labkeeper
        sasl.password= a=b #c
        ssl.ca.location=ca.pem
        """,
    )
    settings = read_kafka_settings(path)
    assert settings == KafkaSettings(
        servers=("kafka-1:9093", "kafka-2:9093"),
        tls=True,
        ca_file=tmp_path / "ca.pem",
        mechanism=SaslMechanism.SCRAM_SHA_512,
        username="labkeeper",
        password="a=b #c",
    )
    assert "a=b" not in repr(settings)


def test_servers_on_the_command_line_beat_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "bootstrap.servers=old:9092")
    assert read_kafka_settings(path, servers="[::1]:9092,b:1").servers == ("[::1]:9092", "b:1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("acks=0", "line 1: unknown key 'acks'; there are bootstrap.servers,"),
        ("\nbootstrap.servers", "line 2: expected KEY=VALUE"),
        ("security.protocol=TLS", "security.protocol is 'TLS'; it takes PLAINTEXT,"),
        ("security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI", "sasl.mechanism is 'GSSAPI'; it takes PLAIN,"),
        ("security.protocol=SASL_SSL\nsasl.username=me", "SASL needs sasl.username and sasl.password"),
        ("sasl.username=me", "has no effect without security.protocol"),
        ("ssl.ca.location=none.pem", "none.pem, and there is no such file"),
        ("bootstrap.servers=kafka-1", "'kafka-1' is not the address of a Kafka broker"),
        ("bootstrap.servers=kafka-1:70000", "'kafka-1:70000' is not the address of a Kafka broker"),
        ("bootstrap.servers=,", "no Kafka broker is named"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_kafka_settings(_file(tmp_path, text))
    assert told in str(refused.value)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*nowhere"):
        read_kafka_settings(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="is not a text file in UTF-8"):
        read_kafka_settings(tmp_path / "binary")
