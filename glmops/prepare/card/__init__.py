"""The data card: what is in a prepared set or a raw file, as numbers and as a page."""
