"""Pure: which device gets which version, whether a version is well, and which of two is better."""
