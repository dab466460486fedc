"""Answering with a checkpoint, on a machine that has neither DVC, Prefect nor MLflow."""
