"""Every sentence of the paper that claims something its experiments could refute, and the checks that judge it.

Listed are the paper's own empirical claims: abstract, introduction, sections 4.1, 4.2 and 5, appendix B.3. Left out are
sentences that only report other people's work, proofs, and announcements of what follows. A sentence about "learning
performance" or "accuracy" is taken to mean both that on training and that on held-out images; one about a whole kind of
network is taken to hold for every activation, except that sentences about mDFA are not judged on ReLU nets, which
section 4.1 excepts, unless they speak of ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mdfa_core.paper import criteria
from mdfa_core.paper.criteria import Check, Verdict
from mdfa_core.paper.evidence import Evidence
from mdfa_core.paper.published import Cell, cells
from mdfa_core.registry import Table

RIVALS = ("dfa", "fa")
FAMILY = ("dfa", "fa", "mdfa")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of the paper: where it stands, what it says, what decides it."""

    page: int
    section: str
    paragraph: str
    """First words of the paragraph or list."""
    sentence: int
    """Which sentence of that paragraph, from 1."""
    quote: str
    meaning: str
    criterion: str
    checks: tuple[Check, ...]

    def judge(self, evidence: Evidence) -> Verdict:
        """The verdict on this evidence, with the numbers of every check."""
        return criteria.combine([check(evidence) for check in self.checks])

    @property
    def where(self) -> str:
        """Page, section, paragraph and sentence as text."""
        return f"p. {self.page}, {self.section}, “{self.paragraph} …”, sentence {self.sentence}"


CLAIMS: Table[Claim] = Table("claim")
"""All claims in the order of the paper."""


def judge(evidence: Evidence) -> dict[str, Verdict]:
    """The verdict on every claim, by its name."""
    return {name: claim.judge(evidence) for name, claim in CLAIMS.items()}


# ------------------------------------------------------------------------------------------------------ groups of cells


def _binary(*, network: str | None = None, relu: bool = False, tables: tuple[int, ...] = (1, 2)) -> Iterator[Cell]:
    """mDFA's cells of the binary tables."""
    for table in tables:
        for cell in cells(table, network=network, method="mdfa"):
            if relu or cell.activation != "relu":
                yield cell


def _multi(method: str, *, conv: bool | None = None, least: int = 3, most: int = 50) -> list[Cell]:
    """A method's cells of the n-class tables, with at least `least` and at most `most` classes."""
    network = None if conv is None else ("conv" if conv else "fc")
    return [
        cell
        for table in (3, 4, 5, 6)
        for cell in cells(table, network=network, method=method)
        if least <= cell.classes <= most
    ]


def _by(cell: Cell, method: str) -> Cell:
    return replace(cell, method=method)


def _beats_rivals(mdfa: list[Cell]) -> tuple[Check, ...]:
    return tuple(
        criteria.above(cell, _by(cell, rival), split) for cell in mdfa for split in cell.splits for rival in RIVALS
    )


_SURPASSES = _beats_rivals(list(_binary()))
_MATCHES_BP = tuple(criteria.matches(cell, _by(cell, "bp"), split) for cell in _binary() for split in cell.splits)
_DECENT = tuple(criteria.decent(cell) for cell in _multi("mdfa"))

_ABOVE = "the paired difference over the five tasks has a 95 % bootstrap interval above 0"
_MATCH = (
    f"at most {criteria.MARGIN:g} points below BP in the mean, and the 95 % bootstrap interval of the paired "
    "difference reaches 0 or is all within these points"
)
_HALF = "held-out accuracy is at least half as far above chance as BP's"
_FALL = "no mean is above that of fewer classes, and the paired fall from first to last has an interval above 0"

# --------------------------------------------------------------------------------------------- abstract, introduction

