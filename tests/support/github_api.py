"""The answers of a played GitHub's API, and their paths: for `FakeGitHub.script` and `FakeGitHub.requests`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tests.support.github import Handler

    Answer = Callable[[Handler], None]

_TYPE = "application/json; charset=utf-8"


def api_path(path: str) -> str:
    """The API's address of `path`: below the address of the pages, as on a GitHub Enterprise Server."""
    return f"api/v3/{path}"


def in_json(value: object) -> "Answer":
    """An answer of the API, in JSON."""
    return lambda handler: handler.respond(200, json.dumps(value).encode(), Content_Type=_TYPE)


def for_token(token: str, answer: "Answer") -> "Answer":
    """`answer` for requests with the token."""

    def answer_if_known(handler: "Handler") -> None:
        if handler.headers.get("Authorization") == f"Bearer {token}":
            answer(handler)
        else:
            handler.respond(401, b'{"message":"Bad credentials"}', Content_Type=_TYPE)

    return answer_if_known


def paged(entries: Sequence[Mapping[str, object]]) -> "Answer":
    """A list, page by page, with a Link to the next one."""

    def answer(handler: "Handler") -> None:
        parts = urlsplit(handler.path)
        asked = parse_qs(parts.query)
        size, page = min(100, int(asked.get("per_page", ["30"])[0])), int(asked.get("page", ["1"])[0])
        if page * size < len(entries):
            address = f"{handler.server.github.url}{parts.path}?per_page={size}&page={page + 1}"
            handler.more_headers["Link"] = f'<{address}>; rel="next", <{address}&of=last>; rel="last"'
        in_json(list(entries[(page - 1) * size : page * size]))(handler)

    return answer
