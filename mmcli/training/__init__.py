"""The training engine: one loop for all methods, checkpoints that resume to the same bits, parts, provenance."""
