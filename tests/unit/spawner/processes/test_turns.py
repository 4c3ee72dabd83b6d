"""Turns among accounts: nobody waits behind another account's requests, and no request is lost or overtakes its own."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.spawner.processes.turns import WAITING_PER_ACCOUNT, Turns

ACCOUNTS = ("amos", "dora", "eve")


def everybody(_account: str) -> bool:
    """All accounts may go."""
    return True


@given(st.lists(st.sampled_from(ACCOUNTS), max_size=100), st.sampled_from(ACCOUNTS))
def test_one_request_of_each_account_a_turn(order: list[str], held: str) -> None:
    """Protects fairness: a round has one of each account that may go, in its own order; what may not go stays."""
    turns: Turns[tuple[str, int]] = Turns()
    for number, account in enumerate(order):
        assert turns.add(account, (account, number))
    served: list[tuple[str, int]] = []
    while turns.any_ready(lambda account: account != held):
        one_round = turns.round(lambda account: account != held)
        assert set(Counter(account for account, _ in one_round).values()) == {1}
        served += one_round
    waiting = [request for _, request in turns.items()]
    assert sorted([*served, *waiting], key=lambda request: request[1]) == [
        (account, number) for number, account in enumerate(order)
    ]
    for account in ACCOUNTS:
        numbers = [number for name, number in served if name == account]
        assert numbers == sorted(numbers)
    assert {account for account, _ in waiting} <= {held}


def test_an_account_has_a_bound_of_its_own() -> None:
    """Protects the spawner's memory: what is over the bound is refused, another account's is not."""
    turns: Turns[int] = Turns()
    assert all(turns.add("amos", number) for number in range(WAITING_PER_ACCOUNT))
    assert not turns.add("amos", 0)
    assert turns.add("dora", 0)
    assert turns.round(everybody) == [0, 0]
    assert turns.add("amos", 0)
    turns.clear()
    assert not turns.any_ready(everybody)
