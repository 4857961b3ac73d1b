"""What runs the studies: something that takes orders and gives back how each ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from jcs_ct.jobs import Ending, FailureCode, Limits, Outcome, StudyWorker
from jcs_ct.jobs.attempts import crashed


@dataclass(frozen=True)
class Order:
    """One attempt at one study.

    Args:
        token: Names the attempt.
        task: ``module:function`` of the study's process.
        arguments: Of the task, JSON values: paths and addresses, never images.
        limits: What it may use.
    """

    token: str
    task: str
    arguments: Mapping[str, Any]
    limits: Limits

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "arguments": dict(self.arguments)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Order:
        """From JSON values."""
        return cls(values["token"], values["task"], values["arguments"], Limits(**values["limits"]))


class Executor(Protocol):
    """Runs orders side by side."""

    @property
    def window(self) -> int:
        """Orders that may be out at once: what runs, and a few that wait."""

    @property
    def workers(self) -> int:
        """Orders that are worked on at once, at most."""

    def submit(self, order: Order) -> None:
        """Take an order; returns at once."""

    def collect(self, timeout_s: float) -> list[tuple[str, Outcome]]:
        """Attempts that ended, by token; waits for one for so long. One that was lost is an outcome, too."""

    def close(self) -> None:
        """End everything that runs."""


def lost(message: str) -> Outcome:
    """An attempt whose machine or process went away."""
    return Outcome(Ending.FAILED, FailureCode.RUNNER_LOST, message)


def attempt(worker: StudyWorker, order: Order, keep_going: Callable[[], bool] | None = None) -> Outcome:
    """Run an order, however that ends: what goes wrong beside the study's process is an attempt that failed, too.

    An executor that raised here would leave the order without an ending, and the driver would wait for it for ever.
    """
    try:
        return worker.run(order.task, order.arguments, limits=order.limits, keep_going=keep_going)
    except Exception as error:  # noqa: BLE001 - see above
        return crashed(error)


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """As JSON values."""
    return {**asdict(outcome), "value": dict(outcome.value)}


def outcome_from_dict(values: Mapping[str, Any]) -> Outcome:
    """From JSON values."""
    return Outcome(**{**values, "ending": Ending(values["ending"])})
