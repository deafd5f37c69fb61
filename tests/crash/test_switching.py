"""What Python keeps for running code stays with its greenlet, whatever switches in between."""

from collections.abc import Callable

Check = Callable[..., None]


def test_handled_exceptions_are_of_one_greenlet(check_script: Check) -> None:
    check_script(
        """
        import sys

        def handled():
            return repr(sys.exc_info()[1])

        def work(name):
            seen = [handled()]
            try:
                raise ValueError(name, 1)
            except ValueError:
                main.switch()
                seen.append(handled())
                try:
                    try:
                        main.switch()
                        raise KeyError(name, 2)
                    finally:
                        seen.append(handled())
                        main.switch()
                        seen.append(handled())
                except KeyError:
                    main.switch()
                    seen.append(handled())
                main.switch()
                seen.append(handled())
            main.switch()
            seen.append(handled())
            return seen

        main = getcurrent()
        each = [greenlet(work) for _ in range(3)]
        try:
            raise LookupError("main")
        except LookupError:
            for number, one in enumerate(each):
                one.switch(number)
            for step in range(5):
                for one in each:
                    one.switch()
                    assert handled() == "LookupError('main')", handled()
        print(handled())
        for one in reversed(each):
            print(*one.switch())
        """,
        prints="None\n"
        + "".join(
            f"None ValueError({n}, 1) KeyError({n}, 2) KeyError({n}, 2) KeyError({n}, 2)"
            f" ValueError({n}, 1) None\n"
            for n in (2, 1, 0)
        ),
    )


def test_bare_raise_finds_the_exception_of_its_greenlet(check_script: Check) -> None:
    check_script(
        """
        def work(name):
            try:
                raise ValueError(name)
            except ValueError:
                try:
                    raise KeyError(name)
                except KeyError:
                    main.switch()
                main.switch()
                raise

        def nothing():
            raise

        main = getcurrent()
        each = {name: greenlet(work) for name in "abc"}
        for name, one in each.items():
            one.switch(name)
        for name in "cab":
            each[name].switch()
        for name in "bca":
            try:
                try:
                    raise LookupError
                finally:
                    each[name].switch()
            except ValueError as problem:
                print(problem, problem.__context__)
            try:
                raise LookupError
            except LookupError:
                try:
                    greenlet(nothing).switch()
                except RuntimeError as problem:
                    print(problem, problem.__context__)
        """,
        prints="".join(f"{name} None\nNo active exception to reraise None\n" for name in "bca"),
    )


def test_context_of_an_exception_is_from_its_own_greenlet(check_script: Check) -> None:
    check_script(
        """
        # A switch passes an exception on, which does not give it a context.
        def chain(problem):
            seen = []
            while problem is not None:
                seen.append(repr(problem))
                problem = problem.__context__
            return " < ".join(seen)

        def fails(name):
            raise KeyError(name)

        def work(name):
            try:
                raise ValueError(name)
            except ValueError:
                main.switch()
                try:
                    greenlet(fails).switch(name)
                except KeyError as problem:
                    passed = chain(problem)
                    main.switch()
                    try:
                        raise OSError(name)
                    except OSError as problem:
                        return passed, chain(problem)

        main = getcurrent()
        each = [greenlet(work) for _ in range(2)]
        try:
            raise LookupError
        except LookupError:
            for number, one in enumerate(each):
                one.switch(number)
            for one in each:
                one.switch()
            for one in each:
                print(*one.switch(), sep="; ")
            thrown = RuntimeError("thrown")
            target = greenlet(work)
            target.switch(2)
            try:
                target.throw(thrown)
            except RuntimeError as problem:
                print(problem is thrown, chain(problem))
        """,
        prints="".join(f"KeyError({n}); OSError({n}) < KeyError({n})\n" for n in (0, 1))
        + "True RuntimeError('thrown')\n",
    )


def test_long_traceback_through_three_greenlets(check_script: Check) -> None:
    check_script(
        """
        import traceback

        def down(depth, *below):
            if depth:
                return down(depth - 1, *below)
            if below:
                return below[0].switch(200, *below[1:])
            main.switch("bottom")
            raise ValueError

        main = getcurrent()
        first = greenlet(down)
        second = greenlet(down, first)
        third = greenlet(down, second)
        print(first.switch(200, second, third))
        try:
            third.switch()
        except ValueError as problem:
            frames = traceback.extract_tb(problem.__traceback__)
            del frames[0]
            print(len(frames), {frame.name for frame in frames})
            lines = [frame.lineno for frame in frames]
            print([n for n, line in enumerate(lines) if line != lines[0]])
            print([one.dead for one in (first, second, third)])
        """,
        prints="bottom\n603 {'down'}\n[200, 401, 602]\n[True, True, True]\n",
    )


