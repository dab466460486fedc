"""Records → token ids and loss masks, as Arrow."""
