"""SQLAlchemy's asyncio extension, on aiosqlite: it switches inside the steps of tasks."""


def test_rows_go_in_and_come_out(database):
    output = database("""
        async def main():
            engine = new_engine()
            await create_tables(engine)
            await add_two_authors(engine)
            async with AsyncSession(engine) as session:
                query = select(Author.name, Book.title).join(Book.author).order_by(Book.id)
                for name, title in await session.execute(query):
                    print(name, title)
                ada = await session.scalar(select(Author).where(Author.name == "Ada"))
                print(ada.id, ada.sold, await session.get(Author, 3))
                ada.sold = 7
                await session.commit()
                await session.refresh(ada)
                print(ada.sold)
            await engine.dispose()

        asyncio.run(main())
    """)
    assert output.splitlines() == ["Ada Notes", "Ada Letters", "Bob Diary", "1 0 None", "7"]


def test_lazy_loading_is_refused_outside_of_a_greenlet_of_its_own(database):
    database("""
        import warnings
        # What was refused leaves a coroutine behind, on greenlet too.
        warnings.filterwarnings("ignore", "coroutine 'Connection.cursor' was never awaited")

        async def main():
            engine = new_engine()
            await create_tables(engine)
            await add_two_authors(engine)
            async with AsyncSession(engine) as session:
                ada, bob = await session.scalars(select(Author).order_by(Author.id))
                for author in ada, bob:
                    try:
                        author.books
                    except exc.StatementError as error:
                        assert isinstance(error.orig, exc.MissingGreenlet), error.orig
                    else:
                        raise AssertionError("loaded without a greenlet")
                titles = [book.title for book in await ada.awaitable_attrs.books]
                assert titles == ["Notes", "Letters"]
                # Loaded, so nothing is left to be refused.
                assert [book.title for book in ada.books] == titles
                assert await bob.awaitable_attrs.name == "Bob"
            await engine.dispose()

        asyncio.run(main())
    """)


def test_eager_loading_leaves_nothing_to_load(database):
    database("""
        async def main():
            engine = new_engine()
            await create_tables(engine)
            await add_two_authors(engine)
            async with AsyncSession(engine) as session:
                query = select(Author).options(selectinload(Author.books)).order_by(Author.id)
                authors = (await session.scalars(query)).all()
            books = {author.name: [book.title for book in author.books] for author in authors}
            assert books == {"Ada": ["Notes", "Letters"], "Bob": ["Diary"]}
            await engine.dispose()

        asyncio.run(main())
    """)


def test_run_sync_loads_lazily_and_hands_out_results_and_errors(database):
    database("""
        import greenlet

        def titles(session, name):
            ours = greenlet.getcurrent()
            assert isinstance(ours, rgevent.greenlet.greenlet) and ours.parent is outside
            author = session.scalars(select(Author).where(Author.name == name)).one()
            return [book.title for book in author.books]

        async def main():
            global outside
            outside = greenlet.getcurrent()
            engine = new_engine()
            await create_tables(engine)
            await add_two_authors(engine)
            async with AsyncSession(engine) as session:
                assert await session.run_sync(titles, "Ada") == ["Notes", "Letters"]
                assert await session.run_sync(titles, name="Bob") == ["Diary"]
                try:
                    await session.run_sync(titles, "Eve")
                except exc.NoResultFound as error:
                    names = []
                    traceback = error.__traceback__
                    while traceback:
                        names.append(traceback.tb_frame.f_code.co_name)
                        traceback = traceback.tb_next
                    assert names[0] == "main" and "titles" in names
                else:
                    raise AssertionError("found Eve")
            assert greenlet.getcurrent() is outside
            await engine.dispose()

        asyncio.run(main())
    """)


