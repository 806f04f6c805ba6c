"""One question in Kafka's protocol, by hand: which brokers are up. So that starting a server needs no client library."""

from __future__ import annotations

import socket
import struct
from typing import Final

from infra.servers.child import HOST

_METADATA: Final = 3
_VERSION: Final = 0  # understood by every Kafka
_CLIENT: Final = b"labkeeper-start"
_LOOK_S: Final = 2
_MOST_BYTES: Final = 1 << 20


def brokers_seen(port: int) -> set[int]:
    """Ids of the brokers that the one at `port` knows to be up; empty when it does not answer."""
    try:
        with socket.create_connection((HOST, port), _LOOK_S) as connection:
            connection.settimeout(_LOOK_S)
            connection.sendall(_request())
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            return _broker_ids(_exactly(connection, min(size, _MOST_BYTES)))
    except (OSError, struct.error):
        return set()


def _request() -> bytes:
    header = struct.pack(f">hhih{len(_CLIENT)}s", _METADATA, _VERSION, 1, len(_CLIENT), _CLIENT)
    body = struct.pack(">ih3s", 1, 3, b"no!")  # a topic that cannot exist, for none would mean all
    return struct.pack(">i", len(header + body)) + header + body


def _broker_ids(answer: bytes) -> set[int]:
    count, position = *struct.unpack_from(">i", answer, 4), 8
    ids: set[int] = set()
    for _ in range(count):
        node_id, length = struct.unpack_from(">ih", answer, position)
        ids.add(node_id)
        position += 4 + 2 + length + 4
    return ids


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionResetError("the server hung up")
        received += piece
    return received
