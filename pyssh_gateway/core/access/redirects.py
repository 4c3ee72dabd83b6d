"""Which redirects count when an account is asked for its keys, and what the others lead to.

A name can be given up, and a server may then redirect it to the account that it was renamed to, or to any other one: so
a redirect that leads to another name is a rename, and not an answer. Pure: addresses come in without their server, as
path and query.
"""

_PAGE = ".keys"


def is_same_name(asked: str, target: str, *, any_case: bool) -> bool:
    """Whether `target` is the same address as `asked`, but for a slash at its end and, with `any_case`, capitals.

    Nothing else is: where the path is another one the server's users may have a say in what is there, whatever its last
    part is called. Other spellings of the same letters (`%41` for `A`) count as other letters.
    """
    one, other = _plain(asked), _plain(target)
    return one == other or (any_case and one.lower() == other.lower())


def _plain(address: str) -> str:
    path, mark, query = address.partition("?")
    return path.removesuffix("/") + mark + query


def login_of(target: str) -> str:
    """The name in `/<name>.keys`, as GitHub, GitLab and Codeberg have the pages of keys; empty for other addresses."""
    path = _plain(target)
    name = path.removeprefix("/").removesuffix(_PAGE)
    return name if path == f"/{name}{_PAGE}" and not {"/", "?"} & set(name) else ""