CLAIMS.add(
    "abstract-surpasses",
    Claim(
        page=1,
        section="abstract",
        paragraph="The family of feedback alignment",
        sentence=5,
        quote="surpassing the learning performance of existing FA methods",
        meaning="On two classes mDFA is more accurate than DFA and than FA.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out, against each: {_ABOVE}.",
        checks=_SURPASSES,
    ),
)
CLAIMS.add(
    "abstract-matches-bp",
    Claim(
        page=1,
        section="abstract",
        paragraph="The family of feedback alignment",
        sentence=5,
        quote="matching backpropagation in binary classification tasks",
        meaning="On two classes mDFA is as accurate as BP.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out: {_MATCH}.",
        checks=_MATCHES_BP,
    ),
)
CLAIMS.add(
    "abstract-limits",
    Claim(
        page=1,
        section="abstract",
        paragraph="The family of feedback alignment",
        sentence=6,
        quote="the limits of our FA variant when the number of output neurons grows beyond a certain quantity",
        meaning="With many outputs mDFA loses touch with BP.",
        criterion="From fewest to most classes (Tables 3 to 6) mDFA's training accuracy loses more than BP's: "
        f"{_ABOVE}.",
        checks=tuple(
            criteria.falls_more(cells(table, method="mdfa"), cells(table, method="bp"), "train")
            for table in (3, 4, 5, 6)
        ),
    ),
)
CLAIMS.add(
    "introduction-sign",
    Claim(
        page=2,
        section="section 1",
        paragraph="In this work, we investigate",
        sentence=5,
        quote="can compute the sign of the true gradient",
        meaning="With one output, every unit's error signal from mDFA has the sign of the true one (also Theorem 2, "
        "p. 5; per example and unit, not for a mini-batch's sum).",
        criterion="Every measured agreement of unit error signals is exactly 1 in mDFA's cells of Tables 1 and 2.",
        checks=tuple(criteria.signs_agree(cell) for cell in _binary(relu=True)),
    ),
)
CLAIMS.add(
    "introduction-surpasses",
    Claim(
        page=2,
        section="section 1",
        paragraph="In this work, we investigate",
        sentence=6,
        quote="surpassing the learning performance of existing feedback alignment algorithms in binary classification",
        meaning="On two classes mDFA is more accurate than DFA and than FA.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out, against each: {_ABOVE}.",
        checks=_SURPASSES,
    ),
)
CLAIMS.add(
    "introduction-decent",
    Claim(
        page=2,
        section="section 1",
        paragraph="In this work, we investigate",
        sentence=6,
        quote="decent performance even when the error signal is not scalar",
        meaning="With several outputs mDFA still reaches a good part of what BP does.",
        criterion=f"In every cell of Tables 3 to 6: {_HALF}.",
        checks=_DECENT,
    ),
)
CLAIMS.add(
    "introduction-outperforms",
    Claim(
        page=2,
        section="section 1",
        paragraph="We make the following key contributions, second point",
        sentence=1,
        quote="outperforms the learning performance of existing FA algorithms",
        meaning="On two classes mDFA is more accurate than DFA and than FA.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out, against each: {_ABOVE}.",
        checks=_SURPASSES,
    ),
)
CLAIMS.add(
    "introduction-matches-bp",
    Claim(
        page=2,
        section="section 1",
        paragraph="We make the following key contributions, second point",
        sentence=1,
        quote="match backpropagation in binary classification tasks",
        meaning="On two classes mDFA is as accurate as BP.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out: {_MATCH}.",
        checks=_MATCHES_BP,
    ),
)
CLAIMS.add(
    "introduction-efficient",
    Claim(
        page=2,
        section="section 1",
        paragraph="We make the following key contributions, third point",
        sentence=1,
        quote="an efficient TensorFlow implementation",
        meaning="The released program is fast.",
        criterion="Time of a training step beside an ordinary implementation.",
        checks=(
            criteria.not_tested("the released program was not run; for this project's own speed run `mdfa bench`"),
        ),
    ),
)

# ------------------------------------------------------------------------------------------------- section 4.1: binary

