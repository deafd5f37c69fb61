"""Cooperative sockets: the standard module's names, with operations that park in the hub."""

from __future__ import annotations

import _socket
import errno
import os
import socket as _stdlib
import sys
from collections.abc import Iterable

from rgevent import _rgevent, resolver
from rgevent.resolver import getaddrinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

#: The class before any patching; ours is a subclass of it.
_Original: Any = _stdlib.socket if _stdlib.socket.__module__ == "socket" else None

_READ = 1
_WRITE = 2
_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)
_UNSET: Any = object()

_Base: Any = _rgevent.make_socket_type(_Original)


class socket(_Base):  # type: ignore[misc]
    """A socket whose blocking operations let other greenlets run.

    A subclass of the standard socket.socket, with the same methods and errors. The file descriptor
    is always non-blocking; timeouts are kept here.
    """

    __slots__ = ()

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        if fileno is None:
            family = _stdlib.AF_INET if family == -1 else family
            type = _stdlib.SOCK_STREAM if type == -1 else type
        if type != -1:
            type |= _stdlib.SOCK_NONBLOCK
        super().__init__(family, type, proto, fileno)
        _socket.socket.settimeout(self, 0.0)
        self.settimeout(_stdlib.getdefaulttimeout())
        self._attach(_socket.socket.fileno(self))

    def accept(self) -> tuple[socket, Any]:
        """Wait for a connection: (new socket, address)."""
        fd, address = self._accept()
        accepted = socket(self.family, self.type, self.proto, fileno=fd)
        if _stdlib.getdefaulttimeout() is None and self.gettimeout():
            accepted.setblocking(True)
        return accepted, address

    def connect(self, address: Any) -> None:
        """Connect to `address`; host names are looked up without blocking others."""
        if (problem := self._connect(address)) != 0:
            raise OSError(problem, os.strerror(problem))

    def connect_ex(self, address: Any) -> int:
        """As connect, with the error number as the result."""
        try:
            return self._connect(address)
        except TimeoutError:
            return errno.EAGAIN
        except _stdlib.gaierror:
            raise
        except OSError as problem:
            return problem.errno or errno.EIO

    def _connect(self, address: Any) -> int:
        problem: int = super().connect_ex(self._resolved(address))
        if problem in _IN_PROGRESS and self.gettimeout() != 0.0:
            self._wait(_WRITE)
            problem = self.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_ERROR)
        return 0 if problem == errno.EISCONN and self.gettimeout() != 0.0 else problem

    def _resolved(self, address: Any) -> Any:
        """`address` with a numeric host, so that the system does not look it up while blocking."""
        if self.family not in (_stdlib.AF_INET, _stdlib.AF_INET6) or not isinstance(address, tuple):
            return address
        if len(address) < 2 or not isinstance(address[0], str) or not address[0]:
            return address
        found = getaddrinfo(address[0], address[1], self.family, self.type, self.proto)
        resolved = found[0][4]
        return resolved[:2] + address[2:] if len(address) > 2 else resolved

    # The rarer operations: the standard one, again after each wait.

    def _again(self, events: int, operation: Any, *args: Any) -> Any:
        while True:
            try:
                return operation(self, *args)
            except BlockingIOError:
                if self.gettimeout() == 0.0:
                    raise
            self._wait(events)

    def recvfrom(self, *args: Any) -> Any:
        """Receive: (bytes, address)."""
        return self._again(_READ, _socket.socket.recvfrom, *args)

    def recvfrom_into(self, *args: Any) -> Any:
        """Receive into a buffer: (count, address)."""
        return self._again(_READ, _socket.socket.recvfrom_into, *args)

    def recvmsg(self, *args: Any) -> Any:
        """Receive with ancillary data: (bytes, ancillary data, flags, address)."""
        return self._again(_READ, _socket.socket.recvmsg, *args)

    def recvmsg_into(self, *args: Any) -> Any:
        """As recvmsg, into buffers."""
        return self._again(_READ, _socket.socket.recvmsg_into, *args)

    def sendto(self, data: Any, *args: Any) -> Any:
        """Send a datagram to an address."""
        if args:
            args = (*args[:-1], self._resolved(args[-1]))
        return self._again(_WRITE, _socket.socket.sendto, data, *args)

    def sendmsg(self, buffers: Iterable[Any], *args: Any) -> Any:
        """Send buffers with ancillary data: the count of bytes taken."""
        return self._again(_WRITE, _socket.socket.sendmsg, list(buffers), *args)

    def sendmsg_afalg(self, *args: Any, **kwargs: Any) -> Any:
        """Send to a kernel crypto socket."""
        operation = _socket.socket.sendmsg_afalg
        return self._again(_WRITE, lambda own: operation(own, *args, **kwargs))

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        self._check_sendfile_params(file, offset, count)
        try:
            source = file.fileno()
            size = os.fstat(source).st_size
        except (AttributeError, OSError) as problem:
            raise _stdlib._GiveupOnSendfile(problem) from problem  # type: ignore[attr-defined]
        if not size:
            return 0
        wanted = size - offset if count is None else count
        sent = 0
        try:
            while sent < wanted:
                try:
                    moved = os.sendfile(self.fileno(), source, offset + sent, wanted - sent)
                except BlockingIOError:
                    if self.gettimeout() == 0.0:
                        raise
                    self._wait(_WRITE)
                    continue
                except OSError as problem:
                    if sent == 0:
                        raise _stdlib._GiveupOnSendfile(problem) from problem  # type: ignore[attr-defined]
                    raise
                if moved == 0:
                    break
                sent += moved
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)

    @property
    def timeout(self) -> float | None:
        """The timeout in seconds, or None."""
        seconds: float | None = self.gettimeout()
        return seconds

    @property
    def type(self) -> Any:
        """The socket type, without flags."""
        return super().type & ~(_stdlib.SOCK_NONBLOCK | _stdlib.SOCK_CLOEXEC)

    def dup(self) -> Self:
        """A new socket for the same connection."""
        made = type(self)(self.family, self.type, self.proto, fileno=_stdlib.dup(self.fileno()))
        made.settimeout(self.gettimeout())
        return made

    def detach(self) -> int:
        """Give the file descriptor away; it stays non-blocking."""
        self._forget()
        fd: int = super().detach()
        return fd

    def _real_close(self, _ss: Any = _socket.socket) -> None:
        self._forget()
        _ss.close(self)


