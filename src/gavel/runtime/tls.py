"""TLS 1.3 both ways: every node proves by a certificate of the cluster's authority who it is.

The certificate names the node in a URI, `gavel://CLUSTER/ROLE/NODE`; host names and addresses mean nothing, so that a
node may move. What speaks is chosen by ALPN: the wire, or the door for those who have no certificate yet.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, NamedTuple

from gavel.errors import GavelError, Unreachable, Untrusted
from gavel.wire.messages import Greeting, Role

WIRE: Final = "gavel-wire"
JOIN: Final = "gavel-join"


class Material(NamedTuple):
    """The files of a node's identity: its certificate and private key in one, the authorities it trusts (all PEM)."""

    certificate: Path
    authorities: Path


class Proven(NamedTuple):
    """Who a certificate says that its holder is."""

    cluster: bytes
    role: Role
    node: int


def uri(who: Proven) -> str:
    """The name of a node in its certificate."""
    return f"gavel://{who.cluster.hex()}/{who.role.name.lower()}/{who.node}"


def parse(name: str) -> Proven:
    """The node that a URI names; raises ValueError."""
    scheme, cluster, role, node = name.replace("://", "/").split("/")
    if scheme != "gavel" or len(cluster) != 32:
        raise ValueError(name)
    return Proven(bytes.fromhex(cluster), Role[role.upper()], int(node))


def listening(material: Material) -> ssl.SSLContext:
    """What a listener needs. Those without a certificate get as far as the door for joining."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # links live long; nothing is resumed
    context.set_alpn_protocols([WIRE, JOIN])
    return reload(context, material)


def dialling(material: Material) -> ssl.SSLContext:
    """What a dialler needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([WIRE])
    return reload(context, material)


def reload(context: ssl.SSLContext, material: Material) -> ssl.SSLContext:
    """Have a context use what the files hold now, for handshakes to come; raises Untrusted."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(material.certificate)
        context.load_verify_locations(material.authorities)
    except (OSError, ssl.SSLError) as problem:
        raise Untrusted("itself", f"{material.certificate.parent} holds no usable identity ({problem})") from None
    return context


def chosen(transport_ssl: ssl.SSLObject | None) -> str:
    """What the two sides have agreed to speak."""
    return WIRE if transport_ssl is None else transport_ssl.selected_alpn_protocol() or ""


def proven(transport_ssl: ssl.SSLObject | None) -> Proven | None:
    """Who the other side has proved to be; None without TLS. Raises Untrusted for one without a name."""
    if transport_ssl is None:
        return None
    certificate = transport_ssl.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    for kind, name in names if isinstance(names, tuple) else ():
        if kind == "URI":
            try:
                return parse(str(name))
            except (ValueError, KeyError):
                continue
    raise Untrusted("a peer", "it has no certificate of this cluster")


def mismatch(where: str, shown: Proven | None, peer: Greeting) -> Untrusted | None:
    """What is wrong about a greeting for somebody with this certificate.

    Whoever has become a master, or ceased to be one, keeps the certificate; but a client never passes for a member.
    """
    if shown is None:
        return None
    member = peer.role != Role.CLIENT
    if shown.cluster != peer.cluster or shown.node != peer.node or member != (shown.role != Role.CLIENT):
        return Untrusted(where, f"it says that it is node {peer.node}, its certificate is that of {uri(shown)}")
    return None


def ends(transport_ssl: ssl.SSLObject | None) -> int:
    """When the certificate of the other side ends, seconds since 1970; 0 without TLS."""
    until = None if transport_ssl is None else (transport_ssl.getpeercert() or {}).get("notAfter")
    return ssl.cert_time_to_seconds(until) if isinstance(until, str) else 0


_TIME_CODES: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def explained(where: str, problem: Exception) -> GavelError:
    """What a failure of a transport means."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        if problem.verify_code in _TIME_CODES:
            return Untrusted(
                where,
                f"its {problem.verify_message}, by this machine's clock: set the clock, or have it renewed there by "
                "`gavel cluster rotate DIR`",
            )
        return Untrusted(where, f"its certificate was not issued by this cluster ({problem.verify_message})")
    if isinstance(problem, ssl.SSLError) and "alert" in str(problem).lower():
        return Untrusted(where, f"it does not take this node's certificate ({problem.reason})")
    if isinstance(problem, TimeoutError):
        return Unreachable(where, "no answer")
    return Unreachable(where, getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
