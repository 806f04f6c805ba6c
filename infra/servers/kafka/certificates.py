"""Certificates for a Kafka server on loopback and one client of it, signed by an authority made for the purpose."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from infra.servers.child import HOST

CLIENT_NAME: Final = "CN=labkeeper-client"
"""How Kafka names the holder of the client's certificate."""
_CURVE: Final = ec.SECP256R1()
_NOT_BEFORE: Final = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(2049, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM. The keystores hold key and certificate together, as Kafka wants them."""

    ca_file: Path
    server_keystore: Path
    client_certificate: Path
    client_key: Path

    @classmethod
    def issue(cls, folder: Path) -> Self:
        """Make them anew in `folder`."""
        files = cls(*(folder / name for name in ("ca.pem", "server.pem", "client.pem", "client.key")))
        authority = _Authority()
        files.ca_file.write_bytes(_pem(authority.certificate))
        key, certificate = authority.issue("localhost", ("localhost", HOST))
        _write_secret(files.server_keystore, _pem_of_key(key) + _pem(certificate))
        key, certificate = authority.issue(CLIENT_NAME.removeprefix("CN="), ())
        files.client_certificate.write_bytes(_pem(certificate))
        _write_secret(files.client_key, _pem_of_key(key))
        return files


class _Authority:
    def __init__(self) -> None:
        self._key = ec.generate_private_key(_CURVE)
        self._name = _name("Labkeeper test authority")
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name: str, hosts: tuple[str, ...]) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(_CURVE)
        builder = self._builder(_name(name), key.public_key()).add_extension(
            _usage(signs_certificates=False), critical=True
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False
            )
        return key, builder.sign(self._key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(ours, critical=False)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_secret(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
