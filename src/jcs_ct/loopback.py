"""Whether an address is this machine's own: what may be said in the clear, and who may come without a name."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine (RFC 6761 6.3, RFC 1122 3.2.1.3, RFC 4291 2.5.3).

    Args:
        host: As in an address; an IPv6 one with or without its brackets.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
