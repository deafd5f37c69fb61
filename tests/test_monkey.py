"""Patching: what is replaced, what is said about it, and programs on top of it.

Each program runs in a process of its own, and tells what it saw by assertions.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable

import pytest


@pytest.fixture
def program(run_python) -> Callable[..., str]:
    """program(text, *options) runs Python; what it wrote, once it ended well."""

    def run(text: str, *options: str) -> str:
        done = run_python(*options, "-c", textwrap.dedent(text), seconds=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_importing_loads_nothing_slow(program):
    program("""
        import sys
        before = set(sys.modules)
        import rgevent.monkey
        slow = {"socket", "ssl", "select", "selectors", "queue", "typing", "traceback"}
        loaded = slow & (set(sys.modules) - before)
        assert not loaded, loaded
        assert not rgevent.monkey.is_anything_patched()
    """)


def test_tells_what_is_patched(program):
    program("""
        from rgevent import monkey
        import time, os
        native = time.sleep
        assert monkey.patch_all() is True
        for name in ("time", "socket", "select", "selectors", "ssl", "threading", "_thread",
                     "queue"):
            assert monkey.is_module_patched(name), name
        for name in ("os", "subprocess", "signal", "sys"):
            assert not monkey.is_module_patched(name), name
        assert monkey.is_anything_patched()
        assert monkey.is_object_patched("time", "sleep")
        assert not monkey.is_object_patched("time", "time")
        assert monkey.saved["time"]["sleep"] is native
        assert monkey.get_original("time", "sleep") is native
        assert monkey.get_original("time", ["sleep", "time"]) == [native, time.time]
    """)


def test_patching_again_does_only_what_is_new(program):
    program("""
        from rgevent import monkey
        import socket
        plain = socket.socket
        assert monkey.patch_all(socket=False) is True
        assert socket.socket is plain and not monkey.is_module_patched("socket")
        assert monkey.patch_all() is True
        assert socket.socket is not plain
        assert monkey.patch_all() is None
        assert monkey.get_original("socket", "socket") is plain
    """)


def test_parts_can_be_left_out(program):
    program("""
        from rgevent import monkey
        import time, threading, socket
        monkey.patch_all(thread=False, time=False, dns=False)
        assert not monkey.is_module_patched("time")
        assert not monkey.is_module_patched("threading")
        assert monkey.is_object_patched("socket", "socket")
        assert not monkey.is_object_patched("socket", "getaddrinfo")
    """)


def test_unknown_part_is_named(program):
    program("""
        import warnings
        import rgevent
        from rgevent import monkey
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rgevent.patch_all(sockets=False)
        assert [w.category for w in caught] == [monkey.MonkeyPatchWarning]
        assert "sockets" in str(caught[0].message)
        assert caught[0].filename == "<string>"
    """)


def test_running_threads_are_named_in_a_warning(program):
    program("""
        import threading, time, warnings
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait, name="early bird", daemon=True)
        thread.start()
        from rgevent import monkey
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monkey.patch_all()
        assert [w.category for w in caught] == [monkey.MonkeyPatchWarning]
        text = str(caught[0].message)
        assert "'early bird'" in text and "native" in text
        assert caught[0].filename == "<string>"
        leave.set()
    """)


def test_patching_without_threads_is_silent(program):
    assert program("import rgevent; rgevent.patch_all()", "-W", "error") == ""


def test_item_can_be_patched_and_removed(program):
    program("""
        import types
        from rgevent import monkey
        module, source = types.ModuleType("module"), types.ModuleType("source")
        module.a = module.b = module.c = 1
        source.__implements__, source.a = ["a"], 2
        monkey.patch_module(module, source)
        monkey.patch_item(module, "b", 3)
        monkey.patch_item(module, "b", 4)
        monkey.remove_item(module, "c")
        assert (module.a, module.b, hasattr(module, "c")) == (2, 4, False)
        assert monkey.saved["module"] == {"a": 1, "b": 1, "c": 1}
    """)


def test_sleep_lets_others_run(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import time
        began = time.monotonic()
        rgevent.joinall([rgevent.spawn(time.sleep, 0.1) for _ in range(100)])
        assert 0.1 <= time.monotonic() - began < 2
    """)


@pytest.mark.parametrize("argument", ["-1", "-0.5", "'1'", "None", "float('nan')", "2+1j"])
def test_sleep_refuses_what_time_sleep_refuses(program, argument):
    program(f"""
        import rgevent
        rgevent.patch_all()
        import time
        def outcome(sleep):
            try: sleep({argument})
            except Exception as error: return type(error), str(error).split(" (")[0]
        ours = outcome(time.sleep)
        theirs = outcome(rgevent.monkey.get_original("time", "sleep"))
        assert ours is not None and ours[0] is theirs[0]
        if "nan" not in {argument!r}: assert ours == theirs, (ours, theirs)
    """)


