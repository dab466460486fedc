"""What keeps a run from going wrong without a word.

layout.py     rows carry the contract's special tokens where they belong
room.py       disk and memory are enough; what to do when a GPU's memory is not
before.py     something is trained, the optimiser knows all of it, and gradients reach it
during.py     loss and gradients of every step: no number, zero, exploding, flat
offending.py  the rows of such a step, kept for people to look at
"""
