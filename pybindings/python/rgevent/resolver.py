"""Name look-ups: on a native thread, but for numbers, which are answered on the spot."""

from __future__ import annotations

import _socket
import socket as _stdlib
import sys

from rgevent import _rgevent
from rgevent._rgevent import run_in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "getaddrinfo",
    "getfqdn",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
]

_FAMILIES = {int(family): family for family in _stdlib.AddressFamily}
_KINDS = {int(kind): kind for kind in _stdlib.SocketKind}


def _is_numeric(host: Any) -> bool:
    """Whether no look-up is needed for `host`."""
    if not host or not isinstance(host, str | bytes):
        return True  # None, or of a wrong type: the system call says so at once.
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    family = _stdlib.AF_INET6 if ":" in host else _stdlib.AF_INET
    try:
        _socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _call(numeric: bool, function: Any, *args: Any) -> Any:
    return function(*args) if numeric else run_in_thread(function, *args)


def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    """Addresses for a host and a port: a list of (family, type, proto, canonname, address)."""
    on_the_spot = flags & _stdlib.AI_NUMERICHOST or _is_numeric(host)
    named_service = isinstance(port, str) and not port.isdigit()
    if (on_the_spot and not named_service) or not isinstance(port, int | str | bytes | None):
        found = _socket.getaddrinfo(host, port, family, type, proto, flags)
    else:
        sys.audit("socket.getaddrinfo", host, port, family, type, proto)
        if isinstance(host, str):
            host = host.encode("idna")
        if isinstance(port, int | str):
            port = str(int(port) if isinstance(port, int) else port).encode()
        found = _rgevent.getaddrinfo(host, port, family, type, proto, flags)
    return [(_family(entry[0]), _kind(entry[1]), entry[2], entry[3], entry[4]) for entry in found]


def _family(number: int) -> Any:
    """The family as the standard module gives it: by name if it has one."""
    return _FAMILIES.get(number, number)


def _kind(number: int) -> Any:
    """The socket type, likewise."""
    return _KINDS.get(number, number)


def gethostbyname(hostname: Any) -> str:
    """The IPv4 address of a host."""
    address: str = _call(_is_numeric(hostname), _socket.gethostbyname, hostname)
    return address


def gethostbyname_ex(hostname: Any) -> Any:
    """The name, other names and IPv4 addresses of a host."""
    return _call(_is_numeric(hostname), _socket.gethostbyname_ex, hostname)


def gethostbyaddr(ip_address: Any) -> Any:
    """The name, other names and addresses for an address."""
    return run_in_thread(_socket.gethostbyaddr, ip_address)


def getnameinfo(sockaddr: Any, flags: int) -> Any:
    """The host and service of an address."""
    numeric = flags & _stdlib.NI_NUMERICHOST and flags & _stdlib.NI_NUMERICSERV
    return _call(bool(numeric), _socket.getnameinfo, sockaddr, flags)


def getfqdn(name: str = "") -> str:
    """The full name of a host; of this one for an empty name."""
    name = name.strip()
    if not name or name in ("0.0.0.0", "::"):
        name = _socket.gethostname()
    try:
        hostname, aliases, _ = gethostbyaddr(name)
    except OSError:
        return name
    for alias in (hostname, *aliases):
        if "." in alias:
            return str(alias)
    return str(hostname)
