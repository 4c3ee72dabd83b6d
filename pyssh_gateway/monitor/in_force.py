"""The configuration in force, for parts that look it up when they need it: a reload replaces it under them."""

from collections.abc import Mapping

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.login_rules import LoginRules, rules_for


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
