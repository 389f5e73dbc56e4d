"""pydantic models and dataclasses as data of a session."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import to_json, to_jsonable_python

from ...errors import InvalidSessionData

_SECRETS = (Secret, SecretBytes, SecretStr)


class PydanticCodec:
    """pydantic models and dataclasses: as JSON, since strict ones accept text for a date only there."""

    def __init__(self, model: type[Any]) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        self._may_have_secrets = "Secret" in repr(self._adapter.core_schema)

    def load(self, data: Any) -> Any:
        """The model."""
        return self._adapter.validate_json(to_json(data), by_alias=False, by_name=True)

    def dump(self, value: Any) -> Any:
        """Its data."""
        try:
            data = self._dumped(value, "json")
            return _revealed(self._dumped(value, "python"), data) if self._may_have_secrets else data
        except ValueError:
            pass  # its text may quote the data
        raise InvalidSessionData(f"pydantic has no JSON for this {type(value).__name__}")

    def _dumped(self, value: Any, mode: Literal["json", "python"]) -> Any:
        # A round trip leaves out computed fields, which models may forbid.
        return self._adapter.dump_python(value, mode=mode, by_alias=False, round_trip=True)


def _revealed(value: Any, data: Any) -> Any:
    """JSON data of a value, in which pydantic hid secrets, with these."""
    if isinstance(value, _SECRETS):
        return to_jsonable_python(value.get_secret_value())
    if isinstance(value, dict) and isinstance(data, dict):
        return {key: _revealed(item, data[key]) for item, key in zip(value.values(), data, strict=True)}
    if isinstance(value, (list, tuple, set, frozenset)) and isinstance(data, list):
        return [_revealed(*pair) for pair in zip(value, data, strict=True)]
    return data
