"""Bodies of requests, bounded before they are understood: bytes, parts, fields, and time."""

import asyncio

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message

from rtvc.errors import ProtocolError

MAX_FILES = 1
MAX_FIELDS = 20
MAX_FIELD_BYTES = 16 * 1024
"""The longest prompt in the widest letters."""
SILENCE_S = 20.0
"""A sender that sends nothing for so long has gone."""
UPLOAD_S = 600.0
"""For all of a body: a slow sender holds a place that others wait for."""
_BESIDE_THE_FILE_BYTES = 64 * 1024


def bounded(
    request: Request,
    limit_bytes: int,
    *,
    silence_s: float = SILENCE_S,
    upload_s: float = UPLOAD_S,
) -> Request:
    """The request, refusing to read more than so much, or for longer than so long.

    Raises:
        ProtocolError: it says itself that it is too large, or that it is compressed; and whoever
            reads it meets the same if it turns out to be too large or too slow.
    """
    _check_encoding(request)
    allowed = limit_bytes + _BESIDE_THE_FILE_BYTES
    told = request.headers.get("content-length", "0")
    # A number of too many digits is not worth turning into one.
    if not (told.isascii() and told.isdigit()):
        raise ProtocolError(f'expected a Content-Length in bytes, got "{told[:80]}"')
    if len(told) > 15 or int(told) > allowed:
        raise too_large(limit_bytes)
    loop = asyncio.get_running_loop()
    over_at_s, read = loop.time() + upload_s, 0

    async def receive() -> Message:
        nonlocal read
        left_s = min(silence_s, over_at_s - loop.time())
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                message = await request.receive()
        except TimeoutError:
            said = f"expected the whole body within {upload_s:g} s, without long pauses"
            raise ProtocolError(said, code="request_timeout") from None
        read += len(message.get("body", b""))
        if read > allowed:
            raise too_large(limit_bytes)
        return message

    return Request(request.scope, receive)


async def read_form(request: Request, limit_bytes: int) -> FormData:
    """The fields; a recording stays in memory, where its bounds are known, and off the disk.

    Raises:
        ProtocolError: it is no form, or one of too many or too large parts.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ProtocolError(f'expected multipart/form-data, got "{kind[:80]}"')
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=MAX_FILES,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    parser.spool_max_size = limit_bytes + 2 * _BESIDE_THE_FILE_BYTES
    try:
        return await parser.parse()
    except (MultiPartException, FormParserError, LookupError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise ProtocolError(f"expected multipart/form-data that can be read: {why}") from None


def too_large(limit_bytes: int) -> ProtocolError:
    return ProtocolError(
        f"expected a file of at most {limit_bytes / 1e6:.0f} MB, got a larger one",
        code="file_too_large",
        param="file",
    )


def _check_encoding(request: Request) -> None:
    """What is compressed may be a thousand times as large as it says."""
    for name in ("content-encoding", "transfer-encoding"):
        told = request.headers.get(name, "").strip().lower()
        if told not in ("", "identity", "chunked"):
            raise ProtocolError(
                f'expected a body that is not compressed, got {name} "{told[:80]}"',
                code="unsupported_media_type",
            )
