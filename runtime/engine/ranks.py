"""An engine's model, whole or as one rank's part, and the other ranks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stemma.fsm.kernels import beside
from stemma.kernels.limits import Report, StepLimits
from stemma.kernels.memory import Memory
from stemma.kernels.ops import Ops
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.core.runner import Runner
from stemma.runtime.errors import InvalidRequest, ModelFileError
from stemma.runtime.model import LoadedModel, load
from stemma.runtime.model.weights import Progress

if TYPE_CHECKING:
    from stemma.runtime.parallel.team import Team


class Ranks(NamedTuple):
    """What this process computes of a model. team: who computes the rest, if anybody does."""

    loaded: LoadedModel
    team: Team | None = None

    def runner(self, memory: Memory, limits: StepLimits, progress: Progress | None = None) -> Runner:
        """Over pools of all ranks, with what steps of these limits need prepared, as `progress` is told. Raises
        ModelFileError for a model that computes no numbers."""
        if self.team is not None:
            self.team.allocate(memory.shape, limits)
        runner = Runner(self.loaded.model, memory, self.loaded.loras, self.team, limits)
        runner.record(preparing(progress, "preparing steps"))
        if self.team is not None:
            self.team.prepare()
        if not runner.try_once():
            raise ModelFileError(
                f"{self.loaded.name} computes numbers that are NaN or infinite, though none of its weights is: "
                "they are not those of a working model, or too large; fetch or convert the model again"
            )
        return runner

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, this thread works on the model's device, and what fails ends the other ranks too."""
        try:
            with self.loaded.model.ops.on_device():
                yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the other ranks."""
        if self.team is not None:
            self.team.close()


def preparing(progress: Progress | None, what: str) -> Report:
    """What tells `progress` how much of it is done."""
    told = progress or (lambda what, share: None)
    return lambda num_done, num_all: told(what, num_done / num_all)


def load_ranks(
    source: str | Path, config: EngineConfig, ops: Ops, progress: Progress | None, adapters: Sequence[str | Path],
    loras: Mapping[str, str | Path],
) -> Ranks:  # fmt: skip
    """Load a model on as many ranks as the options say. Raises as `load` does, and RankLost where a rank ends."""
    beside.begin()  # grammars' kernels, which nothing here waits for
    context = config.context_length
    if config.tensor_parallel == 1:
        return Ranks(load(source, ops, progress, adapters=adapters, loras=loras, context_length=context))
    from stemma.runtime.parallel.team import Team  # brings torch, which the CPU has no need of

    team = Team(source, adapters, config)
    try:
        part = team.part
        return Ranks(
            load(source, ops, progress, adapters=adapters, loras=loras, context_length=context, part=part), team
        )  # fmt: skip
    except BaseException:
        team.close()
        raise


def check_whole(config: EngineConfig, what: str) -> None:
    """Raises InvalidRequest where this process has only a part of the KV."""
    if config.tensor_parallel > 1:
        raise InvalidRequest(f"{what} where tensor_parallel divides the KV among processes", "tensor_parallel")
