"""Nets small enough to check by hand in which a sign that one might expect to agree does not, and a search for them.

Axes: R replica (one a net that is tried), N example.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdfa_core import losses, probes
from mdfa_core.activations import ACTIVATIONS
from mdfa_core.errors import InvalidValue
from mdfa_core.kernels import PRECISIONS
from mdfa_core.methods import METHODS, Moment
from mdfa_core.networks import Network, parse_architecture
from mdfa_core.registry import Table
from mdfa_core.rng import numpy_generator

FREE_VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
"""What free weights, biases and unbounded inputs are drawn from: numbers that are easy to follow."""

BOUNDED_VALUES = (0.0, 0.5, 1.0, 2.0)
"""What non-negative weights and feedback are drawn from."""

PIXEL_VALUES = (0.0, 0.5, 1.0)
"""What inputs scaled to [0, 1] are drawn from."""

_ROUNDING = 1e-9  # a product of sums nearer to 0 than this could owe its sign to rounding

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A shape of net and a question about it: can this sign differ?

    Attributes:
        title: the question in a few words.
        architecture: as `networks.parse_architecture` reads it.
        image: (channels, height, width) of an input.
        outputs: output units; one label per example is drawn.
        examples: mini-batch size.
        level: "unit" compares ∂L/∂h of every unit and example, "update" the update of every weight and bias.
        activation: a name of `ACTIVATIONS`.
        method: a name of `METHODS`.
        pixels: whether inputs are in [0, 1], as images are here.
        protected: why no counterexample can exist; empty where one may.
    """

    title: str
    architecture: str
    image: tuple[int, int, int] = (1, 1, 1)
    outputs: int = 1
    examples: int = 1
    level: str = "unit"
    activation: str = "tanh"
    method: str = "mdfa"
    pixels: bool = True
    protected: str = ""

    @property
    def network(self) -> Network:
        """The net without its numbers, in float64."""
        return Network(
            parse_architecture(self.architecture),
            self.image,
            self.outputs,
            ACTIVATIONS[self.activation],
            PRECISIONS["float64"],
        )


