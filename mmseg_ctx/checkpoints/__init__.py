"""Reading checkpoints safely, and converting those that the authors released."""
