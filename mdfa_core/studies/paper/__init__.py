"""The paper as data, and its reproduction.

M. Lechner, *Learning representations for binary-classification without backpropagation*, ICLR 2020.

published       its tables, cells and figures
recipes         how each cell is run: data, network, search, profiles; and the settings that come with the package
reproduction    trains the cells of a plan: `Plan`, `Reproduction`
from_texts      the same from texts of a notebook or a command line, with a progress bar
propositions    what its sentences say, with a grade for every cell: `PROPOSITIONS`, `judge`
cases           the questions to cells that propositions consist of
claims          its sentences that its experiments could refute, with the cases that they cover: `CLAIMS`
measures        the roles of a cell (chosen, best fit) and the quantities of its runs
words           how a cell and its parts are called
evidence        what cases read: accuracies, curves, sign agreement, searches
statistics      means over tasks and seeds, paired differences with intervals, Holm's correction
released        the grid of the released program's settings for cells that differ from the paper
reproduced      the figures measured by this project, as they come with the package
"""
