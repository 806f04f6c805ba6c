"""The file of properties that says how to reach a Kafka cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.broker.kafka_config import read_config
from pipeline.errors import Misconfigured
from pipeline.settings import KafkaSettings, SaslMechanism


def _file(folder: Path, text: str) -> Path:
    path = folder / "kafka.properties"
    path.write_text(text, "utf-8")
    return path


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
    settings = read_config(path)
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
    assert read_config(path, servers=["[::1]:9092,b:1", "c"]).servers == ("[::1]:9092", "b:1", "c:9092")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("acks=0", ":1: unknown key 'acks'; known are bootstrap.servers,"),
        ("\nbootstrap.servers", ":2: a line looks like key=value"),
        ("bootstrap.servers=a:1\nmetadata.broker.list=b:1", ":2: bootstrap.servers is given twice, first in"),
        ("security.protocol=TLS", ":1: unknown security.protocol 'TLS'; known are PLAINTEXT,"),
        ("security.protocol=SASL_SSL", ":1: SASL needs sasl.mechanism: one of PLAIN,"),
        ("security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI", ":2: unknown sasl.mechanism 'GSSAPI'"),
        ("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=me", "needs sasl.password"),
        ("sasl.username=me", ":1: sasl.username counts only with security.protocol=SASL_SSL"),
        ("security.protocol=SSL\nssl.ca.location=none.pem", ":2: there is no file"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_config(_file(tmp_path, text), servers=["kafka-1"])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bootstrap.servers=kafka-1:70000", ":1: 'kafka-1:70000' is no address of a Kafka server"),
        ("bootstrap.servers=,", ":1: no Kafka server is named"),
        ("# nothing", "bootstrap.servers is missing"),
    ],
)
def test_somebody_has_to_name_a_server(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_config(_file(tmp_path, text))
    assert told in str(refused.value)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*nowhere"):
        read_config(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="is not a text file in UTF-8"):
        read_config(tmp_path / "binary")
