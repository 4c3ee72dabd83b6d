"""Which redirects are followed when an account's keys are fetched, and which name the others lead to.

A name can be given up, and a server may then redirect it to the account that it was renamed to, or to any other one: so
a redirect that leads to another name is a rename, and not an answer. Pure: addresses come in without their server, as
path and query.
"""

_PAGE = ".keys"


def is_same_name(asked: str, target: str, *, any_case: bool) -> bool:
    """Whether `target` is the same address as `asked`, except for a slash at its end and, with `any_case`, capitals.

    Every other difference counts: users of the server may control what is at another path, even if its last part is the
    same. Encoded letters (`%41` for `A`) count as different letters.
    """
    one, other = _plain(asked), _plain(target)
    return one == other or (any_case and one.lower() == other.lower())


def _plain(address: str) -> str:
    path, mark, query = address.partition("?")
    return path.removesuffix("/") + mark + query


def login_of(target: str) -> str:
    """The name in `/<name>.keys`, the address of the keys at GitHub, GitLab and Codeberg; empty for other addresses."""
    path = _plain(target)
    name = path.removeprefix("/").removesuffix(_PAGE)
    return name if path == f"/{name}{_PAGE}" and not {"/", "?"} & set(name) else ""
