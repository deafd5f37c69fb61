"""Greenlets belong to the thread that made them, during its life and after it."""

from collections.abc import Callable

Check = Callable[..., None]


def test_greenlet_known_to_the_thread_function_is_unwound_there(check_script: Check) -> None:
    check_script(
        """
        import threading

        def work():
            try:
                getcurrent().parent.switch()
            finally:
                print("unwound in", threading.current_thread().name)

        def body():
            kept = suspended(work)
            print("returning")

        thread = threading.Thread(target=body, name="worker")
        thread.start()
        thread.join()
        """,
        prints="returning\nunwound in worker\n",
    )


def test_greenlet_in_a_thread_local_ends_with_the_thread(check_script: Check) -> None:
    check_script(
        """
        import threading, weakref

        local = threading.local()
        seen = []

        def work():
            try:
                getcurrent().parent.switch()
            finally:
                seen.append(threading.get_ident())

        def body():
            local.kept = suspended(work)
            seen.append(threading.get_ident())
            references.append(weakref.ref(local.kept))

        references = []
        for _ in range(20):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
            getcurrent()
        inside, outside = seen[::2], seen[1::2]
        print(len(seen) == 40, inside == outside, [ref() for ref in references] == [None] * 20)
        """,
        prints="True True True\n",
    )


def test_greenlet_held_by_another_thread_dies_without_unwinding(check_script: Check) -> None:
    check_script(
        """
        import threading, time

        held = []

        def work():
            try:
                getcurrent().parent.switch()
            finally:
                print("unwound")

        def body():
            held.append(suspended(work))
            print("alive", bool(held[0]), held[0].dead)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        limit = time.monotonic() + 10
        while not held[0].dead and time.monotonic() < limit:
            getcurrent()
            time.sleep(0.01)
        print("dead", bool(held[0]), held[0].dead, held[0].gr_frame)
        held.clear()
        print("gone")
        """,
        prints="alive True False\ndead False True None\ngone\n",
    )


def test_switching_into_a_greenlet_of_a_finished_thread(check_script: Check) -> None:
    check_script(
        """
        import threading, time

        held = []

        def body():
            held.append(suspended())
            held.append(greenlet(lambda: None))
            done = greenlet(lambda: None)
            done.switch()
            held.append(done)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        limit = time.monotonic() + 10
        while not held[0].dead and time.monotonic() < limit:
            getcurrent()
            time.sleep(0.01)
        for target in held:
            for call in (target.switch, target.throw):
                try:
                    print(call())
                except error as problem:
                    print(problem)
        """,
        prints="cannot switch to a different thread (which happens to have exited)\n" * 6,
    )


def test_switching_from_another_thread_is_refused(check_script: Check) -> None:
    check_script(
        """
        import threading

        kept, fresh = suspended(), greenlet(lambda: None)

        def body():
            for target in (kept, fresh):
                for call, argument in ((target.switch, "lost"), (target.throw, ValueError)):
                    try:
                        print(call(argument))
                    except error as problem:
                        lines = str(problem).split("\\n")
                        print(lines[0], [line.split(":")[0] for line in lines[1:]])

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        print(bool(kept), kept.dead, bool(fresh), kept.switch("kept"))
        """,
        prints="Cannot switch to a different thread ['\\tCurrent', '\\tExpected']\n" * 4
        + "True False False kept\n",
    )


def test_parent_in_another_thread_is_refused(check_script: Check) -> None:
    check_script(
        """
        import threading

        kept = suspended()

        def body():
            mine = suspended()
            try:
                mine.parent = kept
            except ValueError as problem:
                print(problem)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        """,
        prints="parent cannot be on a different thread\n",
    )


def test_last_reference_dropped_in_another_thread_unwinds_in_the_owner(
    check_script: Check,
) -> None:
    check_script(
        """
        import threading

        def work():
            try:
                getcurrent().parent.switch()
            finally:
                print("unwound in", threading.current_thread().name)

        box = [suspended(work)]
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
        print("dropped")
        getcurrent()
        print("end")
        """,
        prints="dropped\nunwound in MainThread\nend\n",
    )


def test_thread_ends_in_the_middle_of_a_chain(check_script: Check) -> None:
    check_script(
        """
        import threading

        def fail():
            raise SystemExit

        def chain(depth):
            (greenlet(chain).switch(depth - 1) if depth else greenlet(fail).switch())

        for _ in range(20):
            thread = threading.Thread(target=chain, args=(20,))
            thread.start()
            thread.join()
        print("end")
        """,
        prints="end\n",
    )


def test_thousands_of_threads_with_suspended_greenlets(check_script: Check) -> None:
    check_script(
        """
        import threading

        kept = []

        def body(number):
            mine = suspended()
            if number % 3 == 0:
                kept.append(suspended())
            if number % 5 == 0:
                mine.switch()

        for number in range(2000):
            thread = threading.Thread(target=body, args=(number,))
            thread.start()
            thread.join()
            if number % 7 == 0:
                kept.clear()
        print("end", getcurrent().parent)
        """,
        prints="end None\n",
    )


def test_threads_at_work_at_the_same_time(check_script: Check) -> None:
    check_script(
        """
        import sys, threading

        sys.setswitchinterval(0.00005)
        totals = []

        def count():
            total = 0
            while True:
                total += getcurrent().parent.switch(total)

        def body():
            counters = [suspended(count) for _ in range(10)]
            for turn in range(500):
                sums = [counter.switch(1) for counter in counters]
            totals.append(sums)

        threads = [threading.Thread(target=body) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(totals == [[500] * 10] * 6)
        """,
        prints="True\n",
    )


def test_each_thread_has_its_own_main_greenlet(check_script: Check) -> None:
    check_script(
        """
        import threading, time

        mains = []
        thread = threading.Thread(target=lambda: mains.append(getcurrent()))
        thread.start()
        thread.join()
        limit = time.monotonic() + 10
        while not mains[0].dead and time.monotonic() < limit:
            getcurrent()
            time.sleep(0.01)
        print(mains[0] is getcurrent(), mains[0].parent, mains[0].dead, getcurrent().dead)
        """,
        prints="False None True False\n",
    )


def test_greenlet_dropped_elsewhere_is_unwound_when_its_thread_ends(run_python) -> None:
    # The peer abandons it then.
    script = """if True:
        import threading
        from rgevent.greenlet import getcurrent, greenlet
        ready, leave, held = threading.Event(), threading.Event(), []

        def work():
            main = getcurrent()

            def waits():
                try:
                    main.switch()
                finally:
                    print("finally", threading.get_ident() == thread.ident)

            held.append(greenlet(waits))
            held[0].switch()
            ready.set()
            leave.wait(10)

        thread = threading.Thread(target=work)
        thread.start()
        ready.wait(10)
        del held[:]
        print("dropped")
        leave.set()
        thread.join(10)
        """
    done = run_python("-c", script)
    assert (done.returncode, done.stdout) == (0, "dropped\nfinally True\n"), done.stderr
