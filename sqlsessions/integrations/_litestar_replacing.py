"""What a handler of Litestar puts in the place of its session, by ``set_session`` or ``clear_session``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar.serialization import decode_json, encode_json
from litestar.types import Empty
from litestar.utils import get_serializer_from_scope

from ..errors import InvalidArgumentType
from ._web.manager import SessionManager
from ._web.session import Session


async def replace_session(manager: SessionManager, session: Session, value: Any, scope: Any) -> None:
    """Give a session the data that ``set_session`` or ``clear_session`` put in its place."""
    data = _plain(value, scope)
    if not data:
        session.invalidate()
        return
    await manager.load(session)
    session.mark_accessed()
    if not session.keys() <= data.keys():  # else it is the old one with changes
        state = session.state
        requested, authenticated = state.subject, state.authenticated
        session.clear()
        state.subject = requested  # it stays whose it is, which is no login
        state.authenticate(authenticated)
    session.update(data)


def _plain(value: Any, scope: Any) -> dict[str, Any]:
    """The data of a mapping, or of a model or dataclass."""
    if value is Empty or value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    decoded = decode_json(encode_json(value, get_serializer_from_scope(scope)))
    if not isinstance(decoded, dict):
        raise InvalidArgumentType(f"set_session takes a dict, a model or Empty, not {type(value).__name__}")
    return decoded