CLAIMS.add(
    "binary-zero-error",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="The results on the binarized benchmarks",
        sentence=2,
        quote="mDFA could bring the training error to zero for fully-connected networks",
        meaning="Fully-connected nets trained by mDFA fit all training images.",
        criterion="FC cells of Tables 1 and 2 but ReLU's: the mean over tasks of the best training accuracy is at "
        f"least {criteria.NO_ERROR:g} %, what is printed as 100.0.",
        checks=tuple(criteria.no_training_error(cell) for cell in _binary(network="fc")),
    ),
)
CLAIMS.add(
    "binary-conv-matches-bp",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="The results on the binarized benchmarks",
        sentence=2,
        quote="match the test/validation accuracy of backpropagation for convolutional networks",
        meaning="Convolutional nets trained by mDFA generalise as well as by BP.",
        criterion=f"CNN cells of Tables 1 and 2 but ReLU's, held-out: {_MATCH}.",
        checks=tuple(criteria.matches(cell, _by(cell, "bp"), cell.held_out) for cell in _binary(network="conv")),
    ),
)
CLAIMS.add(
    "relu-fails",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Poor learning performance for ReLU networks",
        sentence=1,
        quote="mDFA fails to provide the same level of learning performance as backpropagation for ReLU networks",
        meaning="With ReLU, mDFA is less accurate than BP.",
        criterion=f"ReLU cells of Tables 1 and 2, training and held-out, BP − mDFA: {_ABOVE}.",
        checks=tuple(
            criteria.above(_by(cell, "bp"), cell, split)
            for table in (1, 2)
            for cell in cells(table, activation="relu", method="mdfa")
            for split in cell.splits
        ),
    ),
)
CLAIMS.add(
    "relu-positive-image",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Poor learning performance for ReLU networks",
        sentence=4,
        quote="limit the approximation capabilities of mono-net in combination with ReLU and thus explain the poor "
        "performance",
        meaning="ReLU mono-nets fail because weights and activations of only one sign cannot express the task.",
        criterion="A ReLU mono-net that cannot fit the tasks however it is trained.",
        checks=(
            criteria.not_tested(
                "train ReLU mono-nets by BP with the same constraint on the tasks of Table 1: if they fit, "
                "expressiveness is not the cause"
            ),
        ),
    ),
)
CLAIMS.add(
    "hard-tanh-decent",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Poor learning performance for ReLU networks",
        sentence=7,
        quote="the decent learning performance of mDFA for hard-tanh networks confirms our hypothesis",
        meaning="A rectifier that also takes negative values, hard-tanh, learns well where ReLU does not "
        "(sentence 5 announces the same test).",
        criterion=f"hard-tanh cells of Tables 1 and 2: {_HALF}; and mDFA with hard-tanh − with ReLU, training and "
        f"held-out: {_ABOVE}.",
        checks=tuple(
            check
            for table in (1, 2)
            for cell in cells(table, activation="hard-tanh", method="mdfa")
            for check in (
                criteria.decent(cell),
                *(criteria.above(cell, replace(cell, activation="relu"), split) for split in cell.splits),
            )
        ),
    ),
)
CLAIMS.add(
    "relu-to-hard-tanh",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Poor learning performance for ReLU networks",
        sentence=8,
        quote="also FA and DFA expressed an improvement in performance when switching from ReLU to hard-tanh",
        meaning="FA and DFA are more accurate with hard-tanh than with ReLU.",
        criterion=f"Tables 1 and 2, training and held-out, hard-tanh − ReLU: {_ABOVE}.",
        checks=tuple(
            criteria.above(cell, replace(cell, activation="relu"), split)
            for table in (1, 2)
            for rival in RIVALS
            for cell in cells(table, activation="hard-tanh", method=rival)
            for split in cell.splits
        ),
    ),
)
CLAIMS.add(
    "symmetric-activations",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Poor learning performance for ReLU networks",
        sentence=9,
        quote="feedback alignment algorithms in general benefit from symmetric activation functions",
        meaning="FA, DFA and mDFA are more accurate with tanh and with hard-tanh than with ReLU.",
        criterion=f"Tables 1 and 2, training and held-out, tanh − ReLU and hard-tanh − ReLU: {_ABOVE}.",
        checks=tuple(
            criteria.above(cell, replace(cell, activation="relu"), split)
            for table in (1, 2)
            for activation in ("hard-tanh", "tanh")
            for method in FAMILY
            for cell in cells(table, activation=activation, method=method)
            for split in cell.splits
        ),
    ),
)
CLAIMS.add(
    "fc-same-training",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Discrepancy between fully-connected and convolutional networks",
        sentence=1,
        quote="mDFA achieved the same training accuracy as backpropagation for fully-connected networks",
        meaning="Fully-connected nets fit the training images as well by mDFA as by BP.",
        criterion=f"FC cells of Tables 1 and 2 but ReLU's, training: {_MATCH}.",
        checks=tuple(criteria.matches(cell, _by(cell, "bp"), "train") for cell in _binary(network="fc")),
    ),
)
CLAIMS.add(
    "fc-generalises-less",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Discrepancy between fully-connected and convolutional networks",
        sentence=1,
        quote="the generalization ability, i.e., test and validation accuracy, slightly lacks behind BP",
        meaning="On binary CIFAR-100, fully-connected nets are less accurate on test images by mDFA than by BP.",
        criterion=f"FC cells of Table 1 but ReLU's, test, BP − mDFA: {_ABOVE}.",
        checks=tuple(
            criteria.above(_by(cell, "bp"), cell, cell.held_out) for cell in _binary(network="fc", tables=(1,))
        ),
    ),
)
CLAIMS.add(
    "conv-reversed",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Discrepancy between fully-connected and convolutional networks",
        sentence=3,
        quote="a decent test/validation accuracy but a higher training error than BP",
        meaning="Convolutional nets generalise by mDFA about as by BP, but fit the training images less.",
        criterion=f"CNN cells of Tables 1 and 2 but ReLU's: {_HALF}; training, BP − mDFA: {_ABOVE}.",
        checks=tuple(
            check
            for cell in _binary(network="conv")
            for check in (criteria.decent(cell), criteria.above(_by(cell, "bp"), cell, "train"))
        ),
    ),
)
CLAIMS.add(
    "discrepancy-initialisation",
    Claim(
        page=7,
        section="section 4.1",
        paragraph="Discrepancy between fully-connected and convolutional networks",
        sentence=4,
        quote="the two tested initialization schemes for the feedback weights caused this discrepancy",
        meaning="The feedback's initialisation is why FC and CNN differ (the paper calls it speculation).",
        criterion="Another feedback initialisation with which the discrepancy is gone.",
        checks=(
            criteria.not_tested(
                "run mDFA's CNN and FC cells of Table 1 with further feedback initialisations, each tuned alike"
            ),
        ),
    ),
)

