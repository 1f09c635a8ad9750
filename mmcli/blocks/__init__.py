"""Torch modules that methods are composed of, one a file. They know tensors, and nothing of patients or files."""
