"""What a recipe will need before it runs: memory by part, time, disk; and what to do about it.

lengths.py    the forwards that the run will make, from its rows
skeleton.py   the recipe's model, without values
live.py       what is alive in memory while code runs on tensors without values
trace.py      one step, and one measurement of dev rows, of a skeleton
memory.py     the peak of a run, by part
cost.py       time and disk
advice.py     what to change when it does not fit
probe.py      the longest forward for a few steps, for real, in a process of its own
whole.py      all of that for one recipe
shown.py      in words
"""
