"""TLS over cooperative sockets.

The standard SSLSocket does all the work. Its native object is put behind a proxy that parks in the
hub where the native one says that it wants to read or write; everything above stays as it is.
"""

from __future__ import annotations

import functools
import ssl as _ssl
import sys
import time
import weakref
from collections.abc import Callable

from rgevent import _rgevent
from rgevent.monkey.api import get_original
from rgevent.socket import create_connection, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ = 1
_WRITE = 2

_WANTS = (_ssl.SSLWantReadError, _ssl.SSLWantWriteError)
#: Operations of one connection that may succeed one after the other before others get a turn.
_OPERATIONS_UNTIL_YIELD = 64

_OriginalSSLSocket: Any = get_original("ssl", "SSLSocket")


class _Cooperative:
    """A native TLS object whose operations wait in the hub."""

    __slots__ = ("_busy", "_native", "_owner")

    def __init__(self, native: Any, owner: SSLSocket) -> None:
        self._native = native
        # Weakly, as the native object does: dropping the last reference closes the socket.
        self._owner: Callable[[], Any] = weakref.ref(owner)
        self._busy = 0

    def do_handshake(self) -> None:
        self._repeat("handshake", self._native.do_handshake)

    def read(self, *args: Any) -> Any:
        return self._repeat("read", self._native.read, *args)

    def write(self, *args: Any) -> Any:
        return self._repeat("write", self._native.write, *args)

    def shutdown(self) -> Any:
        return self._repeat("shutdown", self._native.shutdown)

    @property
    def context(self) -> Any:
        return self._native.context

    @context.setter
    def context(self, value: Any) -> None:
        self._native.context = value

    @property
    def session(self) -> Any:
        return self._native.session

    @session.setter
    def session(self, value: Any) -> None:
        self._native.session = value

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._native, name)
        if name == "sendfile":  # Only where the kernel does the encryption.
            return functools.partial(self._repeat, "sendfile", found)
        return found

    def _repeat(self, name: str, operation: Callable[..., Any], *args: Any) -> Any:
        """Try again after each wait; the socket's timeout is for the whole of it."""
        self._busy += 1
        if self._busy >= _OPERATIONS_UNTIL_YIELD:
            self._give_way()
        limit: float | None = None
        while True:
            try:
                return operation(*args)
            except _WANTS as problem:
                owner = self._owner()
                timeout = owner.gettimeout()
                if timeout == 0.0:
                    raise
                events = _READ if isinstance(problem, _ssl.SSLWantReadError) else _WRITE
            self._busy = 0
            try:
                if timeout is None:
                    owner._wait(events)
                elif limit is None:
                    limit = time.monotonic() + timeout
                    owner._wait(events)
                elif not _rgevent.wait_fd(
                    owner.fileno(), events, max(limit - time.monotonic(), 0.0)
                ):
                    raise TimeoutError
            except TimeoutError:
                message = f"The {name} operation timed out"
                raise TimeoutError(message) from None

    def _give_way(self) -> None:
        """Let others run: before an operation, so that an exception now loses no data."""
        self._busy = 0
        if self._owner().gettimeout() == 0.0:
            return
        if _rgevent.getcurrent() is not _rgevent.get_hub_if_exists():
            _rgevent.sleep(0)


class SSLSocket(_OriginalSSLSocket, socket):  # type: ignore[misc]
    """A TLS socket whose operations let other greenlets run."""

    # The standard class keeps the native object under this name.
    @property
    def _sslobj(self) -> Any:
        return self.__dict__.get("_tls")

    @_sslobj.setter
    def _sslobj(self, native: Any) -> None:
        self.__dict__["_tls"] = None if native is None else _Cooperative(native, self)


class SSLContext(_ssl.SSLContext):
    """The standard context, with cooperative sockets. Patching does not need it."""

    sslsocket_class = SSLSocket


def create_default_context(*args: Any, **kwargs: Any) -> Any:
    """As ssl.create_default_context, with cooperative sockets."""
    context: Any = _ssl.create_default_context(*args, **kwargs)
    context.sslsocket_class = SSLSocket
    return context


def get_server_certificate(
    addr: tuple[str, int],
    ssl_version: int = _ssl.PROTOCOL_TLS_CLIENT,
    ca_certs: str | None = None,
    timeout: Any = None,
) -> str:
    """The certificate of the server at (host, port), as PEM.

    It is verified only when ca_certs, a file, is given. timeout is in seconds, for the connection
    and each step on it.
    """
    context = SSLContext(ssl_version)
    context.check_hostname = False
    context.verify_mode = _ssl.CERT_NONE if ca_certs is None else _ssl.CERT_REQUIRED
    if ca_certs is not None:
        context.load_verify_locations(ca_certs)
    with (
        create_connection(addr, timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=addr[0]) as tls,
    ):
        certificate = tls.getpeercert(True)
    if certificate is None:
        message = "the server sent no certificate"
        raise _ssl.SSLError(message)
    return _ssl.DER_cert_to_PEM_cert(certificate)


#: What differs from the standard module. Patching sets SSLContext.sslsocket_class and no more.
__implements__ = ["SSLContext", "SSLSocket", "create_default_context", "get_server_certificate"]

for _name in dir(_ssl):
    # wrap_socket, which 3.12 removed, makes contexts of its own.
    if not _name.startswith("_") and _name not in globals() and _name != "wrap_socket":
        setattr(sys.modules[__name__], _name, getattr(_ssl, _name))
