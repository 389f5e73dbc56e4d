"""Upload forms, parsed while they arrive: nothing is spooled to disk, nothing gathers in memory."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

DEFAULT_TYPE = "application/octet-stream"
_TYPE = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+")
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}


class BadForm(ValueError):
    """The request is no multipart form, is malformed, ends early or has the wrong fields."""


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a form field; its data follows.

    Attributes:
        name: The field's name.
        file: The name of the uploaded file without its path, printable; empty if it has none.
        type: The media type that the browser guessed, without parameters.
    """

    name: str
    file: str
    type: str


class Form:
    """A multipart form as a stream of its fields, each a `Part` followed by pieces of data.

    Args:
        content_type: The request's header of that name.
        body: The request's body, piece by piece.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        self._events = _events(content_type, body)
        self._ahead: Part | None = None

    async def field(self, name: str, limit: int) -> str:
        """The next field, which must be a short one of this name.

        Args:
            name: The field that must come next.
            limit: The most bytes that it may hold.
        """
        await self._begin(name)
        value = b""
        async for event in self._events:
            if isinstance(event, Part):
                self._ahead = event
                break
            value += event
            if len(value) > limit:
                raise BadForm(f"the field {name} is too long")
        return value.decode(errors="replace")

    async def file(self, name: str) -> tuple[Part, AsyncIterator[bytes]]:
        """The last field, which must be a chosen file of this name.

        Returns:
            Its head, and its data, which ends well only if the form arrived whole.
        """
        part = await self._begin(name)
        if not part.file:
            raise BadForm("choose a file first")
        return part, self._rest()

    async def _begin(self, name: str) -> Part:
        event: Part | bytes | None = self._ahead
        self._ahead = None
        if event is None:
            event = await anext(self._events, None)
        if not isinstance(event, Part) or event.name != name:
            raise BadForm(f"the field {name} is missing")
        return event

    async def _rest(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            if isinstance(event, Part):
                raise BadForm("only one file is taken")
            yield event


async def _events(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[Part | bytes]:
    media, options = parse_options_header(content_type)
    if media != b"multipart/form-data" or not options.get(b"boundary"):
        raise BadForm("the request is not a multipart form")
    fields = _Fields()
    try:
        parser = fields.parser(options[b"boundary"])
        async for piece in body:
            parser.write(piece)
            for event in fields.events:
                yield event
            fields.events.clear()
    except FormParserError as error:
        raise BadForm("the form is malformed") from error
    if not fields.complete:
        raise BadForm("the form ended early")


class _Fields:
    """Turns the parser's callbacks into events."""

    def __init__(self) -> None:
        self.events: list[Part | bytes] = []
        self.complete = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._part,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        media = parse_options_header(self._headers.get(b"content-type"))[0].decode("latin-1")
        self.events.append(
            Part(
                name=options.get(b"name", b"").decode(errors="replace"),
                file=_file_name(options.get(b"filename", b"")),
                type=media if _TYPE.fullmatch(media) else DEFAULT_TYPE,
            )
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.events.append(data[start:end])

    def _end(self) -> None:
        self.complete = True


def _file_name(sent: bytes) -> str:
    """Undo the escapes of the HTML standard's "multipart form data", drop a path, make it printable."""
    name = sent.decode(errors="replace")
    for escape, character in _ESCAPES.items():
        name = name.replace(escape, character)
    name = re.split(r"[/\\]", name)[-1]
    return "".join(character if character.isprintable() else "_" for character in name)
