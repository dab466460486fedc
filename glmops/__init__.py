"""From raw rows to a reviewed, promoted GLM: prepare, encode, train, evaluate, promote."""

__version__ = "0.1.0"
