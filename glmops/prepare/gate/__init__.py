"""Facts about rows, the great-expectations suites that judge them, and refusals in words."""
