"""Gymnasium environments for learned allocation: a step is a round, an episode the rounds of a scenario.

::

    import gymnasium
    import cosim.envs

    env = gymnasium.make("cosim/Cell-v0", scenario="scenarios/quickstart.toml")
    many = gymnasium.make_vec("cosim/Cell-v0", num_envs=256, scenario="scenarios/quickstart.toml")

Without the import it is ``gymnasium.make("cosim.envs:cosim/Cell-v0", ...)``. Needs ``gymnasium``, which
the extra ``envs`` installs.
"""

CELL = "cosim/Cell-v0"
"""The name of the environment."""


def register() -> None:
    """Make the environment known to gymnasium; importing this package does."""
    import gymnasium

    if CELL not in gymnasium.registry:
        gymnasium.register(
            CELL,
            entry_point="cosim.envs.cell_env:CellEnv",
            vector_entry_point="cosim.envs.cell_env:CellVectorEnv",
            disable_env_checker=True,  # its checks of every step take as long as the step; a test makes them
            order_enforce=False,
        )


register()
