"""Plain values, as JSON has them. Standard library alone: commands that stand before other people's import it."""

from collections.abc import Callable, Collection


def with_texts(value: object, change: Callable[[str], str]) -> object:
    """`value`, any plain value of JSON, with every text in it but the names in objects gone through `change`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: with_texts(below, change) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [with_texts(below, change) for below in value]
    return value


def with_times(value: object, names: Collection[str], change: Callable[[float], str]) -> object:
    """`value`, any plain value of JSON, with every number that is called one of `names` gone through `change`."""
    if isinstance(value, dict):
        return {
            name: change(below) if name in names and type(below) in {int, float} else with_times(below, names, change)
            for name, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_times(below, names, change) for below in value]
    return value
