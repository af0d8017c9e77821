"""Ready configurations that each show one claim; every number in them was measured on the bundled digits.

`tests/app/test_presets.py` trains each of them and holds its claim.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mdfa_core import Experiment
from mdfa_core.registry import Table

FIRST = Experiment(network="fc:128,128", learning_rate=0.003, batch_size=32, epochs=100)
"""What every preset starts from: slow enough to watch, seconds until it is learnt."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A configuration with a claim.

    Attributes:
        title: in the list.
        claim: what it shows, in two sentences.
        look: what to look for.
        rules: what is compared, the one that is drawn first.
        settings: what differs from `FIRST`.
        tab: the detail that is opened with it, if any.
    """

    title: str
    claim: str
    look: str
    rules: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    tab: str = ""

    @property
    def experiment(self) -> Experiment:
        """Its settings; the method is that of the rule that is drawn."""
        return FIRST.replace(**self.settings)


PRESETS: Table[Preset] = Table("preset")
PRESETS.add(
    "one-output",
    Preset(
        title="One output: every sign agrees",
        claim="With one output, non-negative weights above the first layer and non-negative feedback, mDFA tells "
        "every hidden unit the right direction: Theorem 2. DFA and FA, whose weights are free, begin at the "
        "flip of a coin.",
        look="Sign agreement: mDFA stays at 100 % from the first mini-batch on, while DFA and FA climb from about "
        "50 % to 60–70 % as their weights come to fit the feedback – and they learn, too.",
        rules=("mdfa", "dfa", "fa"),
    ),
)
PRESETS.add(
    "two-outputs",
    Preset(
        title="Two outputs: the guarantee breaks",
        claim="The same two classes with two outputs instead of one: now two errors of opposite sign meet in every "
        "hidden unit, and which of them wins depends on sizes, which mDFA does not know. Theorem 2 needs a "
        "single output.",
        look="mDFA's sign agreement starts near 50 % like that of any other random feedback, and rises to 58–75 % "
        "in a hundred epochs. It learns all the same: right signs help, but they are not necessary.",
        rules=("mdfa", "dfa"),
        settings={"outputs": 2},
        tab="example",
    ),
)
PRESETS.add(
    "relu",
    Preset(
        title="ReLU mono-net struggles",
        claim="With ReLU in place of tanh every hidden activation is ≥ 0 and, in a mono-net, so is every weight "
        "above the first layer: a unit can only add. All signs still agree, yet learning hardly starts.",
        look="After 20 epochs mDFA is still at or near chance, while DFA and BP with ReLU have passed 90 %. In the"
        " tab Layers, saturation: in the end four fifths of layer 1 are off.",
        rules=("mdfa", "dfa", "bp"),
        settings={"activation": "relu"},
        tab="layers",
    ),
)
PRESETS.add(
    "zeros",
    Preset(
        title="Zero initialisation",
        claim="All forward weights start at 0, which the paper found best for FA, DFA and mDFA. BP cannot leave "
        "that point: its error would have to come back through weights that are all 0.",
        look="BP stays at chance for good, and has no sign at all. The others wait some epochs and then learn; "
        "DFA's signs all agree although nothing forces them, because its weights grow along its feedback.",
        rules=("mdfa", "dfa", "fa", "bp"),
        settings={"forward_init": "zeros"},
    ),
)
PRESETS.add(
    "fast-start",
    Preset(
        title="Fast start, slow finish",
        claim="The paper found feedback alignment good after a few epochs and then slower than BP to converge "
        "fully. The fast start shows here; that BP finishes first does not: at this rate it is the slower one"
        " all the way.",
        look="After one epoch, seven mini-batches, mDFA is right on 70–80 % of the images where BP still guesses. "
        "It is near 98 % after 10–20 epochs and needs 50–100 for the rest. At rate 0.1 BP, too, is through "
        "after ten.",
        rules=("mdfa", "bp"),
    ),
)
PRESETS.add(
    "released-u1",
    Preset(
        title="The released code's U1",
        claim="The paper's uniform initialisation is ±1/√fan-in; its released code takes the root twice and draws "
        "from ±fan-in^¼, here ±2.8 in place of ±0.125. tanh is saturated before the first step.",
        look="Most units are saturated from the start (tab Layers), and after 20 epochs no feedback rule is above "
        "70 %. Now set “Uniform as in” to the paper: mDFA passes 95 % in the same time, and these curves stay"
        " in grey.",
        rules=("mdfa", "dfa", "bp"),
        settings={"forward_init": "uniform:1", "convention": "released"},
        tab="layers",
    ),
)
PRESETS.add(
    "let-go",
    Preset(
        title="Without the constraint",
        claim="The same feedback, held to ≥ 0, with and without the constraint on the weights. The feedback alone "
        "guarantees nothing.",
        look="“mDFA, W free” starts near 50 %. Then let mDFA itself go: choose it in the list, and under “goes on "
        "by” take “mDFA, W free”; with a large rate such as 0.1 its signs begin to fail.",
        rules=("mdfa", "mdfa-free"),
    ),
)
PRESETS.add(
    "plane",
    Preset(
        title="In the plane: two moons",
        claim="Points with two coordinates in place of images, so that all of the net's opinion can be painted. All of "
        "mDFA's signs are right, and yet BP, which knows sizes too, bends the boundary sooner.",
        look="Tab Plane: the boundary as it learns; choose BP in the list to see its plane. After 10 epochs BP is "
        "right on 95 % of the points and mDFA on 89 %; after 60 on all but a few and on 97 %.",
        rules=("mdfa", "bp"),
        settings={
            "data": "moons",
            "network": "fc:32,32",
            "forward_init": "normal:1",
            "learning_rate": 0.1,
            "epochs": 200,
        },
        tab="plane",
    ),
)
