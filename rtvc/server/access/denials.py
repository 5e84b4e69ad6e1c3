"""Why a request is refused, and the answer that says so."""

import math
from typing import Any, Literal, get_args

from rtvc.errors import RtvcError

Reason = Literal[
    "no_key",
    "wrong_key",
    "expired_token",
    "wrong_scope",
    "foreign_origin",
    "foreign_host",
    "too_many_sessions",
    "too_many_connects",
    "too_much_audio",
    "too_many_wrong_keys",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
_STATUS: dict[Reason, int] = {
    "no_key": 401,
    "wrong_key": 401,
    "expired_token": 401,
    "wrong_scope": 403,
    "foreign_origin": 403,
    "foreign_host": 403,
}
_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}


class Denied(RtvcError):
    """A request that is not let in."""

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """401: who are you; 403: not you; 429: not now."""
        return _STATUS.get(self.reason, 429)

    @property
    def headers(self) -> dict[str, str]:
        """What the status asks for."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_after_s is not None:
            return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
        return {}

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read errors."""
        error: dict[str, Any] = {
            "message": str(self),
            "type": _TYPES[self.status],
            "param": None,
            "code": self.reason,
        }
        if self.retry_after_s is not None:
            error["retry_after_s"] = round(self.retry_after_s, 1)
        return {"error": error}