# --------------------------------------------------------------------------------------------- section 4.2: multi-class

CLAIMS.add(
    "tanh-compelling",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="Here we modify the classification benchmark",
        sentence=2,
        quote="due to their compelling results in our binary classification benchmark",
        meaning="On two classes, tanh nets trained by mDFA are no worse than those with the other activations.",
        criterion=f"mDFA's tanh cells of Tables 1 and 2, held-out, against hard-tanh and ReLU: at most "
        f"{criteria.MARGIN:g} points below in the mean, and the interval of the paired difference reaches 0 or is all "
        "within these points.",
        checks=tuple(
            criteria.matches(cell, replace(cell, activation=activation), cell.held_out)
            for table in (1, 2)
            for cell in cells(table, activation="tanh", method="mdfa")
            for activation in ("hard-tanh", "relu")
        ),
    ),
)
CLAIMS.add(
    "multi-learns",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="mDFA can provide learning",
        sentence=1,
        quote="mDFA can provide learning for networks with more than one output neuron",
        meaning="With several outputs, nets trained by mDFA are better than chance.",
        criterion="Every mDFA cell of Tables 3 to 6, held-out: the mean's 95 % bootstrap interval lies above "
        "100 % ÷ classes.",
        checks=tuple(criteria.learns(cell) for cell in _multi("mdfa")),
    ),
)
CLAIMS.add(
    "multi-conv-up-to-ten",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="mDFA can provide learning",
        sentence=2,
        quote="outperforms other feedback alignment methods for convolutional networks with ten or fewer output "
        "neurons",
        meaning="With 3, 5 and 10 classes, convolutional nets are more accurate by mDFA than by DFA and by FA.",
        criterion=f"Tables 4 and 6 up to ten classes, training and held-out, against each: {_ABOVE}.",
        checks=_beats_rivals(_multi("mdfa", conv=True, most=10)),
    ),
)
CLAIMS.add(
    "multi-beyond-ten",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="mDFA can provide learning",
        sentence=3,
        quote="mDFA falls behind standard DFA for networks with more than ten output neurons",
        meaning="With 25 and 50 classes mDFA is less accurate than DFA.",
        criterion=f"Tables 3 and 4 with more than ten classes, training and test, DFA − mDFA: {_ABOVE}.",
        checks=tuple(
            criteria.above(_by(cell, "dfa"), cell, split) for cell in _multi("mdfa", least=11) for split in cell.splits
        ),
    ),
)
CLAIMS.add(
    "multi-restriction-hurts-later",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="mDFA can provide learning",
        sentence=4,
        quote="beneficial even for multi-class tasks but eventually hurts learning performance when the number of "
        "classes grows larger",
        meaning="What mDFA is ahead of DFA with few classes it loses with many.",
        criterion="Convolutional nets of CIFAR-100 (Table 4), training and test: with 3 classes mDFA − DFA, with 50 "
        f"classes DFA − mDFA: {_ABOVE}.",
        checks=tuple(
            check
            for split in ("train", "test")
            for few in cells(4, method="mdfa")[:1]
            for many in cells(4, method="mdfa")[-1:]
            for check in (
                criteria.above(few, _by(few, "dfa"), split),
                criteria.above(_by(many, "dfa"), many, split),
            )
        ),
    ),
)
CLAIMS.add(
    "family-struggles",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="Feedback alignment algorithms, in general",
        sentence=1,
        quote="with an increase in the number of classes, feedback alignment algorithms struggle to fit the training "
        "data",
        meaning="Training accuracy of DFA, FA and mDFA falls as classes grow.",
        criterion=f"Tables 3 to 6, training: {_FALL}.",
        checks=tuple(
            criteria.falls(cells(table, method=method), "train") for table in (3, 4, 5, 6) for method in FAMILY
        ),
    ),
)
CLAIMS.add(
    "bp-fits-all",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="Feedback alignment algorithms, in general",
        sentence=2,
        quote="BP can reduce the training error to almost zero independently of the output dimension",
        meaning="BP fits the training images with any number of classes.",
        criterion="Every BP cell of Tables 3 to 6: mean best training accuracy of at least "
        f"{100 - criteria.MARGIN:g} %.",
        checks=tuple(criteria.almost_no_training_error(cell) for cell in _multi("bp")),
    ),
)
CLAIMS.add(
    "family-higher-error",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="Feedback alignment algorithms, in general",
        sentence=2,
        quote="the training errors achieved by FA algorithms are significantly higher",
        meaning="DFA, FA and mDFA leave more training images wrong than BP does.",
        criterion=f"Every cell of Tables 3 to 6, training, BP − each: {_ABOVE}.",
        checks=tuple(criteria.above(_by(cell, "bp"), cell, "train") for method in FAMILY for cell in _multi(method)),
    ),
)
CLAIMS.add(
    "family-correlates",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="Feedback alignment algorithms, in general",
        sentence=2,
        quote="and correlate with the number of output neurons",
        meaning="Training errors of DFA, FA and mDFA rise with the number of outputs.",
        criterion=f"Tables 3 to 6, training: {_FALL}.",
        checks=tuple(
            criteria.falls(cells(table, method=method), "train") for table in (3, 4, 5, 6) for method in FAMILY
        ),
    ),
)
CLAIMS.add(
    "family-more-affected",
    Claim(
        page=8,
        section="section 4.2",
        paragraph="Feedback alignment algorithms, in general",
        sentence=3,
        quote="the dimension of the error signal affects the training convergence for FA algorithms, in contrast to BP",
        meaning="From few to many classes DFA, FA and mDFA lose more training accuracy than BP.",
        criterion=f"Tables 3 to 6, training, loss of each − loss of BP: {_ABOVE}.",
        checks=tuple(
            criteria.falls_more(cells(table, method=method), cells(table, method="bp"), "train")
            for table in (3, 4, 5, 6)
            for method in FAMILY
        ),
    ),
)

