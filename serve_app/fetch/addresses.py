"""Which addresses are on the public internet: one table, independent of the version of Python.

Sources: IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates), RFC 4291, and the documentation
of the cloud providers for the addresses of their metadata services.
"""

from __future__ import annotations

import ipaddress

from serve_app.settings import AddressSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host on this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared address space of carriers, and of some clouds' metadata services
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure: the host's agent, from every virtual machine
        "169.254.0.0/16",  # link-local, and most clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, Oracle's metadata service among them
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (
    0x5EFE  # the upper half of an interface identifier that embeds an IPv4 address, but for two bits of it
)
_ISATAP_MASK = 0xFDFF_FFFF


def is_public(address: Address) -> bool:
    """Whether `address` is on the public internet.

    Of an IPv4-mapped or NAT64 address, the embedded IPv4 address decides: sockets and gateways connect to that one.
    Other ways to embed one (compatible, translated, 6to4, Teredo, ISATAP, local NAT64) are not needed and never public.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    isatap = int(address) >> 32 & _ISATAP_MASK == _ISATAP
    return (
        address in _GLOBAL_UNICAST
        and not isatap
        and not any(address in network for network in _NOT_PUBLIC_V6)
    )


def is_permitted(address: Address, settings: AddressSettings) -> bool:
    """Whether a connection to `address` may be made: what `deny` names never, what `allow` names always."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in settings.deny):
        return False
    return (
        settings.allow_private or is_public(address) or any(address in network for network in settings.allow)
    )
