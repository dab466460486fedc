"""What a bake-off found: methods side by side, from the files that their runs left.

trials.py    one run: its state, its scores and what it cost
methods.py   the runs of one method together, and how two methods differ
choice.py    what lies on the frontier, and which method to take
shown.py     as JSON, and as a table on a terminal
page.py      as one HTML page, with its plots
"""
