"""Which addresses a fetch may connect to, decided at connect time.

Checking a host name beforehand is not enough: the name may resolve to another address when the connection is
made (DNS rebinding). So the network backend below resolves the name once, checks every address that came out,
and connects to one of exactly these. It sees each connection, those after redirects included.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable

import httpcore
import httpx

from serve_app.errors import DownloadFailed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]
Permission = Callable[[Address], bool]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether `address` lies on the public internet, looking through IPv6 forms that carry an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address.teredo:
            carried = address.teredo[1]
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(carried)
    return address.is_global and not address.is_multicast


def anywhere(address: Address) -> bool:
    """Permits every address: for services whose users may read the private network."""
    return True


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host` from the system's resolver; `OSError` when there are none."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects only where `permitted` says yes for every address of the host."""

    def __init__(self, permitted: Permission, resolver: Resolver = resolve) -> None:
        self._permitted = permitted
        self._resolve = resolver
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._addresses(host, port, timeout)
        for address in addresses[:-1]:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int, limit: float | None) -> list[str]:
        try:
            async with asyncio.timeout(limit):
                addresses = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"resolving {host}") from error
        except (OSError, UnicodeError) as error:
            raise DownloadFailed(
                f"Could not download the video: the host name {host!r} cannot be resolved. Check video_url."
            ) from error
        if not all(self._permitted(ipaddress.ip_address(address.partition("%")[0])) for address in addresses):
            raise DownloadFailed(
                f"Could not download the video: {host!r} is not on the public internet, and this service does "
                "not read from private addresses. Use a public URL or a data URI, or let the operator allow it."
            )
        return addresses


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a connection pool with a guarded backend (httpx has no argument for it)."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, context: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, max_keepalive_connections=0, network_backend=backend
        )
