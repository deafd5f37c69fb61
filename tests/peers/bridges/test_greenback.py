"""greenback: plain functions that await, in tasks that have a portal."""


def test_plain_functions_await_when_the_task_has_a_portal(program):
    program("""
        import greenback

        async def double(number):
            await asyncio.sleep(0.001)
            return 2 * number

        async def fails():
            await asyncio.sleep(0)
            raise LookupError("inside")

        def plain(depth):
            # Some frames between the portal and what waits.
            return plain(depth - 1) if depth else greenback.await_(double(21))

        async def main():
            assert not greenback.has_portal()
            try:
                plain(0)
            except RuntimeError as error:
                assert "ensure_portal" in str(error)
            else:
                raise AssertionError("awaited without a portal")
            await greenback.ensure_portal()
            await greenback.ensure_portal()
            assert greenback.has_portal()
            assert plain(0) == plain(50) == 42
            assert [greenback.await_(double(number)) for number in range(5)] == [0, 2, 4, 6, 8]
            try:
                greenback.await_(fails())
            except LookupError as error:
                assert error.args == ("inside",)
            else:
                raise AssertionError("swallowed")
            # Native awaiting goes on beside it.
            assert await double(1) == 2
            return "result"

        assert asyncio.run(main()) == "result"
    """)


def test_tasks_with_portals_take_turns(program):
    program("""
        import greenback

        TASKS = 20
        TURNS = 5
        steps = []
        variable = contextvars.ContextVar("variable")

        def plain(number):
            for turn in range(TURNS):
                variable.set((number, turn))
                steps.append((turn, number))
                greenback.await_(asyncio.sleep(0))
                assert variable.get() == (number, turn)
            return number

        async def work(number):
            await greenback.ensure_portal()
            result = plain(number)
            # Set in the plain function, and seen by the task.
            assert variable.get() == (number, TURNS - 1)
            return result

        async def main():
            results = await asyncio.gather(*(work(number) for number in range(TASKS)))
            assert results == list(range(TASKS))
            assert steps == sorted(steps) and len(steps) == TASKS * TURNS
            assert variable.get(None) is None

        asyncio.run(main())
    """)


def test_cancellation_arrives_in_the_plain_function(program):
    output = program("""
        import greenback

        def plain():
            entered.set()
            try:
                greenback.await_(asyncio.sleep(60))
            except asyncio.CancelledError:
                greenback.await_(asyncio.sleep(0))
                print("cancelled inside")
                raise

        async def work():
            await greenback.ensure_portal()
            plain()

        async def main():
            global entered
            entered = asyncio.Event()
            task = asyncio.create_task(work())
            await entered.wait()
            try:
                await asyncio.wait_for(task, 0.01)
            except TimeoutError:
                assert task.cancelled()
            else:
                raise AssertionError("not cancelled")
            # And one for which the end of the loop is the reason.
            entered.clear()
            last = asyncio.create_task(work())
            await entered.wait()
            return last

        assert asyncio.run(main()).cancelled()
    """)
    assert output.splitlines() == ["cancelled inside"] * 2


def test_async_iteration_and_contexts_are_wrapped(program):
    output = program("""
        from contextlib import asynccontextmanager
        import greenback

        @asynccontextmanager
        async def opened(name):
            await asyncio.sleep(0)
            print("open", name)
            try:
                yield name
            finally:
                await asyncio.sleep(0)
                print("close", name)

        async def numbers():
            for number in range(3):
                await asyncio.sleep(0)
                yield number

        @greenback.autoawait
        async def double(number):
            await asyncio.sleep(0)
            return 2 * number

        def plain():
            with greenback.async_context(opened("it")) as name:
                assert name == "it"
                return [double(number) for number in greenback.async_iter(numbers())]

        async def main():
            # A portal for one call only.
            assert await greenback.with_portal_run_sync(plain) == [0, 2, 4]
            assert not greenback.has_portal()

        asyncio.run(main())
    """)
    assert output.splitlines() == ["open it", "close it"]


def test_awaits_inside_of_what_sqlalchemy_runs(database):
    database("""
        import greenback

        def inside(session):
            # By the greenlet of run_sync, by that of the portal, and by the first again.
            ada = session.scalars(select(Author).where(Author.name == "Ada")).one()
            assert greenback.await_(asyncio.sleep(0.001, "slept")) == "slept"
            return [book.title for book in ada.books]

        async def main():
            engine = new_engine()
            await create_tables(engine)
            await add_two_authors(engine)
            await greenback.ensure_portal()
            async with AsyncSession(engine) as session:
                for _ in range(3):
                    assert await session.run_sync(inside) == ["Notes", "Letters"]
                    session.expire_all()
                # Awaited from a plain function, all of the above.
                assert greenback.await_(session.run_sync(inside)) == ["Notes", "Letters"]
            await engine.dispose()

        asyncio.run(main())
    """)
