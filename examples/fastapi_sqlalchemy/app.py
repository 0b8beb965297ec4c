"""The application: POST /orders stores an order and sends its webhook, both or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import CheckConstraint, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from netra_backend import Netra
from netra_backend.integrations.asgi import NetraMiddleware
from netra_backend.integrations.sqlalchemy import begin_immediate


class Base(DeclarativeBase):
    """The shop's tables; Netra's are in the same database and in none of its models."""


class Stock(Base):
    """What there is of an item."""

    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("pieces >= 0"),)
    item: Mapped[str] = mapped_column(primary_key=True)
    pieces: Mapped[int]


class Order(Base):
    """What was ordered."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    pieces: Mapped[int]


class NewOrder(BaseModel):
    """The body of POST /orders."""

    item: str
    pieces: int


async def a_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One for each request."""
    async with request.app.state.sessions() as session:
        yield session


router = APIRouter()


@router.post("/orders", status_code=201)
async def take_order(new: NewOrder, request: Request, session: Annotated[AsyncSession, Depends(a_session)]) -> dict[str, int]:
    """One transaction: the stock, the order, and what the tenant's customers are told of it."""
    netra: Netra = request.app.state.netra
    try:
        async with session.begin():
            order = Order(item=new.item, pieces=new.pieces)
            session.add(order)
            await session.flush()
            tx = netra.adopt(session)  # the tenant and the trace are the request's
            await netra.webhooks.send(tx, "order.made", {"order": order.id, **new.model_dump()})
            await session.execute(update(Stock).where(Stock.item == new.item).values(pieces=Stock.pieces - new.pieces))
    except IntegrityError:
        raise HTTPException(409, f"there are not so many of {new.item}") from None
    return {"order": order.id}


def make_app(path: str, data: str, keys: Mapping[str, str]) -> FastAPI:
    """The application on that SQLite file; `keys` names the tenant of each API key."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    begin_immediate(engine)  # so that a request that reads first may send afterwards
    netra = Netra(f"sqlite:///{path}", data=data, dev=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with netra:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            yield
        await engine.dispose()

    def tenant(request: MutableMapping[str, Any]) -> str | None:
        return keys.get(dict(request["headers"]).get(b"x-api-key", b"").decode("latin-1"))

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(NetraMiddleware, netra=netra, tenant=tenant)
    app.include_router(router)
    app.state.netra, app.state.sessions = netra, async_sessionmaker(engine, expire_on_commit=False)
    return app
