"""Two greenlets that hand control to each other by name. No hub, no scheduler."""

from rgevent.greenlet import greenlet


def first() -> None:
    print("foo1.1")
    pong.switch()
    print("foo1.2")  # the end: control goes back to the main greenlet


def second() -> None:
    print("foo2.1")
    ping.switch()
    print("foo2.2")  # never reached: nobody switches back


ping = greenlet(first)
pong = greenlet(second)

if __name__ == "__main__":
    ping.switch()
