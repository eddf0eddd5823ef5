"""How large a simulation is; free of NumPy, so that the command line starts fast."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class WorldSize:
    """How many there are of each."""

    users: int = 1500
    items: int = 12
    groups: int = 4
    categories: int = 4


@dataclasses.dataclass(frozen=True)
class SimulationSettings:
    """A closed loop.

    Attributes:
        rounds: of requests, the uniform policy's among them.
        first_requests: that the uniform policy answers.
        requests: of each later round.
        seed: of the world and of who comes when.
        size: of the world.
    """

    rounds: int = 4
    first_requests: int = 4000
    requests: int = 500
    seed: int = 0
    size: WorldSize = dataclasses.field(default_factory=WorldSize)

    def __post_init__(self) -> None:
        for name in ("rounds", "first_requests", "requests"):
            least = 2 if name == "rounds" else 1
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` should be >= {least}. Received: {getattr(self, name)}"
                )
