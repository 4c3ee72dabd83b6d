"""The configuration in force, for parts that look it up when they need it: a reload replaces it under them."""

from collections.abc import Mapping

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.login_rules import LoginRules, rules_for
from pyssh_gateway.core.recordings.rules import Recorded, recorded


class InForce:
    """`config`, and `rules`, what it says of each account that may log in."""

    config: Config
    rules: Mapping[str, LoginRules]

    def __init__(self, config: Config) -> None:
        self.replace(config)

    def replace(self, config: Config) -> None:
        """Put another configuration in force."""
        self.config = config
        self.rules = rules_for(config)

    def recorded(self, user: str, fingerprint: str) -> Recorded | None:
        """What is recorded of somebody who logs in to the account with this key; None: nothing."""
        found = (login for login in self.config.login if login.user == user)
        return next((recorded(self.config.audit, login, fingerprint) for login in found), None)