def test_sleep_takes_indexes_and_flags(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import time
        class Index:
            def __index__(self): return 0
        time.sleep(Index()); time.sleep(0); time.sleep(False); time.sleep(0.0)
    """)


def test_queues_wait_in_the_hub(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import queue, time
        for made in (queue.Queue(), queue.LifoQueue(), queue.PriorityQueue(), queue.SimpleQueue()):
            try: made.get(timeout=0.01)
            except queue.Empty: pass
            else: raise AssertionError("not empty")
            rgevent.spawn(lambda: (time.sleep(0.01), made.put(7)))
            assert made.get(timeout=30) == 7
        small = queue.Queue(1)
        small.put(1)
        try: small.put(2, timeout=0.01)
        except queue.Full: pass
        else: raise AssertionError("not full")
        rgevent.spawn(small.get)
        small.put(2, timeout=30)
    """)


def test_scheduler_runs_beside_others(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import sched, time
        events = []
        scheduler = sched.scheduler()
        scheduler.enter(0.1, 1, events.append, ["scheduled"])
        rgevent.spawn(lambda: (time.sleep(0.01), events.append("greenlet")))
        scheduler.run()
        assert events == ["greenlet", "scheduled"]
    """)


def test_asyncio_runs_in_a_patched_program(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import asyncio, time
        ticks = []
        def tick():
            while len(ticks) < 5:
                ticks.append(1)
                time.sleep(0.01)
        other = rgevent.spawn(tick)
        async def main():
            await asyncio.gather(*(asyncio.sleep(0.1) for _ in range(20)))
            assert len(ticks) == 5
            async def serve(reader, writer):
                writer.write(await reader.readline())
                writer.close()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\\n")
            assert await reader.read() == b"hello\\n"
            writer.close()
            server.close()
            return 3
        assert asyncio.run(main()) == 3
    """)


def test_asyncio_waits_for_a_thread(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import asyncio, time
        async def main():
            began = time.monotonic()
            work = asyncio.to_thread(lambda: (time.sleep(0.05), 7)[1])
            assert await asyncio.wait_for(work, 3) == 7
            assert time.monotonic() - began < 2
        asyncio.run(main())
    """)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio allows one per native thread there")
def test_each_thread_can_run_an_asyncio_loop(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import asyncio, threading
        async def main(number):
            loop = asyncio.get_running_loop()
            for _ in range(3):
                await asyncio.sleep(0.01)
                assert asyncio.get_running_loop() is loop
                assert asyncio.current_task().get_name() == "Task-%d" % number
            return loop
        loops = {}
        def run(number):
            async def named():
                asyncio.current_task().set_name("Task-%d" % number)
                return await main(number)
            loops[number] = asyncio.run(named())
        threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert len(set(loops.values())) == 5
    """)


def test_greenlets_that_switch_share_the_running_asyncio_loop(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import asyncio, time
        from rgevent.greenlet import getcurrent, greenlet
        async def main():
            loop = asyncio.get_running_loop()
            task = asyncio.current_task()
            def bridge():
                for _ in range(3):
                    assert asyncio.get_running_loop() is loop
                    assert asyncio.current_task() is task
                    time.sleep(0.01)
                    getcurrent().parent.switch(asyncio.sleep(0.01))
                return None
            child = greenlet(bridge)
            while (waiting := child.switch()) is not None:
                await waiting
                assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
        asyncio.run(main())
    """)


def test_standard_http_server_and_client_serve_slow_requests_at_once(program):
    program("""
        import rgevent
        rgevent.patch_all()
        import http.server, threading, time, urllib.request
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                time.sleep(0.5)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")
            def log_message(self, *args): pass
        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128
        server = Server(("127.0.0.1", 0), Handler)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = "http://127.0.0.1:%d/" % server.server_port
        began = time.monotonic()
        clients = [rgevent.spawn(lambda: urllib.request.urlopen(url).read()) for _ in range(50)]
        rgevent.joinall(clients, raise_error=True)
        took = time.monotonic() - began
        assert {client.value for client in clients} == {b"ok"}
        assert took < 5, took
        server.shutdown()
        serving.join()
        server.server_close()
    """)


@pytest.fixture
def script(tmp_path):
    """A script that tells how it was run; it needs a module beside it."""
    (tmp_path / "beside.py").write_text("value = 7\n")
    path = tmp_path / "script.py"
    path.write_text(
        "import sys, beside\n"
        "from rgevent import monkey\n"
        "print(__name__, sys.argv[1:], monkey.is_module_patched('time'),"
        " monkey.is_module_patched('socket'))\n"
    )
    return path


@pytest.mark.parametrize(
    ("options", "time", "socket"),
    [((), True, True), (("--no-socket",), True, False), (("--time",), True, False)],
)
def test_runner_runs_a_script_patched(run_python, script, options, time, socket):
    done = run_python("-m", "rgevent.monkey", *options, script, "a", "--b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"__main__ ['a', '--b'] {time} {socket}"


def test_runner_runs_a_module(run_python, script):
    path = os.pathsep.join(filter(None, [str(script.parent), os.environ.get("PYTHONPATH")]))
    done = run_python("-m", "rgevent.monkey", "--module", "script", env={"PYTHONPATH": path})
    assert done.stdout.strip() == "__main__ [] True True", done.stderr


@pytest.mark.parametrize("arguments", [(), ("--nonsense", "x.py")])
def test_runner_explains_itself(run_python, arguments):
    done = run_python("-m", "rgevent.monkey", *arguments)
    assert done.returncode == 2
    assert "--no-NAME" in done.stderr
