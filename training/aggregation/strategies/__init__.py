"""Every strategy there is, by name, a module for each family. `STRATEGIES` is what may be chosen, in this order."""

from __future__ import annotations

from collections.abc import Mapping

from fedwire.errors import FedportalError
from training.aggregation.strategies.adaptive import FEDADAGRAD, FEDADAM, FEDAVGM, FEDYOGI
from training.aggregation.strategies.asynchronous import FEDASYNC, FEDBUFF
from training.aggregation.strategies.averaging import FEDAVG
from training.aggregation.strategies.drift import FEDDYN, SCAFFOLD
from training.aggregation.strategies.heterogeneous import FEDNOVA, FEDPROX, QFEDAVG
from training.aggregation.strategies.personal import PERSONAL
from training.aggregation.strategies.robust import FLTRUST, ROBUST
from training.aggregation.strategy import Strategy

ALL: tuple[Strategy, ...] = (
    FEDAVG,
    *(FEDAVGM, FEDADAM, FEDADAGRAD, FEDYOGI),
    *(FEDPROX, FEDNOVA, QFEDAVG),
    *(SCAFFOLD, FEDDYN),
    *(FEDBUFF, FEDASYNC),
    *PERSONAL,
    *ROBUST,
    FLTRUST,
)
STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in ALL}


def find(name: str) -> Strategy:
    """The strategy called `name`. Raises `strategy_unknown`."""
    if name not in STRATEGIES:
        raise FedportalError("strategy_unknown", strategy=name, available=", ".join(STRATEGIES))
    return STRATEGIES[name]
