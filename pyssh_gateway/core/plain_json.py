"""Plain JSON values. Standard library only: commands that wrap other commands  import it."""

from collections.abc import Callable, Collection


def with_texts(value: object, change: Callable[[str], str]) -> object:
    """`value`, any plain JSON value, with `change` applied to every text in it except the names in objects."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: with_texts(below, change) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [with_texts(below, change) for below in value]
    return value


def with_times(value: object, names: Collection[str], change: Callable[[float], str]) -> object:
    """`value`, any plain JSON value, with `change` applied to every number whose name is one of `names`."""
    if isinstance(value, dict):
        return {
            name: change(below) if name in names and type(below) in {int, float} else with_times(below, names, change)
            for name, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_times(below, names, change) for below in value]
    return value
