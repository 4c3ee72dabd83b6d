"""The pure parts of the benchmark: percentiles, the table, the promises, and the output of `times`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cost import command_seconds
from bench.figures import (
    ACCEPT,
    FIRST_COMMAND,
    MAX_ACCEPT_MS,
    Figure,
    median,
    number,
    percentile,
    promises_broken,
    table,
)

SAMPLES = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


def kept_promises(accept: float = 20.0, first: float = 250.0) -> list[Figure]:
    """Figures of a start within the promises; sshd's first command takes 200 ms."""
    return [Figure(ACCEPT, "ms", (accept,), (6.0,)), Figure(FIRST_COMMAND, "ms", (first,), (200.0,))]


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [([7], 50, 7), ([3, 1, 2], 50, 2), ([1, 2, 3, 4], 50, 2.5), ([1, 2, 3, 4, 5], 25, 2), (range(101), 99, 99)],
)
def test_percentile(samples: list[float], percent: float, expected: float) -> None:
    """Percentiles are right for any order and number of samples."""
    assert percentile(samples, percent) == expected


def test_percentile_of_nothing() -> None:
    """A percentile of no samples is an error, and never a number."""
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


@given(SAMPLES, st.floats(0, 100))
def test_percentile_stays_within_the_samples(samples: list[float], percent: float) -> None:
    """Interpolation stays within the range of the samples."""
    slack = 1e-9 * max(samples)  # for floating point
    assert min(samples) - slack <= percentile(samples, percent) <= max(samples) + slack


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0186, "0.0186"),
        (0.5, "0.500"),
        (7.8349, "7.83"),
        (42.0, "42.0"),
        (199.6, "200"),
        (1326.4, "1326"),
        (-28.31, "-28.3"),
    ],
)
def test_number(value: float, text: str) -> None:
    """Every figure has about three significant digits, so that it does not look more exact than it is."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("ours", "sshd", "expected"),
    [((1.0, 30.0, 2.0), (4.0, 4.0, 9.0), 0.5), ((), (1.0,), None), ((1.0,), (), None), ((1.0,), (0.0,), None)],
)
def test_ratio(ours: tuple[float, ...], sshd: tuple[float, ...], expected: float | None) -> None:
    """The ratio is that of the medians, which an outlier does not change, and is missing if it can't be computed."""
    assert Figure("x", "s", ours, sshd).ratio == expected


def test_table() -> None:
    """Columns are aligned, with median and quartiles, and a dash for a value that was not measured."""
    figures = [
        Figure("login", "ms", (20.0, 10.0, 30.0), (200.0, 200.0, 200.0)),
        Figure("a longer name", "MiB", (46.8,), ()),
    ]
    assert table(figures).splitlines() == [
        "figure         unit     pyssh-gateway           sshd  ratio  n",
        "login          ms    20.0 (15.0-25.0)  200 (200-200)   0.10  3",
        "a longer name  MiB               46.8              -      -  1",
    ]


@given(st.lists(st.builds(Figure, st.text("abc ", max_size=9), st.just("s"), SAMPLES.map(tuple), SAMPLES.map(tuple))))
def test_table_of_anything(figures: list[Figure]) -> None:
    """Any figures can be printed, one line for each."""
    assert len(table(figures).split("\n")) == len(figures) + 1


def test_promises_kept() -> None:
    """A start within the promises passes, also with exactly the limits."""
    assert promises_broken(kept_promises()) == []
    assert promises_broken(kept_promises(accept=MAX_ACCEPT_MS, first=300.0)) == []


def test_promises_broken() -> None:
    """Each broken promise is named with the measured value."""
    accept, first = promises_broken(kept_promises(accept=101.0, first=302.0))
    assert accept == "exec -> port accepts: 101 ms, promised are 100 ms"
    assert first == "exec -> first command done: 1.51 times sshd's, promised are 1.5 times"


def test_promises_not_measured() -> None:
    """A check without measurements fails."""
    assert promises_broken([]) == ["exec -> port accepts: not measured", "exec -> first command done: not measured"]


@given(SAMPLES)
def test_median_is_in_the_middle(samples: list[float]) -> None:
    """As many samples are below the median as above it."""
    middle = median(samples)
    assert sum(sample < middle for sample in samples) <= len(samples) / 2
    assert sum(sample > middle for sample in samples) <= len(samples) / 2


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"0m0.010000s 0m0.020000s\n0m0.030000s 1m0.140000s\n", 60.2),  # dash
        (b"0m0.001s 0m0.002s\n0m0.050s 0m0.147s\n", 0.2),  # bash
        (b"", 0.0),
    ],
)
def test_command_seconds(said: bytes, seconds: float) -> None:
    """The CPU time of the user's command, in any shell's format, is read so that it can be subtracted."""
    assert command_seconds(said) == pytest.approx(seconds)