# ------------------------------------------------------------------------------------------------ section 5: conclusion

CLAIMS.add(
    "conclusion-outperforms",
    Claim(
        page=9,
        section="section 5",
        paragraph="Feedback alignment algorithms are promising",
        sentence=4,
        quote="our FA algorithm outperforms existing FA algorithms in binary classification tasks",
        meaning="On two classes mDFA is more accurate than DFA and than FA.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out, against each: {_ABOVE}.",
        checks=_SURPASSES,
    ),
)
CLAIMS.add(
    "conclusion-decent",
    Claim(
        page=9,
        section="section 5",
        paragraph="Feedback alignment algorithms are promising",
        sentence=4,
        quote="and even provide decent learning on multi-class problems",
        meaning="With several outputs mDFA still reaches a good part of what BP does.",
        criterion=f"In every cell of Tables 3 to 6: {_HALF}.",
        checks=_DECENT,
    ),
)
CLAIMS.add(
    "limited-to-scalar",
    Claim(
        page=9,
        section="section 5",
        paragraph="Limitations",
        sentence=1,
        quote="our method is limited to networks with scalar output",
        meaning="With two or more outputs mDFA's error signals lose the sign guarantee.",
        criterion="In every n-class cell of mDFA some measured unit error signal has the wrong sign.",
        checks=tuple(criteria.signs_disagree(cell) for cell in _multi("mdfa")),
    ),
)
CLAIMS.add(
    "fa-dfa-decent",
    Claim(
        page=9,
        section="section 5",
        paragraph="Limitations",
        sentence=2,
        quote="the decent learning performance of FA and DFA on multi-class tasks",
        meaning="With several outputs FA and DFA reach a good part of what BP does.",
        criterion=f"In every FA and DFA cell of Tables 3 to 6: {_HALF}.",
        checks=tuple(criteria.decent(cell) for rival in RIVALS for cell in _multi(rival)),
    ),
)
CLAIMS.add(
    "latency",
    Claim(
        page=9,
        section="section 5",
        paragraph="Is this really useful?",
        sentence=2,
        quote="an advantage over backpropagation concerning training latency, as all weight updates can be computed in "
        "parallel",
        meaning="A step of mDFA takes less time than one of BP, because its layers need not wait for each other.",
        criterion="Time of a training step of either.",
        checks=(
            criteria.not_tested(
                "run `mdfa bench`: it times a step of each; layers updated in parallel need other hardware"
            ),
        ),
    ),
)
CLAIMS.add(
    "conclusion-superior",
    Claim(
        page=9,
        section="section 5",
        paragraph="Is this really useful?",
        sentence=3,
        quote="mDFA is superior to other feedback alignment algorithms in binary classification tasks",
        meaning="On two classes mDFA is more accurate than DFA and than FA.",
        criterion=f"In every cell of Tables 1 and 2 but ReLU's, training and held-out, against each: {_ABOVE}.",
        checks=_SURPASSES,
    ),
)
CLAIMS.add(
    "effective-solution",
    Claim(
        page=9,
        section="section 5",
        paragraph="Is this really useful?",
        sentence=4,
        quote="an effective solution for binary classification problems with training latency constraints",
        meaning="mDFA is both accurate and quick enough for such uses.",
        criterion="An application with a limit on time.",
        checks=(
            criteria.not_tested(
                "needs a task with a limit on training time; docs/branches.md tries the paper's, branch prediction"
            ),
        ),
    ),
)
CLAIMS.add(
    "deeper-predictors",
    Claim(
        page=9,
        section="section 5",
        paragraph="Is this really useful?",
        sentence=7,
        quote="mDFA could enable deeper branch predictor networks to be learned in real-time",
        meaning="With mDFA a branch predictor can have more layers, learn as fast as branches come, and gain by it.",
        criterion="Mispredictions by depth, on traces of a processor, within its cycles for an update.",
        checks=(
            criteria.not_tested(
                "needs traces and hardware of a processor; docs/branches.md counts the steps of an update and compares "
                "depths on traces of Python programs"
            ),
        ),
    ),
)

