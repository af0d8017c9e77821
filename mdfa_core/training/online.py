"""A dense network that learns online, from one example at a time, in compiled code.

Axes: T example of a stream, D dense input, H one-hot input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.compute.kernels import precision_named
from mdfa_core.learning.compiled import NO_INDICES, Array, CompiledSteps
from mdfa_core.learning.learner import Learner
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Network, parse_architecture
from mdfa_core.training.assembly import build_learner
from mdfa_core.training.experiment import Experiment


class OnlineLearner:
    """A dense network that predicts an example, then learns from it, in compiled code.

    One step is that of `Learner` with a batch of one example: δ = ε ⊙ f′(a) and W ← W − η (δᵀ h + λ W), with ε from the
    rule. Results equal those of `Learner.step` up to rounding.

    The network has a number of inputs of its own instead of a data set's. Inputs come as numbers, and the last ones may
    instead come as the numbers of those that are 1 (`hot`), the others being 0. A one-hot code then costs one row of
    the first layer's weights, whatever its length.

    Args:
        source: an experiment, whose weights and feedback are drawn from its seed, or a learner of one replica, which
            this object trains from then on. Its rule must be BP, FA, DFA or mDFA, its optimizer SGD, and its activation
            tanh, hard-tanh or ReLU.
        inputs: number of inputs of an experiment's network.

    Attributes:
        learner: the learner, always with the current weights.

    Raises:
        InvalidValue: the rule, optimizer, activation or network has no compiled step, or `inputs` is missing.
        MissingPackage: Numba is not installed (`pip install 'mdfa-lab[fast]'`).

    Example:
        >>> import numpy as np
        >>> from mdfa_core import Experiment, OnlineLearner
        >>> learner = OnlineLearner(Experiment(method="mdfa", network="fc:16,16", learning_rate=0.1), inputs=8)
        >>> xs = np.random.default_rng(0).choice([-1.0, 1.0], (4000, 8))
        >>> labels = (xs[:, 0] > 0).astype(int)
        >>> float((learner.run(xs, labels) == labels)[-1000:].mean())
        1.0
    """

    def __init__(self, source: Experiment | Learner, inputs: int | None = None) -> None:
        if isinstance(source, Experiment):
            if not isinstance(inputs, int) or isinstance(inputs, bool) or inputs < 1:
                raise InvalidValue(f"inputs is {inputs!r}: give the network's number of inputs, at least 1")
            source = _learner(source, inputs)
        if source.replicas != 1:
            raise InvalidValue(f"an online learner trains one network, but the learner has {source.replicas}: give one")
        self.learner = source
        self._steps = CompiledSteps(source)
        self._one = self._steps.memory(1)
        self.inputs, self.outputs = int(self._steps.sizes[0]), int(self._steps.sizes[-1])

    def predict(self, x: Any, hot: Any = NO_INDICES) -> int:
        """The class of one example: 1 if z > 0 for one output, else the largest output.

        Args:
            x: the first inputs, [D]; the others are 0.
            hot: the numbers of inputs that are 1, from D on, [H].

        Raises:
            GeometryError: there are more inputs than the network has, or a number in `hot` is out of range.
        """
        xs, hots = self._checked(np.asarray(x)[None], np.asarray(hot)[None], 1)
        code, steps, one = self._steps._code, self._steps, self._one
        code.forward(
            xs[0], np.uint64(xs.shape[1]), hots[0], np.uint64(1), steps.sizes, steps.w[0], steps.b[0],
            steps.activation, one.h, one.s,
        )  # fmt: skip
        return int(code.predicted(one.h, np.uint64(len(one.h) - self.outputs), np.uint64(self.outputs)))

    def learn(self, x: Any, label: int, hot: Any = NO_INDICES) -> None:
        """Take one step on one example.

        Args:
            x: the first inputs, [D]; the others are 0.
            label: the class, from 0.
            hot: the numbers of inputs that are 1, from D on, [H].

        Raises:
            GeometryError: there are more inputs than the network has, or a number in `hot` is out of range.
            InvalidValue: the label is no class of the network.
        """
        self.run(np.asarray(x)[None], np.asarray([label]), np.asarray(hot)[None])

    def run(self, xs: Any, labels: Any, hot: Any = None) -> Array:
        """Predict every example of a stream before learning from it.

        Args:
            xs: the first inputs of every example, [T, D]; any memory order, so a sliding window needs no copy.
            labels: the class of every example, from 0, [T].
            hot: the numbers of inputs that are 1, from D on, [T, H]; none by default.

        Returns:
            The predicted classes, int64 [T].

        Raises:
            GeometryError: the arrays have other shapes, or a number in `hot` is out of range.
            InvalidValue: a label is no class of the network.
        """
        labels = np.ascontiguousarray(labels, np.int64)
        if labels.ndim != 1:
            raise GeometryError(f"the labels have the shape {labels.shape}: give one axis")
        classes = max(2, self.outputs)
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise InvalidValue(f"a label is outside 0 to {classes - 1}: give the number of a class")
        xs, hots = self._checked(xs, np.zeros((len(labels), 0)) if hot is None else hot, len(labels))
        return self._steps.stream(xs, hots, labels)

    def _checked(self, xs: Any, hot: Any, count: int) -> tuple[Array, Array]:
        """Numbers as float32 [T, D] and indices as int64 [T, H]."""
        xs, hots = np.asarray(xs, np.float32), np.asarray(hot, np.int64)
        if xs.ndim != 2 or len(xs) != count or xs.shape[1] > self.inputs:
            raise GeometryError(
                f"the inputs have the shape {xs.shape}: give {count} examples of at most {self.inputs} numbers"
            )
        if hots.ndim != 2 or len(hots) != count:
            raise GeometryError(f"hot has the shape {hots.shape}: give a row of input numbers for {count} examples")
        if hots.size and not xs.shape[1] <= hots.min() <= hots.max() < self.inputs:
            raise GeometryError(
                f"hot names an input outside {xs.shape[1]} to {self.inputs - 1}: the first {xs.shape[1]} are given as "
                f"numbers"
            )
        return xs, hots


def _learner(experiment: Experiment, inputs: int) -> Learner:
    network = Network(
        parse_architecture(experiment.network),
        (inputs,),
        experiment.outputs,
        ACTIVATIONS[experiment.activation],
        precision_named(experiment.precision),
    )
    return build_learner((experiment,), network, torch.device("cpu"))