def test_generators_advanced_by_several_greenlets(check_script: Check) -> None:
    check_script(
        """
        import sys

        def numbers():
            for n in range(9):
                try:
                    raise ValueError(n)
                except ValueError:
                    yield n, repr(sys.exc_info()[1])

        def work():
            seen = []
            for n, handled in shared:
                assert handled == f"ValueError({n})" and sys.exc_info()[1] is None
                seen.append(n)
                main.switch()
            return seen

        main, shared = getcurrent(), numbers()
        each = [greenlet(work) for _ in range(3)]
        for _ in range(3):
            for one in each:
                one.switch()
        print([one.switch() for one in each])
        """,
        prints="[[0, 3, 6], [1, 4, 7], [2, 5, 8]]\n",
    )


def test_generator_suspended_in_a_switch_is_executing(check_script: Check) -> None:
    check_script(
        """
        def numbers():
            try:
                yield main.switch("one")
                yield from inner()
            finally:
                main.switch("closing")

        def inner():
            yield main.switch("two")

        def attempt(call, *arguments):
            try:
                return call(*arguments)
            except (ValueError, RuntimeError) as problem:
                return str(problem)

        main, shared = getcurrent(), numbers()
        owner = greenlet(lambda: list(shared))
        print(owner.switch(), attempt(next, shared), attempt(shared.close), sep="; ")
        print(shared.gi_running, attempt(greenlet(lambda: next(shared)).switch))
        print(owner.switch(1), attempt(shared.throw, KeyError), sep="; ")
        print(owner.switch(2), attempt(next, shared), sep="; ")
        print(owner.switch(), shared.gi_running, list(shared))
        """,
        prints="""\
one; generator already executing; generator already executing
True generator already executing
two; generator already executing
closing; generator already executing
[1, 2] False []
""",
    )


def test_coroutines_and_async_generators_advanced_in_turn(check_script: Check) -> None:
    check_script(
        """
        import types

        @types.coroutine
        def pause(value):
            return (yield value)

        async def numbers():
            try:
                for n in range(4):
                    yield main.switch(("inside", n))
                    await pause(n)
            finally:
                await pause("closed")

        async def collect():
            return [value async for value in shared]

        def advance(value):
            try:
                return coroutine.send(value)
            except StopIteration as stop:
                return stop.value
            except (ValueError, RuntimeError) as problem:
                return str(problem)

        main, shared = getcurrent(), numbers()
        coroutine = collect()
        for n in range(4):
            one = greenlet(advance)
            print(one.switch(None), advance(None), sep="; ")
            print(one.switch(n * n), one.dead, shared.ag_running, coroutine.cr_running)
        print(advance(None), greenlet(advance).switch(None))
        """,
        prints="".join(
            f"('inside', {n}); coroutine already executing\n{n} True True False\n" for n in range(4)
        )
        + "closed [0, 1, 4, 9]\n",
    )


def test_context_variables_of_each_greenlet(check_script: Check) -> None:
    check_script(
        """
        import contextvars

        variable = contextvars.ContextVar("variable", default="unset")

        def work(name):
            seen = [variable.get()]
            token = variable.set(name)
            main.switch()
            seen.append(variable.get())
            inner = contextvars.copy_context()
            inner.run(variable.set, name * 2)
            inner.run(main.switch)
            seen += [variable.get(), inner[variable]]
            variable.reset(token)
            main.switch()
            return seen + [variable.get()]

        main = getcurrent()
        variable.set("main")
        each = {name: greenlet(work) for name in "abc"}
        print({one.gr_context for one in each.values()})
        for name, one in each.items():
            one.switch(name)
        print([one.gr_context[variable] for one in each.values()], variable.get())
        for one in each.values():
            one.switch()
        print([one.gr_context[variable] for one in each.values()], variable.get())
        for one in each.values():
            one.switch()
        print([variable in one.gr_context for one in each.values()], variable.get())
        each["b"].gr_context = each["a"].gr_context = contextvars.copy_context()
        print([one.switch() for one in each.values()], variable.get())
        """,
        prints="""\
{None}
['a', 'b', 'c'] main
['aa', 'bb', 'cc'] main
[False, False, False] main
"""
        + str([["unset", n, n, n * 2, "unset" if n == "c" else "main"] for n in "abc"])
        + " main\n",
    )


def test_decimal_context_of_each_greenlet(check_script: Check) -> None:
    check_script(
        """
        import decimal

        def work(digits):
            decimal.getcontext().prec = digits
            main.switch()
            first = 1 / decimal.Decimal(3)
            with decimal.localcontext() as local:
                local.prec = 1
                main.switch()
                second = 1 / decimal.Decimal(3)
            main.switch()
            return str(first), str(second), decimal.getcontext().prec

        main = getcurrent()
        decimal.getcontext().prec = 4
        each = [greenlet(work) for _ in range(3)]
        for digits, one in enumerate(each, 5):
            one.switch(digits)
        for _ in range(2):
            for one in each:
                one.switch()
                assert str(1 / decimal.Decimal(3)) == "0.3333"
        print(*[one.switch() for one in reversed(each)])
        """,
        prints="('0.3333333', '0.3', 7) ('0.333333', '0.3', 6) ('0.33333', '0.3', 5)\n",
    )
