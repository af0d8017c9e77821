"""Print the README's table: unit-level sign agreement of the paper's methods with 1, 2 and 10 outputs on the digits."""

from mdfa_core import METHODS, Every, Experiment, fit

OUTPUTS = (1, 2, 10)

print("| sign agreement |", " | ".join(f"{outputs} output{'s' * (outputs > 1)}" for outputs in OUTPUTS), "|")
for name in ("bp", "mdfa", "dfa", "fa"):
    row = []
    for outputs in OUTPUTS:
        history = fit(Experiment(method=name, outputs=outputs, epochs=30), probe=Every(epochs=30))
        row.append(f"{history.sign_agreement:.3f}")
    print(f"| {METHODS[name].title} |", " | ".join(row), "|")