# ---------------------------------------------------------------------------------------- appendix B.3: hyperparameters

_SEARCHED = [replace(cell, method=method) for cell in (*_binary(), *_multi("mdfa")) for method in FAMILY]
_SEARCHED_RELU = [
    cell for table in (1, 2) for method in FAMILY for cell in cells(table, activation="relu", method=method)
]

CLAIMS.add(
    "sgd-more-stable",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="We observed that all FA algorithms",
        sentence=1,
        quote="all FA algorithms yield a more stable convergence with ”vanilla” stochastic gradient descent",
        meaning="Under DFA, FA and mDFA, learning curves are smoother with SGD than with Adam or RMSprop.",
        criterion="Changes of training accuracy from epoch to epoch, each optimizer at its own best rate.",
        checks=(
            criteria.not_tested(
                "run the cells of Table 1 with each optimizer at its own tuned rate and compare the curves' changes "
                "from epoch to epoch"
            ),
        ),
    ),
)
CLAIMS.add(
    "fast-start",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="Furthermore, we observed that FA algorithms",
        sentence=1,
        quote="FA algorithms achieve a descent validation accuracy after the first few training epochs",
        meaning="DFA, FA and mDFA soon come near their best validation accuracy (sentence 3 names it a fast start).",
        criterion=f"Every cell of the three but ReLU's: after {criteria.FIRST_EPOCHS} epochs, on average over the "
        f"tasks, {100 * criteria.FIRST_SHARE:g} % of the way from chance to the best validation accuracy.",
        checks=tuple(criteria.starts_fast(cell) for cell in _SEARCHED),
    ),
)
CLAIMS.add(
    "slow-convergence",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="Furthermore, we observed that FA algorithms",
        sentence=2,
        quote="in contrast to BP, these methods may require over a hundred training epochs to converge fully",
        meaning="DFA, FA and mDFA converge later than BP, some runs only after a hundred epochs (sentence 3 names it "
        "slow convergence).",
        criterion="The first epoch within 1 point of the best training accuracy is later than BP's in every task of "
        f"every cell but ReLU's, and in some run after epoch {criteria.MANY_EPOCHS}.",
        checks=(
            criteria.needs_many_epochs(_SEARCHED),
            *(criteria.converges_later(cell, _by(cell, "bp")) for cell in _SEARCHED),
        ),
    ),
)
CLAIMS.add(
    "zeros-best",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="We found that FA, DFA, and mDFA",
        sentence=1,
        quote="FA, DFA, and mDFA perform best when all forward weights are initialized to zero",
        meaning="Among all initialisations of the forward weights, zeros give the best validation accuracy.",
        criterion="In the first round of the search of every cell of the three but ReLU's: the best candidate with "
        "zeros is no worse on validation than the best without.",
        checks=tuple(criteria.best_with(cell, "forward_init", "zeros") for cell in _SEARCHED),
    ),
)
CLAIMS.add(
    "zeros-poor-with-relu",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="We found that FA, DFA, and mDFA",
        sentence=2,
        quote="networks with ReLU activation function which express poor performance with the all-zeros initialization",
        meaning="With ReLU, forward weights of zero are much worse than others.",
        criterion="In the first round of the search of every ReLU cell of DFA, FA and mDFA: the best candidate with "
        f"zeros is more than {criteria.MARGIN:g} points below the best without.",
        checks=tuple(criteria.worse_with(cell, "forward_init", "zeros") for cell in _SEARCHED_RELU),
    ),
)
CLAIMS.add(
    "zeros-explain-relu",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="We found that FA, DFA, and mDFA",
        sentence=3,
        quote="partially explains the poor observed performance of FA and DFA for ReLU networks",
        meaning="FA and DFA are poor with ReLU in part because zeros do not work there.",
        criterion="FA and DFA without zeros: hard-tanh is ahead of ReLU by less than with zeros allowed.",
        checks=(
            criteria.not_tested(
                "tune FA and DFA on the hard-tanh and tanh cells of Table 1 without zeros and compare them with ReLU's"
            ),
        ),
    ),
)
CLAIMS.add(
    "normal-feedback",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="In contrast to Nøkland (2016)",
        sentence=1,
        quote="backward weights initialized by a normal distribution perform slightly better than the scaled uniform",
        meaning="Normal feedback gives a better validation accuracy than scaled uniform feedback.",
        criterion="In the first round of the search of every cell of DFA, FA and mDFA: the best candidate with normal "
        "feedback is no worse on validation than the best with uniform feedback.",
        checks=tuple(criteria.best_with(cell, "feedback_init", "normal") for cell in (*_SEARCHED, *_SEARCHED_RELU)),
    ),
)
CLAIMS.add(
    "sensitive",
    Claim(
        page=17,
        section="appendix B.3",
        paragraph="We confirmed the observation made by Bartunov",
        sentence=1,
        quote="feedback alignment algorithms are in general relatively sensitive to hyperparameter choice",
        meaning="Validation accuracy depends more on the configuration under DFA, FA and mDFA than under BP.",
        criterion="Among the candidates in the first round of a search, the standard deviation of validation "
        "accuracies is larger than in BP's search, in every cell.",
        checks=tuple(criteria.more_sensitive(cell, _by(cell, "bp")) for cell in (*_SEARCHED, *_SEARCHED_RELU)),
    ),
)
