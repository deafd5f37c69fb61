"""Packages that await in plain functions by means of greenlets, on rgevent under greenlet's name.

Each program runs in a process of its own, which takes the name first thing. SQLAlchemy and
greenback switch inside the steps of asyncio's tasks; Playwright runs the event loop in a greenlet.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS_MAX = 60
#: Comes before every program. One that hangs says where, a little before it would be killed.
PRELUDE = f"""
import faulthandler
faulthandler.dump_traceback_later({SECONDS_MAX - 10}, exit=True)
import rgevent.compat
rgevent.compat.install_as_greenlet()
import asyncio, contextvars, sys, threading
"""
#: Comes after: the name is still ours, and the extension of the peer was never loaded.
EPILOGUE = """
import greenlet
assert greenlet is sys.modules["greenlet"] is rgevent.greenlet
with open("/proc/self/maps") as maps:
    assert "/greenlet/_greenlet." not in maps.read()
print("done")
"""
#: Two tables, and an engine on the file named by the first argument.
MODELS = """
from sqlalchemy import ForeignKey, event, exc, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

class Base(AsyncAttrs, DeclarativeBase):
    pass

class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    sold: Mapped[int] = mapped_column(default=0)
    books: Mapped[list["Book"]] = relationship(order_by="Book.id", back_populates="author")

class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")

def new_engine(**options):
    options.setdefault("connect_args", {"timeout": 30})
    return create_async_engine(f"sqlite+aiosqlite:///{sys.argv[1]}", **options)

async def create_tables(engine):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

async def add_two_authors(engine):
    async with AsyncSession(engine) as session, session.begin():
        session.add(Author(name="Ada", books=[Book(title="Notes"), Book(title="Letters")]))
        session.add(Author(name="Bob", books=[Book(title="Diary")]))

async def count(engine, what):
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count()).select_from(what))
"""


@pytest.fixture
def program(run_python) -> Callable[..., str]:
    """program(*texts, arguments=()) runs them as one; what they wrote, once they ended well.

    They may not complain either: tasks destroyed, coroutines never awaited.
    """

    def run(*texts: str, arguments: tuple[str | Path, ...] = ()) -> str:
        code = "".join([PRELUDE, *map(textwrap.dedent, texts), EPILOGUE])
        done = run_python("-c", code, *arguments, seconds=SECONDS_MAX)
        assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.stderr == ""
        output, last = done.stdout[: -len("done\n")], done.stdout[-len("done\n") :]
        assert last == "done\n", done.stdout
        return output

    return run


@pytest.fixture
def database(program, tmp_path) -> Callable[[str], str]:
    """database(text) runs a program that has the models and a new database."""
    return lambda text: program(MODELS, text, arguments=(tmp_path / "books.sqlite",))