def test_twenty_sessions_at_once_share_a_small_pool(database):
    database("""
        TASKS = 20

        async def work(engine, number):
            async with AsyncSession(engine) as session:
                await session.execute(update(Author).values(sold=Author.sold + number))
                session.add(Book(title=f"Volume {number}", author_id=1))
                await session.commit()
                query = select(Book.title).where(Book.title == f"Volume {number}")
                await asyncio.sleep(0)
                return await session.run_sync(lambda plain: plain.scalars(query).one())

        async def main():
            engine = new_engine(pool_size=3, max_overflow=0, pool_timeout=30)
            await create_tables(engine)
            await add_two_authors(engine)
            results = await asyncio.gather(*(work(engine, number) for number in range(TASKS)))
            assert results == [f"Volume {number}" for number in range(TASKS)]
            assert engine.pool.checkedout() == 0 and engine.pool.checkedin() == 3
            assert await count(engine, Book) == 3 + TASKS
            async with AsyncSession(engine) as session:
                sold = (await session.scalars(select(Author.sold))).all()
            assert sold == [sum(range(TASKS))] * 2
            await engine.dispose()

        asyncio.run(main())
    """)


def test_exception_rolls_back(database):
    database("""
        async def main():
            engine = new_engine()
            await create_tables(engine)
            await add_two_authors(engine)
            try:
                async with AsyncSession(engine) as session, session.begin():
                    session.add(Author(name="Eve"))
                    await session.flush()
                    assert await session.scalar(select(func.count()).select_from(Author)) == 3
                    raise LookupError("not her")
            except LookupError as error:
                assert error.args == ("not her",)
            else:
                raise AssertionError("swallowed")
            assert await count(engine, Author) == 2

            async with AsyncSession(engine) as session:
                session.add_all([Author(name="Fay"), Author(name="Ada")])
                try:
                    await session.commit()
                except exc.IntegrityError as error:
                    assert "author.name" in str(error)
                else:
                    raise AssertionError("two of one name")
                await session.rollback()
                session.add(Author(name="Fay"))
                await session.commit()
            assert await count(engine, Author) == 3

            # Inside of run_sync: of the two, only what comes before the savepoint stays.
            def nested(session):
                session.add(Author(name="Gil"))
                try:
                    with session.begin_nested():
                        session.add(Author(name="Hal"))
                        session.flush()
                        raise LookupError
                except LookupError:
                    pass
                session.commit()

            async with AsyncSession(engine) as session:
                await session.run_sync(nested)
                names = (await session.scalars(select(Author.name).order_by(Author.id))).all()
            assert names == ["Ada", "Bob", "Fay", "Gil"]
            await engine.dispose()

        asyncio.run(main())
    """)


def test_cancelled_query_gives_its_place_in_the_pool_back(database):
    database("""
        ROUNDS = 3
        entered, release = threading.Event(), threading.Event()

        def slow(number):
            entered.set()
            assert release.wait(20)
            return number

        async def query(engine, number):
            async with AsyncSession(engine) as session:
                return await session.scalar(text(f"SELECT slow({number})"))

        async def cancelled(engine, number):
            entered.clear()
            release.clear()
            task = asyncio.create_task(query(engine, number))
            # The connection's thread is in the middle of it when the time is up.
            assert await asyncio.to_thread(entered.wait, 20)
            asyncio.get_running_loop().call_later(0.1, release.set)
            try:
                await asyncio.wait_for(task, 0.01)
            except TimeoutError:
                assert task.cancelled()
            else:
                raise AssertionError("not cancelled")

        async def main():
            engine = new_engine(pool_size=1, max_overflow=0, pool_timeout=5)

            @event.listens_for(engine.sync_engine, "connect")
            def connect(connection, record):
                connection.create_function("slow", 1, slow)

            await create_tables(engine)
            await add_two_authors(engine)
            for number in range(ROUNDS):
                await cancelled(engine, number)
                assert engine.pool.checkedout() == 0
                assert await query(engine, number) == number
            assert await count(engine, Author) == 2
            await engine.dispose()

        asyncio.run(main())
    """)


