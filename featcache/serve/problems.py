"""Errors as HTTP answers them: a status, what is wrong, and what helps."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from featcache.errors import FeatcacheError


class Problem(Exception):  # noqa: N818
    """A request that is not answered.

    Args:
        status: Of HTTP.
        problem: What is wrong, without the full stop.
        fix: What the client can do.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        fix: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.status, self.problem, self.fix = status, problem, fix
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: FeatcacheError, status: int = 400) -> "Problem":
        """An error of the library."""
        return cls(status, error.problem, error.hint)

    @classmethod
    def of_http(cls, error: HTTPException) -> "Problem":
        """An error of the router: no such page, or another method."""
        fix = "See /openapi.json for what can be asked."
        headers = {k.lower(): v for k, v in (error.headers or {}).items()}
        return cls(error.status_code, error.detail.lower(), fix, headers)

    def response(self) -> Response:
        """As JSON: {"error": {"problem", "fix"}}."""
        text = {"problem": self.problem, "fix": self.fix}
        return JSONResponse({"error": text}, self.status, self.headers)
