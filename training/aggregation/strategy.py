"""What a strategy is: a composition of a device half and a server half.

A strategy is data: what its parameters are, what it asks of a device, and which transforms, combination and server step
it puts together. Those there are live in `training.aggregation.strategies`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedwire.errors import FedportalError
from fedwire.vectors import vectors_bytes
from training.aggregation.combine import Combine
from training.aggregation.server_opt import ServerStep
from training.aggregation.staying import Staying
from training.aggregation.transforms import Transform, Update
from training.aggregation.variates import Folding

Values = Mapping[str, int | float]
# How the rounds of a run follow one another: all wait for all, or a model is made whenever enough answers are in.
SYNCHRONOUS, ASYNCHRONOUS = "synchronous", "asynchronous"


@dataclass(frozen=True)
class Parameter:
    """A number one may set. Allowed: low ≤ value ≤ high; with `open_low` or `open_high` the bound itself is not."""

    name: str
    about: str
    default: int | float
    low: float
    high: float
    whole: bool = False
    open_low: bool = False
    open_high: bool = False

    def checked(self, value: Any) -> int | float:
        """`value` as this parameter's number. Raises `strategy_parameter`."""
        # Only of a float: an integer too large for one must not raise.
        if type(value) not in (int, float) or (isinstance(value, float) and not math.isfinite(value)):
            raise FedportalError("strategy_parameter", name=self.name, reason="it is not a number.")
        if self.whole and value != int(value):
            raise FedportalError("strategy_parameter", name=self.name, reason="it is not a whole number.")
        below = value <= self.low if self.open_low else value < self.low
        above = value >= self.high if self.open_high else value > self.high
        if below or above:
            raise FedportalError("strategy_parameter", name=self.name, reason=f"it must be {self.allowed}.")
        return int(value) if self.whole else float(value)

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        low = f"above {self.low:,.10g}" if self.open_low else f"at least {self.low:,.10g}"
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:,.10g}"

    def schema(self) -> dict[str, Any]:
        """The parameter as JSON Schema."""
        return {
            "name": self.name,
            "description": self.about,
            "type": "integer" if self.whole else "number",
            "default": self.default,
            "exclusiveMinimum" if self.open_low else "minimum": self.low,
            "exclusiveMaximum" if self.open_high else "maximum": self.high,
        }


@dataclass(frozen=True)
class Strategy:
    """A composition. `requires`: what a device must be able to do beyond training and sending its update."""

    name: str
    title: str
    formula: str
    paper: str
    parameters: tuple[Parameter, ...]
    device: tuple[str, ...]  # the parameters that travel to the devices
    transforms: tuple[Transform, ...]
    combine: Callable[[Values], Combine]
    server: Callable[[Values], ServerStep]
    requires: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()  # what a device must report of its local training, see `fedwire.messages.Answer`
    # Transforms that depend on the parameters; they come after the others.
    further: Callable[[Values], tuple[Transform, ...]] = lambda values: ()
    about: str = ""  # what it withstands or assumes, and what it costs
    least_updates: Callable[[Values], int] = lambda values: 1  # with fewer in a round its promise does not hold
    needs_individual_updates: bool = False  # a sum of all updates alone would not do
    needs_device_state: bool = False  # a device must keep something from round to round
    fold: Callable[[Values], Folding] | None = None  # how what devices keep moves its mean, the server step's state
    sends_state: bool = False  # devices get the server step's one state vector with their task
    personal: bool = False  # each device has a model of its own, and reports on it beside the common one
    moves_statistics: bool = True  # its server step suits running statistics of batch norms, which follow no gradient
    trusts: bool = False  # a run names an organization whose updates the others are compared with
    staying: Staying | None = None  # which tensors stay on the devices; None: all travel
    # Which schedules it is for: `asynchronous` says that its formula holds for updates that began from older models.
    synchronous: bool = True
    asynchronous: bool = False
    in_step: str = ""  # why it is not for asynchronous rounds, to follow "because"
    one_answer: bool = False  # each model is made of one answer
    rebases: bool = False  # an update counts as the difference of the trained model from the present one

    def checked(self, given: Mapping[str, Any]) -> dict[str, int | float]:
        """All parameters: those given, checked, and the defaults of the others. Raises `strategy_parameter`."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                reason = f"{self.name} has no such parameter; it has {', '.join(known)}."
                raise FedportalError("strategy_parameter", name=name, reason=reason)
        return {
            name: parameter.checked(given[name]) if name in given else parameter.default
            for name, parameter in known.items()
        }

    def check_updates(self, values: Values, have: int) -> None:
        """Raises `updates_too_few` when so many updates are fewer than the formula needs."""
        least = self.least_updates(values)
        if have < least:
            raise FedportalError("updates_too_few", strategy=self.title, least=least, have=have)

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules of rounds that it is for."""
        return (SYNCHRONOUS,) * self.synchronous + (ASYNCHRONOUS,) * self.asynchronous

    def device_half(self, values: Values) -> dict[str, Any]:
        """What a device is told about its part."""
        told: dict[str, Any] = {name: values[name] for name in self.device}
        return {**told, "requires": list(self.requires)} if self.requires else told

    def weights(self, updates: Sequence[Update], values: Values) -> Sequence[float]:
        """Each update's weight after all transforms."""
        weights: Sequence[float] = [1.0] * len(updates)
        for transform in (*self.transforms, *self.further(values)):
            weights = transform(updates, weights)
        return weights

    def state_bytes(self, values: Values, parameters: int) -> int:
        """The length of the file of what the server step remembers of a model of so many parameters; 0: nothing."""
        count = len(self.server(values).state)
        return vectors_bytes(parameters, count) if count else 0

    def schema(self) -> dict[str, Any]:
        """The strategy as the API shows it."""
        return {
            "name": self.name,
            "title": self.title,
            "formula": self.formula,
            "paper": self.paper,
            "about": self.about,
            "parameters": [parameter.schema() for parameter in self.parameters],
            "needs_individual_updates": self.needs_individual_updates,
            "needs_device_state": self.needs_device_state,
            "personal": self.personal,
            "trusts": self.trusts,
            "local": self.staying.schema() if self.staying is not None else None,
            "schedules": list(self.schedules),
        }


# Local mini-batch gradient descent, which the strategies that train on the device share.
LOCAL_SGD = (
    Parameter("epochs", "Passes over a device's rows in each round.", 1, 1, 1000, whole=True),
    Parameter("learning_rate", "Step of local gradient descent.", 0.1, 0, 100, open_low=True),
    Parameter("batch_size", "Rows per local step.", 32, 1, 1_000_000, whole=True),
    Parameter("momentum", "Momentum of local gradient descent.", 0.0, 0, 1, open_high=True),
    Parameter("weight_decay", "Weight decay of local gradient descent.", 0.0, 0, 1),
)