def test_task_left_in_a_query_is_cancelled_by_the_end_of_the_loop(database):
    output = database("""
        from sqlalchemy.util import await_

        async def waits(engine, ready):
            def inside(connection):
                assert connection.scalar(text("SELECT 1")) == 1
                ready.set()
                try:
                    await_(asyncio.sleep(60))
                except asyncio.CancelledError:
                    print("cancelled inside")
                    # Awaiting goes on working while the exception passes.
                    assert connection.scalar(text("SELECT 2")) == 2
                    raise
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(inside)
            finally:
                print("left")
                await engine.dispose()

        async def main():
            ready = asyncio.Event()
            task = asyncio.create_task(waits(new_engine(), ready))
            await ready.wait()
            return task

        assert asyncio.run(main()).cancelled()
    """)
    assert output.splitlines() == ["cancelled inside", "left"]


def test_context_variables_are_those_of_the_task_on_both_sides(database):
    database("""
        TASKS = 5
        outer = contextvars.ContextVar("outer")
        inner = contextvars.ContextVar("inner")

        def inside(connection, number):
            assert outer.get() == number
            inner.set((number, "first"))
            assert connection.scalar(text("SELECT 1")) == 1
            # Other tasks have run, with values of their own.
            assert outer.get() == number and inner.get() == (number, "first")
            token = inner.set((number, "second"))
            assert connection.scalar(text("SELECT 2")) == 2
            return token

        async def work(engine, number):
            outer.set(number)
            async with engine.connect() as connection:
                token = await connection.run_sync(inside, number)
                assert inner.get() == (number, "second")
                # Of this same context, or it would be refused.
                inner.reset(token)
                assert inner.get() == (number, "first")
                outer.set((number, "again"))
                await connection.run_sync(lambda _: seen.append(outer.get()))

        async def main():
            engine = new_engine(pool_size=TASKS)
            await asyncio.gather(*(work(engine, number) for number in range(TASKS)))
            assert sorted(seen) == [(number, "again") for number in range(TASKS)]
            assert outer.get(None) is None and inner.get(None) is None
            await engine.dispose()

        seen = []
        asyncio.run(main())
    """)


def test_results_are_streamed(database):
    database("""
        ROWS = 100

        async def main():
            engine = new_engine(pool_size=1, max_overflow=0, pool_timeout=5)
            await create_tables(engine)
            async with AsyncSession(engine) as session, session.begin():
                session.add_all(Author(name=f"{number:03}") for number in range(ROWS))
            names = [f"{number:03}" for number in range(ROWS)]
            query = select(Author).order_by(Author.name).execution_options(yield_per=7)
            async with AsyncSession(engine) as session:
                result = await session.stream_scalars(query)
                assert [author.name async for author in result] == names

                parts = []
                async for part in (await session.stream_scalars(query)).partitions():
                    parts.append([author.name for author in part])
                assert [len(part) for part in parts] == [7] * 14 + [2]
                assert sum(parts, []) == names

            # Left in the middle: closed with its connection, which the pool gets back.
            async with engine.connect() as connection:
                async with connection.stream(select(Author.name).order_by(Author.name)) as rows:
                    async for (name,) in rows:
                        if name == "010":
                            break
                    assert await anext(rows) == ("011",)
            assert engine.pool.checkedout() == 0
            assert await count(engine, Author) == ROWS
            await engine.dispose()

        asyncio.run(main())
    """)


def test_loops_in_several_threads_do_not_meet(database):
    database("""
        THREADS = 4

        async def work(number):
            engine = create_async_engine("sqlite+aiosqlite://")
            await create_tables(engine)
            async with AsyncSession(engine) as session:
                session.add_all(Author(name=f"{number}.{row}") for row in range(25))
                await session.commit()
                names = (await session.scalars(select(Author.name).order_by(Author.id))).all()
            await engine.dispose()
            assert names == [f"{number}.{row}" for row in range(25)]
            finished.append(number)

        finished = []
        threads = [
            threading.Thread(target=lambda number=number: asyncio.run(work(number)))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
        assert sorted(finished) == list(range(THREADS))
    """)
