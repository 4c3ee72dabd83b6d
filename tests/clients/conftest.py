"""Set-up of the client matrix: its failed assertions show values."""

import pytest

# pytest rewrites the assertions of test files only; the matrix has assertions in other modules beside them.
pytest.register_assert_rewrite(
    "tests.support.matrix",
    "tests.support.matrix_features",
    "tests.clients.matrix_libraries",
    "tests.clients.matrix_node",
    "tests.clients.matrix_openssh",
    "tests.clients.matrix_programs",
)
