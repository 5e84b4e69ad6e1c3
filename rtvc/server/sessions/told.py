"""What a client is told of an error: what it needs to know, and nothing of how we are built.

The whole of it is for the log. An endpoint's address, what it answered, and where files lie are
the operator's affair.
"""

from rtvc.errors import ReplyError, RtvcError
from rtvc.hiding import without_places

NO_REPLY = "the reply could not be made"
LONGEST = 300
"""Characters."""


def told(error: BaseException) -> str:
    """In one line.

    >>> told(ReplyError("HTTP 401 from http://10.0.0.7/v1: bad key"))
    'the reply could not be made'
    >>> told(RtvcError("cannot read /srv/models/base.en"))
    'cannot read (elsewhere)'
    """
    if isinstance(error, ReplyError):
        return NO_REPLY
    if not isinstance(error, RtvcError):
        return "the server failed"
    return " ".join(without_places(str(error)).split())[:LONGEST]
