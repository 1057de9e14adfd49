"""What tokens cost on a machine of one's own, and against the price of an API. Pure: numbers in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from analysis.errors import ParamsError
from analysis.shapes import machines


@dataclass(frozen=True)
class Assumptions:
    """What a token's cost rests on besides speed. Money in one currency throughout.

    machine (name in data/hardware.yaml), price of the machine, years of use, watts while busy, price per kWh, share of
    the time it is busy, API prices per million tokens to compare with. Idle power and labour are left out.
    """

    machine: str = "gb10"
    price: float = 3000.0
    years: float = 3.0
    watts: float = 200.0
    kwh_price: float = 0.30
    utilisation: float = 0.5
    api_prices: tuple[float, ...] = (0.5, 2.0, 10.0)

    @classmethod
    def of(cls, costs: Mapping[str, Any], measured_watts: float | None = None) -> Assumptions:
        """Assumptions with some of them replaced; watts are the measured ones where the study states none.

        Raises ParamsError for a name that is none, or a wrong value.
        """
        if unknown := sorted(set(costs) - {f.name for f in fields(cls)}):
            raise ParamsError(
                f"'costs.{unknown[0]}' is not an assumption.",
                why=f"There are {', '.join(f.name for f in fields(cls))}.",
                fix="Correct the parameter costs.",
            )
        if measured_watts is not None:
            costs = {"watts": measured_watts, **costs}
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in costs.items()})
        except TypeError as error:
            raise ParamsError(
                "A value of the parameter costs has a wrong type.", why=str(error), fix="Give numbers."
            ) from None

    def __post_init__(self) -> None:
        known = machines()
        if self.machine not in known:
            raise ParamsError(
                f"There is no machine '{self.machine}'.",
                why=f"data/hardware.yaml has {', '.join(known)}.",
                fix="Name one.",
            )
        wrong = [n for n in ("price", "years", "watts", "kwh_price", "utilisation") if not getattr(self, n) >= 0]
        wrong += [n for n in ("years", "utilisation") if getattr(self, n) == 0]
        if wrong or self.utilisation > 1 or not self.api_prices or min(self.api_prices) <= 0:
            name = wrong[0] if wrong else "utilisation" if self.utilisation > 1 else "api_prices"
            raise ParamsError(
                f"The assumption '{name}' is {getattr(self, name)}.",
                why="Costs are not negative, years and API prices positive, utilisation is above 0 and at most 1.",
                fix="Correct the cell with the assumptions.",
            )


def cost_per_million(tok_s: float, given: Assumptions) -> float:
    """Cost of a million generated tokens at `tok_s` [tokens/s, all streams]: hardware written off by the second, and energy."""
    busy_seconds = 1e6 / tok_s
    hardware = given.price / (given.years * 365 * 86400 * given.utilisation) * busy_seconds
    return hardware + given.watts / 1000 * busy_seconds / 3600 * given.kwh_price


def break_even_tokens(tok_s: float, api_price: float, given: Assumptions) -> float:
    """Tokens per day above which owning is cheaper than `api_price` per million; infinite if energy alone costs more.

    Fixed cost per day / (API price - energy) per token. Speed enters only through energy per token; what speed really moves
    is how many tokens per day the machine can serve: compare with `tokens_a_day`.
    """
    energy = given.watts / 1000 / 3600 / tok_s * given.kwh_price
    margin = api_price / 1e6 - energy
    return given.price / (given.years * 365) / margin if margin > 0 else float("inf")


def tokens_a_day(tok_s: float, utilisation: float = 1.0) -> float:
    """Tokens a machine generates in a day."""
    return tok_s * 86400 * utilisation
