"""advanced-alchemy's SQLAlchemy store for Litestar."""

from __future__ import annotations

from collections.abc import Sequence

from advanced_alchemy.extensions.litestar import SQLAlchemyAsyncConfig
from advanced_alchemy.extensions.litestar.store import SQLAlchemyStore, StoreModelMixin

from .base import Peer

TTL = 14 * 24 * 60 * 60


class StoredItem(StoreModelMixin):  # type: ignore[misc]
    """Its table."""

    __tablename__ = "advanced_alchemy_store"


class AdvancedAlchemy(Peer):
    """`SQLAlchemyStore` over asyncpg, as its documentation sets it up."""

    server = "postgresql"

    async def setup(self, ids: Sequence[str]) -> None:
        """Make its table."""
        self.config = SQLAlchemyAsyncConfig(connection_string=self.url)
        self.store = SQLAlchemyStore(config=self.config, model=StoredItem)
        async with self.config.get_engine().begin() as connection:
            await connection.run_sync(StoredItem.__table__.create)

    async def get(self, id: str) -> bytes:
        """Read an item."""
        data: bytes | None = await self.store.get(id)
        if data is None:
            raise LookupError(id)
        return data

    async def set(self, id: str, data: bytes) -> None:
        """Write an item."""
        await self.store.set(id, data, expires_in=TTL)

    async def close(self) -> None:
        """Close the connections."""
        await self.config.get_engine().dispose()
