"""What belongs to the client matrix: failures that show values, and the table at the end of the run."""

import pytest

from tests.support.matrix_table import cell_of, table

# pytest rewrites the assertions of test files only; the matrix has its own beside them.
pytest.register_assert_rewrite(
    "tests.support.matrix",
    "tests.support.matrix_features",
    "tests.clients.matrix_libraries",
    "tests.clients.matrix_node",
    "tests.clients.matrix_openssh",
    "tests.clients.matrix_programs",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Write into every report which cell of the matrix it is about."""
    cell = cell_of(item)
    if cell is not None:
        item.user_properties.append(("matrix", cell))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix, if it was part of the run."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = table([report for report in reports if isinstance(report, pytest.TestReport)])
    if lines:
        terminalreporter.section("clients")
        for line in lines:
            terminalreporter.write_line(line)
