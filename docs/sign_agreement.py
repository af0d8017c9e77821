"""Print the README's table: unit-level sign agreement of the paper's methods with 1, 2 and 10 outputs on the digits."""

from mdfa_core import METHODS, Every, Experiment, train
from mdfa_core.events import Probed

OUTPUTS = (1, 2, 10)

print("| method |", " | ".join(f"{outputs} output{'s' * (outputs > 1)}" for outputs in OUTPUTS), "|")
for name in ("bp", "mdfa", "dfa", "fa"):
    row = []
    for outputs in OUTPUTS:
        experiment = Experiment(method=name, outputs=outputs, epochs=30)
        probed = [event for event in train(experiment, probe=Every(epochs=30)) if isinstance(event, Probed)]
        row.append(f"{probed[-1].unit.overall[0]:.3f}")
    print(f"| {METHODS[name].title} |", " | ".join(row), "|")
