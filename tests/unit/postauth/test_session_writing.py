"""All output to a session's client is written in one place, where it can be recorded."""

import ast

from tests.support.places import ROOT

POSTAUTH = ROOT / "pyssh_gateway" / "postauth"


def writers(module: str, target: str) -> list[str]:
    """The functions of `module` that call `target`."""
    tree = ast.parse((POSTAUTH / module).read_text())
    return [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == target
    ]


def test_one_place_writes_to_the_client() -> None:
    """A recording in `Session._write` gets process output, announcements and refusals alike."""
    assert writers("session.py", "self._channel.write") == ["_write"]
    assert writers("channel.py", "self.write") == writers("channel.py", "super().write") == []
