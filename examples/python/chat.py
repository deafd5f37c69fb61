"""A chat server on raw sockets: a greenlet for each visitor, and no callbacks.

python examples/python/chat.py          serves; talk to it with `nc 127.0.0.1 PORT`
python examples/python/chat.py --demo   connects three visitors and prints what one of them sees
"""

import sys

import rgevent
from rgevent import socket


class Room:
    """Everybody who is in, and what to say to them."""

    def __init__(self) -> None:
        self.visitors: dict[str, socket.socket] = {}

    def tell(self, line: str, *, but: str | None = None) -> None:
        for name, visitor in list(self.visitors.items()):
            if name != but:
                try:
                    visitor.sendall(f"{line}\n".encode())
                except OSError:
                    pass  # gone; its own greenlet notices

    def serve(self, client: socket.socket) -> None:
        """Talk with one visitor from the greeting to the goodbye."""
        with client, client.makefile("r", encoding="utf-8", newline="\n") as lines:
            client.sendall(b"your name? ")
            name = lines.readline().strip()
            if not name or name in self.visitors:
                client.sendall(b"sorry, no\n")
                return
            self.visitors[name] = client
            self.tell(f"* {name} comes in")
            try:
                for line in lines:
                    self.tell(f"{name}: {line.rstrip()}", but=name)
            except OSError:
                pass
            finally:
                del self.visitors[name]
                self.tell(f"* {name} leaves")


def listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def serve(listener: socket.socket) -> None:
    room = Room()
    while True:
        client, _ = listener.accept()
        rgevent.spawn(room.serve, client)


class Visitor:
    """One end of a conversation, for the demonstration."""

    def __init__(self, name: str, address: tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.connect(address)
        self.lines = self.socket.makefile("r", encoding="utf-8", newline="\n")
        self.lines.read(len("your name? "))
        self.say(name)

    def say(self, line: str) -> None:
        self.socket.sendall(f"{line}\n".encode())

    def hear(self) -> str:
        return self.lines.readline().rstrip()

    def leave(self) -> None:
        self.lines.close()
        self.socket.close()


def demo(listener: socket.socket) -> None:
    rgevent.spawn(serve, listener)
    address = listener.getsockname()
    ada = Visitor("ada", address)
    print(ada.hear())
    bob = Visitor("bob", address)
    print(ada.hear())
    cid = Visitor("cid", address)
    print(ada.hear())
    bob.say("hello, all")
    print(ada.hear())
    cid.say("hello, bob")
    print(ada.hear())
    bob.leave()
    print(ada.hear())
    cid.leave()
    print(ada.hear())
    ada.leave()


def main() -> None:
    listener = listen()
    if sys.argv[1:] == ["--demo"]:
        demo(listener)
    else:
        host, port = listener.getsockname()
        print(f"the room is open: nc {host} {port}", flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
