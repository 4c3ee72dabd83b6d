"""Replays of a machine's life on a fake clock: what the idle rules do with recorded or simulated use.

The rules are the real ones: `IdleTracker`, `Wake`, `Usage` and `Vigil` are fed events and asked, as `IdleWatch` does in
the server. Only their surroundings are simulated: the clock (`clock`), the machine that sleeps and starts (`machine`),
what connections do (`traffic`) and what runs in the background (`job`). `server` stands in for `IdleWatch`. Input is
either recorded (`recorded`) or comes from agents, which are plain callbacks on the clock and react to what happens to
their connections. `outcome` is what came of it.
"""
