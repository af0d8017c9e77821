"""Presets: configurations that each show one claim. Every number in them was measured on the bundled digits.

`tests/app/test_presets.py` trains each preset and checks its claim.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mdfa_core import Experiment
from mdfa_core.base.registry import Registry

FIRST = Experiment(network="fc:128,128", learning_rate=0.003, batch_size=32, epochs=100)
"""The base of every preset: slow enough to watch, learnt within seconds."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A configuration with a claim.

    Attributes:
        title: of its card: one to three words.
        line: what it shows, in a few words.
        claim: two sentences.
        look: where on the page the claim can be checked; the first sentence stands alone.
        rules: the compared rules; the net of the first one is drawn.
        settings: the differences from `FIRST`.
        tab: name of the tab that opens with it; empty for none.
    """

    title: str
    line: str
    claim: str
    look: str
    rules: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    tab: str = ""

    @property
    def heading(self) -> str:
        """Title and line."""
        return f"{self.title}: {self.line}"

    @property
    def experiment(self) -> Experiment:
        """The experiment of the preset; its method is ignored."""
        return FIRST.replace(**self.settings)


PRESETS: Registry[Preset] = Registry("preset")
PRESETS.add(
    "one-output",
    Preset(
        title="One output",
        line="every sign is right",
        claim="With one output, non-negative weights above the first layer and non-negative feedback, mDFA gives every "
        "hidden unit an error signal of the true sign (Theorem 2). DFA and FA have no such constraint and start at "
        "chance.",
        look="Error signals: mDFA stays at 100 % from the first mini-batch on. DFA and FA climb from about 50 % to "
        "60–70 % as their weights align with the feedback, and they learn, too.",
        rules=("mdfa", "dfa", "fa"),
    ),
)
PRESETS.add(
    "two-outputs",
    Preset(
        title="Two outputs",
        line="the guarantee breaks",
        claim="The same two classes with two outputs instead of one. Two errors of opposite sign now meet in every "
        "hidden unit, and their sizes decide the sign of the sum. mDFA does not know the sizes: Theorem 2 needs a "
        "single output.",
        look="Error signals: mDFA starts near 50 %, as with any random feedback, and rises to 58–75 % in a hundred "
        "epochs. mDFA still learns: right signs help, but they are not necessary.",
        rules=("mdfa", "dfa"),
        settings={"outputs": 2},
        tab="example",
    ),
)
PRESETS.add(
    "relu",
    Preset(
        title="ReLU",
        line="right signs, slow",
        claim="With ReLU instead of tanh, every hidden activation is ≥ 0. In a mono-net every weight above the first "
        "layer is ≥ 0, too, so a unit can only add. All signs still agree, yet learning hardly starts.",
        look="After 20 epochs mDFA is still near chance, while DFA and BP with ReLU are above 90 %. Tab Layers, "
        "saturated activations: at the end, four fifths of layer 1 are off.",
        rules=("mdfa", "dfa", "bp"),
        settings={"activation": "relu"},
        tab="layers",
    ),
)
PRESETS.add(
    "zeros",
    Preset(
        title="Zero weights",
        line="BP cannot start",
        claim="All forward weights start at zero, which the paper found best for FA, DFA and mDFA. BP cannot leave "
        "zero weights, because they carry no error back.",
        look="BP stays at chance, and none of its error signals has a sign. The other rules wait some epochs and then "
        "learn. All of DFA's signs agree, although nothing forces them: its weights grow along its feedback.",
        rules=("mdfa", "dfa", "fa", "bp"),
        settings={"forward_init": "zeros"},
    ),
)
PRESETS.add(
    "fast-start",
    Preset(
        title="Fast start",
        line="mDFA leads at first",
        claim="In the paper, feedback alignment is good after a few epochs and then converges more slowly than BP. "
        "This preset shows the fast start only: at this learning rate, BP stays slower than mDFA to the end.",
        look="After one epoch (seven mini-batches) mDFA classifies 70–80 % of the images correctly, while BP is at "
        "chance. mDFA reaches about 98 % after 10–20 epochs and needs 50–100 epochs for the rest. At learning rate "
        "0.1, BP also converges within ten epochs.",
        rules=("mdfa", "bp"),
    ),
)
PRESETS.add(
    "released-u1",
    Preset(
        title="Released scale",
        line="tanh begins saturated",
        claim="The paper's uniform initialisation has the bound 1/√fan-in. Its released code takes the root twice, so "
        "the bound becomes fan-in^¼: here 2.8 instead of 0.125. tanh is saturated before the first step.",
        look="Most units are saturated from the start (tab Layers), and after 20 epochs no feedback rule is above "
        "70 %. Then set “Convention of uniform” to the paper: mDFA passes 95 % in the same time, and these curves stay "
        "in grey.",
        rules=("mdfa", "dfa", "bp"),
        settings={"forward_init": "uniform:1", "convention": "released"},
        tab="layers",
    ),
)
PRESETS.add(
    "let-go",
    Preset(
        title="No constraint",
        line="feedback alone fails",
        claim="The same non-negative feedback, with and without the constraint on the weights. The feedback alone "
        "guarantees nothing.",
        look="“mDFA, W free” starts near 50 %. Then choose mDFA in the list and switch its network to “mDFA, W free”: "
        "at a large learning rate such as 0.1, its signs begin to fail.",
        rules=("mdfa", "mdfa-free"),
    ),
)
PRESETS.add(
    "plane",
    Preset(
        title="Two moons",
        line="see the boundary bend",
        claim="Points with two coordinates instead of images, so the network's prediction can be drawn everywhere in "
        "the plane. All of mDFA's signs are right, and yet BP, which also knows the sizes, bends the boundary sooner.",
        look="The boundary at the right of each row, while the networks learn; the tab Plane shows it larger. After "
        "10 epochs BP classifies 95 % of the points correctly and mDFA 89 %; after 60 epochs nearly all and 97 %.",
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
