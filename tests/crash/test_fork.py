"""A forked child goes on in the greenlet that forked, and can switch to all the others."""

from collections.abc import Callable

Check = Callable[..., None]

WAIT = """
import os

def wait_for(child):
    "Let the child end first, so that the order of the output is known."
    if child:
        pid, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), flush=True)
"""


def test_fork_inside_a_greenlet(check_script: Check) -> None:
    check_script(
        """
        def count():
            total = 0
            while True:
                total += getcurrent().parent.switch(total)

        def work():
            child = os.fork()
            wait_for(child)
            print(counter.switch(1), counter.switch(2), other.switch("other"), flush=True)
            getcurrent().parent.switch()
            print("ended", flush=True)

        counter, other = suspended(count), suspended()
        # They answer whoever switched to them.
        forks = greenlet(work)
        counter.parent = other.parent = forks
        forks.switch()
        forks.switch()
        print("main", forks.dead, flush=True)
        """,
        start=WAIT,
        prints="1 3 other\nended\nmain True\nchild 0\n1 3 other\nended\nmain True\n",
    )


def test_child_can_exit_from_the_greenlet_that_forked(check_script: Check) -> None:
    check_script(
        """
        def work():
            child = os.fork()
            if child == 0:
                sys.exit(7)
            return child

        kept = [suspended() for _ in range(100)]
        wait_for(greenlet(work).switch())
        print("parent")
        """,
        start="import sys\n" + WAIT,
        prints="child 7\nparent\n",
    )


def test_fork_with_suspended_greenlets(check_script: Check) -> None:
    check_script(
        """
        def work(number):
            try:
                getcurrent().parent.switch()
                return number
            finally:
                ended.append(number)

        ended, kept = [], []
        for number in range(1000):
            kept.append(greenlet(work))
            kept[-1].switch(number)
        child = os.fork()
        wait_for(child)
        results = [each.switch() for each in kept[:500]]
        del kept[500:]
        more = [suspended() for _ in range(1000)]
        print(results == list(range(500)), len(ended), all(more), flush=True)
        """,
        start=WAIT,
        prints="True 1000 True\nchild 0\nTrue 1000 True\n",
    )


def test_fork_inside_a_callback(check_script: Check) -> None:
    check_script(
        """
        def key(item):
            if item == 2:
                children.append(os.fork())
            return getcurrent().parent.switch(item)

        children = []
        sorts = greenlet(lambda: sorted([3, 2, 1], key=key))
        items = [sorts.switch()]
        while not sorts.dead:
            items.append(sorts.switch(items[-1]))
        wait_for(children[0])
        print(items, flush=True)
        """,
        start=WAIT,
        prints="[3, 2, 1, [1, 2, 3]]\nchild 0\n[3, 2, 1, [1, 2, 3]]\n",
    )


def test_fork_in_a_thread_with_greenlets_in_others(check_script: Check) -> None:
    check_script(
        """
        import warnings

        warnings.simplefilter("ignore")
        ready, leave = threading.Event(), threading.Event()
        held = []

        def other():
            mine = suspended()
            held.append(suspended())
            ready.set()
            leave.wait()

        def forks():
            kept = suspended()
            child = os.fork()
            wait_for(child)
            print("in", kept.switch("thread"), kept.dead, flush=True)
            if child:
                leave.set()
            else:
                held.clear()
                suspended().throw()

        threading.Thread(target=other).start()
        ready.wait(10)
        thread = threading.Thread(target=forks)
        thread.start()
        thread.join()
        """,
        start="import threading\n" + WAIT,
        prints="in thread True\nchild 0\nin thread True\n",
    )


def test_generations_of_forks(check_script: Check) -> None:
    check_script(
        """
        def work(depth):
            if depth == 0:
                return
            kept = suspended()
            child = os.fork()
            if child == 0:
                greenlet(work).switch(depth - 1)
                print("depth", depth, kept.switch("alive"), flush=True)
                sys.exit(0)
            wait_for(child)

        greenlet(work).switch(4)
        """,
        start="import sys\n" + WAIT,
        prints="depth 1 alive\nchild 0\ndepth 2 alive\nchild 0\ndepth 3 alive\nchild 0\n"
        "depth 4 alive\nchild 0\n",
    )
