"""Read checkpoints safely, and convert those that the papers' authors released."""
