"""Distributions of initial weights: zeros, scaled uniform, normal, and their non-negative variants.

Every draw is for one replica. Stacks are made of such draws, so a replica starts the same alone and in a stack.
"""

from __future__ import annotations

import inspect
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.base.registry import Registry

CONVENTIONS = ("paper", "released")
"""`paper` follows the paper's text (section 4), `released` its released code; the two disagree about `uniform`."""

_PART = 1 << 16  # numbers drawn at a time

MONO_LOWER_BOUND = 1e-3
"""Lower bound of the uniform distribution under the non-negativity constraint (section 4)."""


def convention_named(name: str) -> str:
    """`name`, if it is a convention.

    Raises:
        UnknownName: there is no such convention.
    """
    if name not in CONVENTIONS:
        raise UnknownName("convention", name, CONVENTIONS)
    return name


class Initializer(ABC):
    """A distribution of weights, given the number of connections coming into a unit."""

    @abstractmethod
    def draw(
        self,
        shape: Sequence[int],
        fan_in: int,
        generator: torch.Generator,
        *,
        nonnegative: bool,
        convention: str,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """A CPU tensor of `shape`, drawn in float64; `nonnegative` asks for the variant for constrained weights."""

    @abstractmethod
    def __str__(self) -> str:
        """The text that `parse` reads back."""


@dataclass(frozen=True)
class Zeros(Initializer):
    """All zeros (forward weights only: zero feedback would deliver no error)."""

    def draw(
        self,
        shape: Sequence[int],
        fan_in: int,
        generator: torch.Generator,
        *,
        nonnegative: bool,
        convention: str,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        return torch.zeros(tuple(shape), dtype=dtype)

    def __str__(self) -> str:
        return "zeros"


@dataclass(frozen=True)
class ScaledUniform(Initializer):
    """U(−b, b) with b = scale / √fan_in (Nøkland 2016; section 4); constrained weights: U(10⁻³, b).

    The released code takes the square root twice and ends at b = scale · fan_in^¼ (and a lower bound of 0 for
    constrained weights): `convention="released"`.
    """

    scale: float = 1.0

    def draw(
        self,
        shape: Sequence[int],
        fan_in: int,
        generator: torch.Generator,
        *,
        nonnegative: bool,
        convention: str,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        released = convention == "released"
        bound = self.scale * fan_in**0.25 if released else self.scale / math.sqrt(fan_in)
        lower = -bound if not nonnegative else 0.0 if released else MONO_LOWER_BOUND
        if lower >= bound:
            raise InvalidValue(
                f"uniform:{self.scale:g} with {fan_in} incoming connections has the bound {bound:.3g}, not above the "
                f"lower bound {lower:g} of non-negative weights: choose a larger scale"
            )
        return _filled(shape, dtype, lambda part: part.uniform_(lower, bound, generator=generator))

    def __str__(self) -> str:
        return f"uniform:{_shortest(self.scale)}"


@dataclass(frozen=True)
class Normal(Initializer):
    """N(0, std²); constrained weights: its absolute values (section 4)."""

    std: float = 0.1

    def draw(
        self,
        shape: Sequence[int],
        fan_in: int,
        generator: torch.Generator,
        *,
        nonnegative: bool,
        convention: str,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        def draw(part: Tensor) -> Tensor:
            part.normal_(0.0, self.std, generator=generator)
            return part.abs_() if nonnegative else part

        return _filled(shape, dtype, draw)

    def __str__(self) -> str:
        return f"normal:{_shortest(self.std)}"


def _filled(shape: Sequence[int], dtype: torch.dtype, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor drawn part by part: all of it in float64 would be the largest allocation of a run."""
    values = torch.empty(tuple(shape), dtype=dtype, device="cpu")
    for part in values.view(-1).split(_PART):
        part.copy_(draw(torch.empty(part.shape, dtype=torch.float64, device="cpu")))
    return values


INITIALIZERS: Registry[Callable[..., Initializer]] = Registry("initializer")
"""Classes (or functions) that make an initializer, from one positive number or from nothing."""
INITIALIZERS.add("zeros", Zeros)
INITIALIZERS.add("uniform", ScaledUniform)
INITIALIZERS.add("normal", Normal)


def parse(text: str | Initializer) -> Initializer:
    """The initializer that `zeros`, `uniform`, `uniform:1`, `normal`, `normal:0.1` (or `U(1)`, `N(0.1)`) names.

    Raises:
        UnknownName: no such initializer.
        InvalidValue: its number is not positive and finite.
    """
    if isinstance(text, Initializer):
        return text
    match = re.fullmatch(r"\s*([A-Za-z-]+)\s*(?::\s*([^\s()]+)|\(\s*([^\s()]+)\s*\))?\s*", str(text))
    if match is None:
        raise UnknownName("initializer", text, _spelled())
    name = {"U": "uniform", "N": "normal"}.get(match[1], match[1].lower())
    if name not in INITIALIZERS:
        raise UnknownName("initializer", text, _spelled())
    number = match[2] or match[3]
    if number is None:
        return INITIALIZERS[name]()
    if not takes_number(name):
        raise InvalidValue(f"the initializer {text!r} has a number, but {name} takes none: write {name}")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value <= 3.4e38:  # weights are float32, which ends there
        raise InvalidValue(
            f"the initializer {text!r} has the number {number!r}: give a positive one of at most 3.4e38, as in "
            f"{name}:0.1"
        )
    return INITIALIZERS[name](value)


def _shortest(number: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(float(number)).removesuffix(".0")


def takes_number(name: str) -> bool:
    """Whether the initializer called `name` is made from a number."""
    return bool(inspect.signature(INITIALIZERS[name]).parameters)


def _spelled() -> list[str]:
    return [
        ":".join((name, *map(str.upper, inspect.signature(INITIALIZERS[name]).parameters))) for name in INITIALIZERS
    ]
