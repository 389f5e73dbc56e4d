"""`LazyDict`: a dict that is read from elsewhere when it is first used, by Python or by C code."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any, SupportsIndex


class UnreadSession:
    """The one key and value of a dict that is not read yet.

    C code may look into a dict without calling its methods: orjson, msgspec, and json for the length. An
    empty dict would be encoded as such; this key makes json call ``items()``, and the others raise.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<session that is not read yet>"


_UNREAD: Any = UnreadSession()


class LazyDict(dict[str, Any]):
    """A dict whose every method reads it first, unless that was done.

    Attributes:
        loaded: Whether it was read, or there was nothing to read.
    """

    __slots__ = ("_load", "loaded")

    loaded: bool
    _load: Callable[[Any], None] | None

    def postpone(self, load: Callable[[Any], None] | None) -> None:
        """Have the dict, which is empty, read when it is first used.

        Args:
            load: Calls `fill`, or raises; None if the owner calls `fill` before anything else.
        """
        dict.__setitem__(self, _UNREAD, _UNREAD)
        self.loaded = False
        self._load = load

    def fill(self, data: Any) -> None:
        """Take over data that was read; for integrations, as it does not count as an access."""
        dict.clear(self)
        dict.update(self, data)
        self.loaded = True

    def plain(self) -> dict[str, Any]:
        """The data as a dict; for integrations, as it does not count as an access."""
        return dict(dict.items(self))

    def ensure_loaded(self) -> None:
        """Read the data unless that was done; for integrations.

        Raises:
            RuntimeError: If that is no longer possible.
        """
        if not self.loaded:
            if self._load is None:
                raise RuntimeError("the session was not read while its request lasted, and cannot be now")
            self._load(self)

    @property  # type: ignore[misc]  # read-only, unlike that of `object`
    def __class__(self) -> type[Any]:
        """The type, for ``isinstance``, which asks for it unless the type itself says enough.

        Frameworks check what a handler returns before they encode it, and pydantic what it validates.
        Django's lazy objects are evaluated by the same question.
        """
        if not self.loaded and self._load is not None:
            self.ensure_loaded()
        return type(self)

    # `dict` rather than `super()`, which would take about as long again: these are called for each access.

    def __getitem__(self, key: str) -> Any:
        self.ensure_loaded()
        return dict.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        self.ensure_loaded()
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[str]:
        self.ensure_loaded()
        return dict.__iter__(self)

    def __reversed__(self) -> Iterator[str]:
        self.ensure_loaded()
        return dict.__reversed__(self)

    def __len__(self) -> int:
        self.ensure_loaded()
        return dict.__len__(self)

    def __eq__(self, other: object) -> bool:
        self._both(other)
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        self._both(other)
        return dict.__ne__(self, other)

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)

    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return self.__reduce__()

    def get(self, key: str, default: Any = None) -> Any:
        self.ensure_loaded()
        return dict.get(self, key, default)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        self.ensure_loaded()
        return dict.keys(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self.ensure_loaded()
        return dict.values(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self.ensure_loaded()
        return dict.items(self)

    def copy(self) -> dict[str, Any]:
        self.ensure_loaded()
        return self.plain()

    def _both(self, other: object) -> None:
        """Read the two sides of a comparison, which looks into them without calling their methods."""
        self.ensure_loaded()
        if isinstance(other, LazyDict):
            other.ensure_loaded()
