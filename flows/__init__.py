"""The run as a Prefect flow, generated from DVC's graph."""
