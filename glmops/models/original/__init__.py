"""Checkpoints in the original ChatGLM format → the native one, without running their code."""
