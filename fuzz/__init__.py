"""Targets for atheris, the coverage-guided fuzzer (`make fuzz`), and the properties that they check."""
