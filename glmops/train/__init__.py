"""Token ids → a trained checkpoint."""
