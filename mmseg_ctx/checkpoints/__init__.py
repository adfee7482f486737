"""Reading checkpoints: safe globals for MMEngine's own, converters for the authors' releases."""
