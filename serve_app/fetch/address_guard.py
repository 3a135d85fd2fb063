"""Restricts the addresses that an HTTP client may connect to, at connect time.

Checking a host name beforehand is not enough: the name may resolve to another address when the connection is made (DNS
rebinding). Therefore the network backend resolves the name once, checks all its addresses, and connects to one of them.
This covers every connection, including those after redirects.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import cache

import httpcore
import httpx

from serve_app.fetch.addresses import Address, is_permitted
from serve_app.settings import AddressSettings

Resolver = Callable[[str, int], Awaitable[list[str]]]
Permission = Callable[[Address], bool]


class AddressGuardError(Exception):
    """A connection was not attempted. httpx passes these exceptions on unchanged."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


class HostNotFound(AddressGuardError):
    """The name `host` does not resolve."""


class AddressRefused(AddressGuardError):
    """An address of `host` is not permitted."""


class PortRefused(AddressGuardError):
    """The port is not permitted."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host)
        self.port = port


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, by the system's resolver. Raises `OSError` if there are none."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to a host only if `permitted` accepts all its addresses, and on `ports` only, if there are any.

    Raises `AddressGuardError` otherwise.
    """

    def __init__(
        self, permitted: Permission, resolver: Resolver = resolve, ports: Collection[int] | None = None
    ) -> None:
        self._permitted = permitted
        self._ports = ports
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
        if self._ports is not None and port not in self._ports:
            raise PortRefused(host, port)
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
            raise HostNotFound(host) from error
        if not all(self._permitted(ipaddress.ip_address(address.partition("%")[0])) for address in addresses):
            raise AddressRefused(host)
        return addresses


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport with a guarded backend, for which httpx has no argument."""

    def __init__(self, backend: GuardedBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(), max_keepalive_connections=0, network_backend=backend
        )


@cache
def _tls() -> ssl.SSLContext:
    """The TLS context, cached: loading the certificates takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)


def guarded_backend(settings: AddressSettings) -> GuardedBackend:
    """A backend that connects to what `settings` permit."""
    return GuardedBackend(lambda address: is_permitted(address, settings), ports=settings.ports)


def guarded_client(
    backend: GuardedBackend, timeout: httpx.Timeout, headers: Mapping[str, str]
) -> httpx.AsyncClient:
    """An HTTP client for one request to an untrusted URL.

    It follows no redirect by itself: httpx would read and decode the redirect's body, whatever its size. It ignores
    proxies set in the environment: behind a proxy, the final address could not be checked.
    """
    return httpx.AsyncClient(
        transport=_GuardedTransport(backend),
        timeout=timeout,
        headers=headers,
        trust_env=False,
    )
