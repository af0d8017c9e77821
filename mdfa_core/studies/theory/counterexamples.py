"""A search for counterexamples: networks that can be checked by hand and whose delivered gradient has a wrong sign.

Axes: R replica (one per network tried), N example.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.base.rng import numpy_generator
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning import probes
from mdfa_core.nets import losses
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Network, parse_architecture
from mdfa_core.rules import METHODS, StepContext

FREE_VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
"""Values of free weights, biases and unbounded inputs: easy to compute with by hand."""

BOUNDED_VALUES = (0.0, 0.5, 1.0, 2.0)
"""Values of non-negative weights and feedback weights."""

PIXEL_VALUES = (0.0, 0.5, 1.0)
"""Values of inputs in [0, 1]."""

_ROUNDING = 1e-9  # below this magnitude, rounding could decide the sign

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Networks of one shape, and the question whether a gradient sign can differ in them.

    Attributes:
        title: the networks in a few words.
        architecture: see `networks.parse_architecture`.
        image: (C, H, W) of an input.
        outputs: output units. Every example has one random label.
        examples: mini-batch size.
        level: "unit" compares ∂L/∂h of every unit and example, "update" the update of every weight and bias.
        activation: a name in `ACTIVATIONS`.
        method: a name in `METHODS`.
        pixels: whether inputs are in [0, 1], like pixels.
        protected: the reason why no counterexample exists; empty if one may exist.
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
        """The network, in float64, without parameters."""
        return Network(
            parse_architecture(self.architecture),
            self.image,
            self.outputs,
            ACTIVATIONS[self.activation],
            PRECISIONS["float64"],
        )


FAMILIES: Registry[Family] = Registry("family")
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
    """A network and a mini-batch for which the method delivers an entry of the gradient with the wrong sign.

    Attributes:
        family: shape of the network.
        weights, biases, feedback: per layer, without replica axis.
        inputs: [N, C, H, W].
        labels: one per example.
        error: e = ∂L/∂z of the mean cross-entropy, [N, outputs].
        name: the tensor with the wrong sign, such as "∂L/∂W1".
        true: true value of this tensor; ∂L/∂h is [N, units].
        delivered: the value that the method delivers.
        index: index of the first entry with the wrong sign.
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
class SearchResult:
    """The result of a search.

    Attributes:
        family: the networks searched.
        tried: number of networks tried.
        found: number of counterexamples among them.
        simplest: the counterexample with the smallest sum of absolute values; None if there is none.
    """

    family: Family
    tried: int
    found: int
    simplest: Counterexample | None

    def __str__(self) -> str:
        start = f"{self.family.title}: {self.found} of {self.tried} networks"
        reason = f" (none can exist: {self.family.protected})" if self.family.protected else ""
        return start + reason + (f"\n{self.simplest}" if self.simplest else "")


def search(family: Family, *, tried: int = 2000, seed: int = 0) -> SearchResult:
    """Try random networks of a family, and keep the simplest counterexample.

    Weights, biases, feedback weights and inputs are drawn from the short lists of values above, and labels at random.
    All networks are replicas of one stack in float64. A sign is wrong if the true and the delivered value have opposite
    signs and both exceed 10⁻⁹ in magnitude.

    Args:
        family: the networks to search.
        tried: number of networks to try.
        seed: of all random values.

    Raises:
        InvalidValue: `tried` is no positive integer.

    Source: M. Lechner, ICLR 2020, Theorem 2 (appendix A.2) and Theorem 5 (appendix A.3).
    """
    if not isinstance(tried, int) or isinstance(tried, bool) or tried < 1:
        raise InvalidValue(f"tried is {tried!r}: give an integer of at least 1")
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
    """The paper's counterexample for two outputs.

    W₂ is the identity, B₂ exchanges the two units, and e = ½ (1, −1), the error of a softmax with equal logits. The
    true error signal is ε = e W₂ = ½ (1, −1), the delivered one e B₂ = ½ (−1, 1). Both units have the opposite sign.
    The angle is 180°, so the vectors are not "orthogonal".

    Source: M. Lechner, ICLR 2020, Theorem 5, appendix A.3 (equations 44 to 55), derived again.
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
) -> SearchResult:
    """The counterexamples among these networks; the first axis of every array is the network."""
    network, method = family.network, METHODS[family.method]
    parameters = network.parameters_from(weights, biases)
    fed = method.feedback_from(network, feedback)
    forward_pass = network.forward(parameters, network.inputs_from(torch.as_tensor(inputs)))
    context = StepContext(torch.as_tensor(labels), seeds=tuple(range(len(inputs))))
    error = losses.output_error(forward_pass.logits_RNC, context.labels_RN)
    delivered = method.transport.signals(network, parameters, fed, forward_pass, error, context)
    true = probes.true_signals(network, parameters, forward_pass, error)
    if family.level == "unit":
        names = [f"∂L/∂h{number}" for number in range(1, len(network.layers))]
        pairs = list(zip(names, true.errors, delivered.errors, strict=True))
    else:
        names = [f"∂L/∂{kind}{number}" for number in range(1, len(network.layers) + 1) for kind in "Wb"]
        updates = [signals.updates(network, forward_pass) for signals in (true, delivered)]
        pairs = list(zip(names, *(made.tensors() for made in updates), strict=True))
    wrong = [(name, t, d, _opposite(t, d)) for name, t, d in pairs]
    found = torch.stack([bad.flatten(1).any(1) for *_, bad in wrong]).any(0)
    everything = [*weights, *biases, *feedback, inputs]
    size = sum(np.abs(array).reshape(len(array), -1).sum(1) for array in everything)
    if not bool(found.any()):
        return SearchResult(family=family, tried=len(inputs), found=0, simplest=None)
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
    return SearchResult(family=family, tried=len(inputs), found=int(found.sum()), simplest=simplest)


def _opposite(true: Tensor, delivered: Tensor) -> Tensor:
    """Where two tensors have opposite signs beyond rounding."""
    clear = (true.abs() > _ROUNDING) & (delivered.abs() > _ROUNDING)
    return clear & (true.sign() != delivered.sign())


def _written(array: Array) -> str:
    """An array as nested brackets, without axes of length one."""
    squeezed = np.squeeze(array)
    if squeezed.ndim == 0:
        return f"{squeezed.item():.6g}"
    if squeezed.ndim == 1:
        return "[" + ", ".join(f"{value:.6g}" for value in squeezed.tolist()) + "]"
    return "[" + ", ".join(map(_written, itertools.chain(squeezed))) + "]"
