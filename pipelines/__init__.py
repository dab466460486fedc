"""One thin process per stage: read the recipe, call glmops, write the outputs."""
