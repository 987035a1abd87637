"""The certificate authority of a cluster, and what it certifies: which node holds a key, nothing else.

Keys are on the curve P-256. Certificates do not end within a lifetime, since a clock that is years off must not stop a
cluster; what ends trust in a node is its removal, which the members judge themselves.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gavel.errors import BadRequest, Untrusted
from gavel.runtime.tls import Proven, parse, uri

_FROM: Final = datetime(2020, 1, 1, tzinfo=UTC)
UNTIL: Final = datetime(2120, 1, 1, tzinfo=UTC)


class Authority(NamedTuple):
    """The certificate and the private key of a cluster's authority (PEM)."""

    certificate: bytes
    key: bytes


def found(cluster: bytes, number: int = 1) -> Authority:
    """A new authority for a cluster, the first or a later one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gavel cluster {cluster.hex()} {number}")])
    public = key.public_key()
    certificate = (
        _builder(name, name, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _private(key))


def request() -> tuple[bytes, bytes]:
    """A new private key, and the request to certify it (both PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return _private(key), wanted.public_bytes(serialization.Encoding.PEM)


def certify(authority: Authority, wanted: bytes, who: Proven, until: datetime = UNTIL) -> bytes:
    """The certificate (PEM) that this node holds the key of a request; raises BadRequest for one that is none."""
    try:
        found = x509.load_pem_x509_csr(wanted)
        public = found.public_key()
    except ValueError as problem:
        raise BadRequest(f"this is no request for a certificate ({problem}); send one made by `gavel`") from None
    if not found.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadRequest("the request for a certificate is not signed by its own key; send one made by `gavel`")
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gavel {who.role.name.lower()} {who.node}")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri(who))])
    certificate = (
        _builder(issuer.subject, name, public, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(names, critical=False)
        .add_extension(_issuer_id(issuer), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def split(certificates: bytes) -> list[bytes]:
    """The certificates of a file (PEM) one by one."""
    mark = b"-----END CERTIFICATE-----"
    return [part.lstrip() + mark + b"\n" for part in certificates.split(mark)[:-1]]


def number(certificates: bytes) -> int:
    """Which authority of its cluster the first one of a file (PEM) is; raises BadRequest."""
    try:
        name = x509.load_pem_x509_certificate(certificates).subject.rfc4514_string()
    except ValueError as problem:
        raise BadRequest(f"this is no certificate of an authority ({problem}); put back what was there") from None
    found = re.search(r" (\d{1,9})$", name)
    return int(found[1]) if found else 1


def is_key_of(key: bytes, certificate: bytes) -> bool:
    """Whether a private key is that of a certificate (both PEM)."""
    own = serialization.load_pem_private_key(key, None).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = x509.load_pem_x509_certificate(certificate).public_key()
    raw = serialization.Encoding.DER
    return own.public_bytes(raw, form) == public.public_bytes(raw, form)


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a certificate (PEM): what a token pins; raises BadRequest."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError as problem:
        raise BadRequest(f"this is no certificate ({problem})") from None
    return hashlib.sha256(found.public_bytes(serialization.Encoding.DER)).digest()


def key_digest(wanted: bytes) -> bytes:
    """What tells the key of a request from all others; raises BadRequest."""
    try:
        public = x509.load_pem_x509_csr(wanted).public_key()
    except ValueError as problem:
        raise BadRequest(f"this is no request for a certificate ({problem}); send one made by `gavel`") from None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).digest()


def holder(certificate: bytes) -> Proven:
    """Who a certificate (PEM or DER) is for; raises Untrusted. Whether it is to be believed is another question."""
    try:
        load = x509.load_pem_x509_certificate if certificate.startswith(b"-----") else x509.load_der_x509_certificate
        names = load(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return parse(name)
    except (ValueError, KeyError, x509.ExtensionNotFound) as problem:
        raise Untrusted("a peer", f"its certificate names no node of a cluster ({problem})") from None


def issued(certificate: bytes, authority: bytes) -> bool:
    """Whether an authority (PEM) has issued a certificate (DER)."""
    try:
        leaf, issuer = x509.load_der_x509_certificate(certificate), x509.load_pem_x509_certificate(authority)
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def ends(certificate: bytes) -> int:
    """When a certificate (PEM) ends, seconds since 1970."""
    return int(x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp())


def _builder(
    issuer: x509.Name, name: x509.Name, public: ec.EllipticCurvePublicKey, until: datetime = UNTIL
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _issuer_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
