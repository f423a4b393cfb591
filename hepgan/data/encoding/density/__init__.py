"""Conditional densities by small networks, fitted by maximum likelihood: the parts of ``energy_tree`` and ``autoregressive``."""
