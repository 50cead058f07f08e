"""Errors as OpenAI's clients expect them: `{"error": {message, type, param, code}}`."""

import math
import secrets
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from p2p.errors import (
    MethodNotAllowed,
    NexusError,
    RequestError,
    TooManyRequests,
    Unavailable,
    UnknownPath,
    answer,
)

MAX_RETRY_SECONDS = 60.0
_SPECIAL = {"unavailable": "engine_restarting", "request.invalid": "invalid_value"}


def error_code(error: NexusError) -> str:
    """Return OpenAI's code for an error: the last part of ours, with underscores."""
    return _SPECIAL.get(error.code) or error.code.rpartition(".")[2].replace("-", "_")


def error_object(error: NexusError) -> dict[str, object]:
    """Return the body that tells a client of `error`."""
    status = answer(error).http
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    param = error.param if isinstance(error, RequestError) else None
    detail = {"message": str(error), "type": kind, "param": param, "code": error_code(error)}
    return {"error": detail}


def error_response(error: NexusError) -> JSONResponse:
    """Return the whole answer, with the headers by which openai's client times its retries."""
    headers = _retry_headers(error)
    status = answer(error).http
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_object(error), status, headers)


def from_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    """Return Starlette's own refusals, unknown paths and methods, in our form."""
    if error.status_code == 405:
        refused = MethodNotAllowed(f"{request.method} is not possible here")
        return _with_headers(error_response(refused), error.headers)
    return error_response(
        UnknownPath("no such path; known are /v1/models, /v1/chat/completions, /v1/completions")
    )


def internal_error() -> tuple[str, JSONResponse]:
    """Return an id for the log and the answer that names it; the bug itself stays in the log."""
    number = secrets.token_hex(8)
    detail = {
        "message": f"internal error {number}; the host's log says more",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    return number, JSONResponse({"error": detail}, 500)


def _retry_headers(error: NexusError) -> dict[str, str]:
    if not isinstance(error, TooManyRequests | Unavailable):
        return {}
    seconds = min(MAX_RETRY_SECONDS, max(1.0, error.retry_seconds))
    return {"Retry-After": str(math.ceil(seconds)), "retry-after-ms": str(round(seconds * 1000))}


def _with_headers(response: JSONResponse, headers: Mapping[str, str] | None) -> JSONResponse:
    response.headers.update(headers or {})
    return response
