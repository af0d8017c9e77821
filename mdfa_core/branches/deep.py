"""A deep net as a branch predictor: one net for all branches, learning online, one branch at a time.

Axes: R = 1 replica, N = 1 example.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.branches.predictors import Predictor
from mdfa_core.errors import InvalidValue
from mdfa_core.initializers import Initializer, Normal, ScaledUniform
from mdfa_core.learner import Learner
from mdfa_core.methods import METHODS
from mdfa_core.networks import Network, Trace, parse_architecture
from mdfa_core.optimizers import OPTIMIZERS
from mdfa_core.registry import Table


def _one_hot(pc: int, size: int) -> list[float]:
    code = [0.0] * size
    code[pc % size] = 1.0
    return code


def _bits(pc: int, size: int) -> list[float]:
    return [1.0 if pc >> bit & 1 else -1.0 for bit in range(size)]


PC_CODES: Table[Callable[[int, int], list[float]]] = Table("code of an address")
"""How `size` inputs tell a net which branch it is asked about."""
PC_CODES.add("one-hot", _one_hot)
PC_CODES.add("bits", _bits)


class DeepPredictor(Predictor):
    """σ(z) of a net with one output, learned from every outcome by one step of the package's own `Learner`.

    The inputs are the last `history` outcomes of all branches as ±1, latest first, and a code of the address. The net
    predicts taken where z > 0. Every step has batch size one: e = σ(z) − taken, a method's error transport, SGD.

    One net serves all branches and is told the address: a table of nets would multiply the weights by its rows, and
    each net would see only its own branches. The first layer of a mono-net is free, so inputs may have any sign.

    Args:
        method: a name in `METHODS`.
        network: hidden layers, as `fc:32,32`; `fc:` has none.
        history: outcomes seen.
        pc_code: a name in `PC_CODES`.
        pc_inputs: inputs that code the address.
        learning_rate: of SGD.
        activation: a name in `ACTIVATIONS`.
        weights: initial forward weights.
        feedback: fixed feedback weights, where the method has any.
        seed: of both.

    Raises:
        UnknownName: a name is in no table.
        InvalidValue: `history` or `pc_inputs` is negative, or both are 0; or the learning rate is no number of at
            least 0.
    """

    def __init__(
        self,
        method: str = "mdfa",
        network: str = "fc:32,32",
        *,
        history: int = 16,
        pc_code: str = "one-hot",
        pc_inputs: int = 64,
        learning_rate: float = 0.1,
        activation: str = "tanh",
        weights: Initializer = ScaledUniform(),  # noqa: B008 - frozen
        feedback: Initializer = Normal(1.0),  # noqa: B008 - frozen
        seed: int = 0,
    ) -> None:
        if min(history, pc_inputs) < 0 or history + pc_inputs == 0:
            raise InvalidValue(
                f"{history} outcomes and {pc_inputs} inputs for the address were given: give at least 0 of each and 1 "
                f"in all"
            )
        if not 0 <= learning_rate < math.inf:
            raise InvalidValue(f"the learning rate is {learning_rate}: give a number of at least 0")
        self.pc_inputs, self.code = pc_inputs, PC_CODES[pc_code]
        self.outcomes = [-1.0] * history
        rule = METHODS[method]
        self.network = Network(parse_architecture(network), (history + pc_inputs,), 1, ACTIVATIONS[activation])
        parameters = rule.initial_parameters(self.network, weights, seed=seed, convention="paper", floor=1e-6)
        fixed = rule.initial_feedback(self.network, feedback, seed=seed, convention="paper")
        self.learner = Learner(
            self.network, rule, OPTIMIZERS["sgd"], parameters, fixed, learning_rates=[learning_rate], seeds=[seed]
        )
        self._seen: tuple[int, Trace] | None = None

    @property
    def bits(self) -> int:
        """Weights, biases and fixed feedback at 32 bits each, and the history."""
        feedback = sum(tensor.numel() for tensor in self.learner.feedback)
        return 32 * (self.network.parameter_count + feedback) + len(self.outcomes)

    def predict(self, pc: int) -> bool:
        self._seen = (pc, self._forward(pc))
        return bool(self._seen[1].logits_RNC.item() > 0)

    def update(self, pc: int, taken: bool) -> None:
        # The forward pass of the prediction serves the update too.
        trace = self._seen[1] if self._seen is not None and self._seen[0] == pc else self._forward(pc)
        self.learner.learn(self.learner.understood(trace, torch.tensor([[int(taken)]])))
        self.outcomes = [1.0 if taken else -1.0, *self.outcomes][: len(self.outcomes)]
        self._seen = None

    def _forward(self, pc: int) -> Trace:
        inputs = torch.tensor([[self.outcomes + self.code(pc, self.pc_inputs)]])
        return self.network.forward(self.learner.parameters, self.network.inputs_from(inputs))