SocketType = socket


def fromfd(fd: int, family: int, type: int, proto: int = 0) -> socket:
    """A socket for a duplicate of `fd`."""
    return socket(family, type, proto, _stdlib.dup(fd))


def socketpair(
    family: int | None = None, type: int = _stdlib.SOCK_STREAM, proto: int = 0
) -> tuple[socket, socket]:
    """Two connected sockets; Unix ones unless said otherwise."""
    family = _stdlib.AF_UNIX if family is None else family
    first, second = _socket.socketpair(family, type, proto)
    return (
        socket(family, type, proto, first.detach()),
        socket(family, type, proto, second.detach()),
    )


def create_connection(
    address: tuple[str | None, int],
    timeout: Any = _UNSET,
    source_address: Any = None,
    *,
    all_errors: bool = False,
) -> socket:
    """Connect to (host, port), trying each address of the host in turn.

    timeout is in seconds, for each attempt. Raises the last error, or an ExceptionGroup of all of
    them with all_errors.
    """
    problems: list[OSError] = []
    for family, kind, proto, _, resolved in getaddrinfo(*address, 0, _stdlib.SOCK_STREAM):
        made = None
        try:
            made = socket(family, kind, proto)
            if timeout is not _UNSET and timeout is not _stdlib._GLOBAL_DEFAULT_TIMEOUT:  # type: ignore[attr-defined]
                made.settimeout(timeout)
            if source_address:
                made.bind(source_address)
            made.connect(resolved)
        except OSError as problem:
            if not all_errors:
                problems.clear()
            problems.append(problem)
            if made is not None:
                made.close()
        else:
            problems.clear()
            return made
    if not problems:
        message = "getaddrinfo returns an empty list"
        raise OSError(message)
    try:
        if all_errors:
            message = "create_connection failed"
            raise ExceptionGroup(message, problems)
        raise problems[0]
    finally:
        problems.clear()


def create_server(address: Any, **options: Any) -> socket:
    """A listening socket; as socket.create_server."""
    listener = _stdlib.create_server(address, **options)
    if isinstance(listener, socket):
        return listener
    family, kind, proto = listener.family, listener.type, listener.proto
    return socket(family, kind, proto, listener.detach())


def wait_read(fileno: int, timeout: float | None = None, timeout_exc: Any = _UNSET) -> None:
    """Wait until `fileno` is readable; raise timeout_exc (TimeoutError) after `timeout` seconds."""
    _wait_fd(fileno, _READ, timeout, timeout_exc)


def wait_write(
    fileno: int, timeout: float | None = None, timeout_exc: Any = _UNSET, event: Any = None
) -> None:
    """As wait_read, until it is writable."""
    _wait_fd(fileno, _WRITE, timeout, timeout_exc)


def wait_readwrite(
    fileno: int, timeout: float | None = None, timeout_exc: Any = _UNSET, event: Any = None
) -> None:
    """As wait_read, until it is either."""
    _wait_fd(fileno, _READ | _WRITE, timeout, timeout_exc)


def _wait_fd(fileno: int, events: int, timeout: float | None, timeout_exc: Any) -> None:
    if _rgevent.wait_fd(fileno, events, timeout) == 0:
        message = "timed out"
        raise TimeoutError(message) if timeout_exc is _UNSET else timeout_exc


def cancel_wait(fileno: int) -> None:
    """Make everybody who waits for `fileno` in this thread fail with OSError(EBADF)."""
    _rgevent.cancel_fd(fileno)


#: What differs from the standard module, for patching.
__implements__ = [
    "SocketType",
    "create_connection",
    "fromfd",
    "socket",
    "socketpair",
]
__dns__ = [
    "getaddrinfo",
    "getfqdn",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
]
__extra__ = ["cancel_wait", "create_server", "wait_read", "wait_readwrite", "wait_write"]

_ours = {*__implements__, *__dns__, *__extra__}
__imports__ = [name for name in _stdlib.__all__ if name not in _ours]
__all__ = [*__implements__, *__dns__, *__extra__, *__imports__]
for _name in __dns__:
    setattr(sys.modules[__name__], _name, getattr(resolver, _name))
for _name in __imports__:
    setattr(sys.modules[__name__], _name, getattr(_stdlib, _name))
for _name in ("_GLOBAL_DEFAULT_TIMEOUT", "EBADF", "EAGAIN", "EWOULDBLOCK", "SocketIO"):
    setattr(sys.modules[__name__], _name, getattr(_stdlib, _name))
