"""A producer that is faster than its consumers: a bounded queue makes it wait for them."""

import rgevent
from rgevent.queue import Queue

ITEMS = 6
CONSUMERS = 2
QUEUE_MAX = 2
DONE = None


def produce(queue: Queue) -> None:
    for item in range(ITEMS):
        queue.put(item)  # waits while the queue is full
    for _ in range(CONSUMERS):
        queue.put(DONE)


def consume(queue: Queue, squares: dict[int, int]) -> int:
    """Square what comes, slowly. Returns how many items it took."""
    taken = 0
    while (item := queue.get()) is not DONE:  # waits while the queue is empty
        rgevent.sleep(0.01)
        squares[item] = item * item
        taken += 1
    return taken


def main() -> None:
    queue = Queue(maxsize=QUEUE_MAX)
    squares: dict[int, int] = {}
    producer = rgevent.spawn(produce, queue)
    consumers = [rgevent.spawn(consume, queue, squares) for _ in range(CONSUMERS)]
    rgevent.joinall([producer, *consumers])
    print("squares:", [squares[item] for item in sorted(squares)])
    print("taken by each consumer:", [consumer.value for consumer in consumers])


if __name__ == "__main__":
    main()
