"""fastapi-users with its logins in our storages."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, Strategy
from fastapi_users.db import BaseUserDatabase
from httpx import ASGITransport, AsyncClient

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionStorageMemory, new_session_id
from sqlsessions.integrations.fastapi_users import SessionStrategy
from sqlsessions.testing import ManualClock, SpyStorage

DAY = 24 * 60 * 60
ANN = {"email": "ann@example.org", "password": "a long password"}


class User:
    id: uuid.UUID
    email: str
    hashed_password: str
    is_active: bool
    is_superuser: bool
    is_verified: bool

    def __init__(self, **values: Any) -> None:
        self.id = uuid.uuid4()
        self.__dict__.update({"is_active": True, "is_superuser": False, "is_verified": False} | values)


class Users(BaseUserDatabase[User, uuid.UUID]):
    def __init__(self) -> None:
        self.users: dict[uuid.UUID, User] = {}

    async def get(self, id: uuid.UUID) -> User | None:
        return self.users.get(id)

    async def get_by_email(self, email: str) -> User | None:
        return next((user for user in self.users.values() if user.email == email), None)

    async def create(self, create_dict: dict[str, Any]) -> User:
        user = User(**create_dict)
        self.users[user.id] = user
        return user


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = "secret"


class Read(schemas.BaseUser[uuid.UUID]):
    pass


class Service:
    """An application, and a client of it."""

    def __init__(self, strategy: SessionStrategy[User, uuid.UUID], transport: Any) -> None:
        self.users = Users()
        self.manager = Manager(self.users)

        async def manager() -> AsyncIterator[Manager]:
            yield self.manager

        def chosen() -> Strategy[User, uuid.UUID]:
            return strategy

        backend = AuthenticationBackend(name="sessions", transport=transport, get_strategy=chosen)
        api = FastAPIUsers[User, uuid.UUID](manager, [backend])
        self.app = FastAPI()
        self.app.include_router(api.get_auth_router(backend))
        self.app.include_router(api.get_register_router(Read, schemas.BaseUserCreate))
        current = api.current_user(active=True)

        @self.app.get("/me")
        async def me(user: Annotated[User, Depends(current)]) -> str:
            return user.email

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        transport = ASGITransport(self.app)
        async with AsyncClient(transport=transport, base_url="https://service.test") as client:
            yield client

    async def login(self, client: AsyncClient) -> Any:
        await client.post("/register", json=ANN)
        form = {"username": ANN["email"], "password": ANN["password"]}
        response = await client.post("/login", data=form)
        assert response.is_success
        return response


@pytest.fixture
def by_cookie(storage: SpyStorage) -> Service:
    return Service(SessionStrategy(storage), CookieTransport(cookie_name="login"))


async def test_by_cookie(by_cookie: Service, storage: SpyStorage) -> None:
    async with by_cookie.client() as client:
        assert (await client.get("/me")).status_code == 401
        await by_cookie.login(client)
        token = client.cookies["login"]
        (user,) = by_cookie.users.users.values()
        (info,) = [info async for info in storage.sessions(str(user.id))]
        assert token not in repr(info)
        assert (await client.get("/me")).json() == ANN["email"]
        assert (await client.post("/logout")).status_code == 204
        assert (await client.get("/me", headers={"Cookie": f"login={token}"})).status_code == 401
        assert [info async for info in storage.sessions()] == []


async def test_by_bearer_token(storage: SpyStorage) -> None:
    service = Service(SessionStrategy(storage), BearerTransport(tokenUrl="login"))
    async with service.client() as client:
        token = (await service.login(client)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/me", headers=headers)).json() == ANN["email"]
        (user,) = service.users.users.values()
        assert await storage.revoke(str(user.id)) == 1
        assert (await client.get("/me", headers=headers)).status_code == 401


@pytest.mark.parametrize("token", [None, "", "x", "x" * 5000, "a b", "é", "\0" * 43])
async def test_what_can_be_no_token_is_not_looked_up(
    by_cookie: Service, storage: SpyStorage, token: str | None
) -> None:
    strategy: SessionStrategy[User, uuid.UUID] = SessionStrategy(storage)
    assert await strategy.read_token(token, by_cookie.manager) is None
    await strategy.destroy_token(token or "", User())
    assert storage.calls == []


@pytest.mark.parametrize("subject", [None, "no id", str(uuid.UUID(int=1))])
async def test_sessions_that_are_no_logins(
    by_cookie: Service, storage: SpyStorage, subject: str | None
) -> None:
    """Such as those of the service's visitors, and of users who were deleted."""
    strategy: SessionStrategy[User, uuid.UUID] = SessionStrategy(storage)
    await storage.write_bytes(token := new_session_id(), b"", subject=subject)
    assert await strategy.read_token(token, by_cookie.manager) is None


async def test_a_login_is_extended_by_its_use(
    by_cookie: Service, storage: SpyStorage, clock: ManualClock
) -> None:
    strategy: SessionStrategy[User, uuid.UUID] = SessionStrategy(storage, ttl=100, absolute_timeout=1000)
    user = await by_cookie.users.create(dict(ANN, hashed_password=""))
    token = await strategy.write_token(user)
    for _ in range(19):
        clock.advance(50)
        assert await strategy.read_token(token, by_cookie.manager) is user
    storage.calls.clear()
    assert await strategy.read_token(token, by_cookie.manager) is user
    assert storage.calls == ["info"]
    clock.advance(51)
    assert await strategy.read_token(token, by_cookie.manager) is None


async def test_the_use_of_a_login_is_noted(by_cookie: Service, clock: ManualClock) -> None:
    storage = SpyStorage(SessionStorageMemory(clock=clock, touch_every=600))
    strategy: SessionStrategy[User, uuid.UUID] = SessionStrategy(storage)
    user = await by_cookie.users.create(dict(ANN, hashed_password=""))
    token = await strategy.write_token(user)
    storage.calls.clear()
    for seconds in (599, 1, 599):
        clock.advance(seconds)
        assert await strategy.read_token(token, by_cookie.manager) is user
    assert storage.calls == ["info", "info", "touch", "info"]


async def test_a_login_that_is_not_used_ends(
    by_cookie: Service, storage: SpyStorage, clock: ManualClock
) -> None:
    strategy: SessionStrategy[User, uuid.UUID] = SessionStrategy(storage, ttl=DAY)
    token = await strategy.write_token(await by_cookie.users.create(dict(ANN, hashed_password="")))
    clock.advance(DAY)
    assert await strategy.read_token(token, by_cookie.manager) is None


def test_wrong_arguments() -> None:
    storage = SessionStorageMemory()
    with pytest.raises(InvalidArgumentType):
        SessionStrategy("sqlite://")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        SessionStrategy(storage, ttl=0)
    with pytest.raises(InvalidArgument):
        SessionStrategy(storage, ttl=2, absolute_timeout=1)
