"""The paper as data: its figures, its sentences of claim and what decides each of them.

M. Lechner, *Learning representations for binary-classification without backpropagation*, ICLR 2020.
"""