FAMILIES: Table[Family] = Table("family")
FAMILIES.add(
    "one-output",
    Family(title="one output, two hidden layers", architecture="fc:2,2", protected="Theorem 2"),
)
FAMILIES.add("two-outputs", Family(title="two outputs, one hidden unit", architecture="fc:1", outputs=2))
FAMILIES.add(
    "free-signs",
    Family(title="one output, weights and feedback of any sign (DFA)", architecture="fc:1", method="dfa"),
)
FAMILIES.add(
    "batch-one-layer",
    Family(
        title="a mini-batch of two, one hidden layer",
        architecture="fc:2",
        examples=2,
        level="update",
        protected="every unit's update is B/v times the true one",
    ),
)
FAMILIES.add(
    "batch-two-layers",
    Family(title="a mini-batch of two, two hidden layers", architecture="fc:1,1", examples=2, level="update"),
)
FAMILIES.add(
    "conv-pixels",
    Family(
        title="one example, one convolution over inputs in [0, 1]",
        architecture="conv:1/1/1",
        image=(1, 1, 2),
        level="update",
        protected="a weight's update is a sum of terms of one sign",
    ),
)
FAMILIES.add(
    "conv-signed",
    Family(
        title="one example, one convolution over inputs of both signs",
        architecture="conv:1/1/1",
        image=(1, 1, 2),
        level="update",
        pixels=False,
    ),
)
FAMILIES.add(
    "conv-two-layers",
    Family(
        title="one example, two convolutions over inputs in [0, 1], tanh",
        architecture="conv:1/1/1,1/1/1",
        image=(1, 1, 2),
        level="update",
    ),
)
FAMILIES.add(
    "conv-two-layers-sigmoid",
    Family(
        title="one example, two convolutions over inputs in [0, 1], sigmoid",
        architecture="conv:1/1/1,1/1/1",
        image=(1, 1, 2),
        level="update",
        activation="sigmoid",
        protected="a weight's update is a sum of terms of one sign",
    ),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterexample:
    """A net, a mini-batch, and one number that the method delivers with the wrong sign; everything can be recomputed.

    Attributes:
        weights, biases, feedback: per layer, without a replica axis.
        inputs: [N, C, H, W].
        labels: [N].
        error: e = ∂L/∂z of the mean cross-entropy, [N, outputs].
        name: the tensor that has an entry of the wrong sign, such as "∂L/∂W1".
        true, delivered: the two values of that tensor; of ∂L/∂h, [N, units].
        index: the first entry whose sign is wrong.
    """

    family: Family
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    feedback: tuple[Array, ...]
    inputs: Array
    labels: tuple[int, ...]
    error: Array
    name: str
    true: Array
    delivered: Array
    index: tuple[int, ...]

    def __str__(self) -> str:
        family = self.family
        lines = [f"{family.title} ({family.architecture}, {family.activation}, {METHODS[family.method].title})"]
        for number, (w, b) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            lines.append(f"  W{number} = {_written(w)}, b{number} = {_written(b)}")
        lines += [f"  B{number} = {_written(b)}" for number, b in enumerate(self.feedback, 1)]
        lines += [
            f"  example {n}: x = {_written(x)}, label {label}, e = {_written(e)}"
            for n, (x, label, e) in enumerate(zip(self.inputs, self.labels, self.error, strict=True), 1)
        ]
        lines.append(f"  {self.name}: true {_written(self.true)}, delivered {_written(self.delivered)}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What a search found.

    Attributes:
        tried: nets tried.
        found: how many of them are counterexamples.
        simplest: of these the one with the least Σ|numbers|; None if there is none.
    """

    family: Family
    tried: int
    found: int
    simplest: Counterexample | None

    def __str__(self) -> str:
        start = f"{self.family.title}: {self.found} of {self.tried} nets"
        reason = f" (none can exist: {self.family.protected})" if self.family.protected else ""
        return start + reason + (f"\n{self.simplest}" if self.simplest else "")


def search(family: Family, *, tried: int = 2000, seed: int = 0) -> Search:
    """Try random nets of a family whose numbers are from short lists, and keep the simplest counterexample.

    Every net gets its own weights, biases, feedback, inputs and labels; all nets are the replicas of one stack, in
    float64. A sign counts as wrong where true and delivered value are further from 0 than 10⁻⁹ and of opposite signs.

    Args:
        family: what to look at.
        tried: nets to try.
        seed: of the draw.

    Raises:
        InvalidValue: `tried` is no positive integer.

    Source: Theorem 2 and its appendix A.2, Theorem 5 (appendix A.3).
    """
    if not isinstance(tried, int) or isinstance(tried, bool) or tried < 1:
        raise InvalidValue(f"a search of {tried!r} nets was asked for: give an integer of at least 1")
    network, method = family.network, METHODS[family.method]
    generator = numpy_generator(seed, "counterexamples")

    def draw(values: Sequence[float], shape: Sequence[int]) -> Array:
        return generator.choice(np.asarray(values), (tried, *shape))

    bounded = [method.constraint.covers(number) for number in range(len(network.layers))]
    weights = [
        draw(BOUNDED_VALUES if bound else FREE_VALUES, layer.weight_shape)
        for layer, bound in zip(network.layers, bounded, strict=True)
    ]
    biases = [draw(FREE_VALUES, layer.weight_shape[:1]) for layer in network.layers]
    fed = BOUNDED_VALUES if method.constraint.feedback else FREE_VALUES
    feedback = [draw(fed, item.shape) for item in method.transport.feedback(network)]
    inputs = draw(PIXEL_VALUES if family.pixels else FREE_VALUES, (family.examples, *family.image))
    labels = generator.integers(0, max(2, family.outputs), (tried, family.examples))
    return _judged(family, weights, biases, feedback, inputs, labels)


def theorem_5() -> Counterexample:
    """The paper's counterexample for two outputs: W₂ the identity, B₂ the exchange of the two units, e = ½ (1, −1).

    True ε = e W₂ = ½ (1, −1), delivered ε = e B₂ = ½ (−1, 1): opposite in both units, at 180° and not "orthogonal". The
    error is that of a softmax whose two logits are equal.

    Source: Theorem 5, appendix A.3 (equations 44 to 55), re-derived.
    """
    family = Family(title="Theorem 5: W₂ = I, B₂ = the exchange", architecture="fc:2", outputs=2)
    judged = _judged(
        family,
        [np.ones((1, 2, 1)), np.eye(2)[None]],
        [np.zeros((1, 2)), np.zeros((1, 2))],
        [np.array([[[0.0, 1.0], [1.0, 0.0]]])],
        np.ones((1, 1, 1, 1, 1)),
        np.array([[1]]),
    )
    assert judged.simplest is not None
    return judged.simplest


def _judged(
    family: Family,
    weights: Sequence[Array],
    biases: Sequence[Array],
    feedback: Sequence[Array],
    inputs: Array,
    labels: NDArray[np.int64],
) -> Search:
    """Which of these nets (first axis of every array) are counterexamples, and the simplest."""
    network, method = family.network, METHODS[family.method]
    parameters = network.parameters_from(weights, biases)
    fed = method.feedback_from(network, feedback)
    trace = network.forward(parameters, network.inputs_from(torch.as_tensor(inputs)))
    moment = Moment(torch.as_tensor(labels), seeds=tuple(range(len(inputs))))
    error = losses.output_error(trace.logits_RNC, moment.labels_RN)
    delivered = method.transport.signals(network, parameters, fed, trace, error, moment)
    true = probes.true_signals(network, parameters, trace, error)
    if family.level == "unit":
        names = [f"∂L/∂h{number}" for number in range(1, len(network.layers))]
        pairs = list(zip(names, true.errors, delivered.errors, strict=True))
    else:
        names = [f"∂L/∂{kind}{number}" for number in range(1, len(network.layers) + 1) for kind in "Wb"]
        updates = [signals.updates(network, trace) for signals in (true, delivered)]
        pairs = list(zip(names, *(made.tensors() for made in updates), strict=True))
    wrong = [(name, t, d, _opposite(t, d)) for name, t, d in pairs]
    found = torch.stack([bad.flatten(1).any(1) for *_, bad in wrong]).any(0)
    everything = [*weights, *biases, *feedback, inputs]
    size = sum(np.abs(array).reshape(len(array), -1).sum(1) for array in everything)
    if not bool(found.any()):
        return Search(family=family, tried=len(inputs), found=0, simplest=None)
    r = int(np.where(found.numpy(), size, np.inf).argmin())
    name, t, d, bad = next(item for item in wrong if bool(item[3][r].any()))
    index = tuple(int(i) for i in bad[r].nonzero()[0])
    simplest = Counterexample(
        family=family,
        weights=tuple(w[r] for w in weights),
        biases=tuple(b[r] for b in biases),
        feedback=tuple(b[r] for b in feedback),
        inputs=inputs[r],
        labels=tuple(int(label) for label in labels[r]),
        error=error[r].numpy(),
        name=name,
        true=t[r].numpy(),
        delivered=d[r].numpy(),
        index=index,
    )
    return Search(family=family, tried=len(inputs), found=int(found.sum()), simplest=simplest)


def _opposite(true: Tensor, delivered: Tensor) -> Tensor:
    """Where the two have opposite signs beyond rounding."""
    clear = (true.abs() > _ROUNDING) & (delivered.abs() > _ROUNDING)
    return clear & (true.sign() != delivered.sign())


def _written(array: Array) -> str:
    """Nested brackets; axes of one entry are left out."""
    squeezed = np.squeeze(array)
    if squeezed.ndim == 0:
        return f"{squeezed.item():.6g}"
    if squeezed.ndim == 1:
        return "[" + ", ".join(f"{value:.6g}" for value in squeezed.tolist()) + "]"
    return "[" + ", ".join(map(_written, itertools.chain(squeezed))) + "]"
