"""Studies: questions that take many runs to answer, each in a room of its own.

paper               the tables and propositions of the paper as data, and their reproduction
reports             tables, plots, verdicts and the whole report, made from a store
theory              the paper's theorems: constructed, checked, and contradicted outside their premises
branch_prediction   the paper's proposed application: branch traces, predictors, the cost of an update
comparison          all learning rules on the same tasks, tuned alike
grids               the candidate settings of the searches
notebooks           runs the project's notebooks in a batch

Import from the rooms and modules directly; nothing is imported here, because reports need packages that are optional.
"""
