"""Adversarial training: loop, losses, optimizers, validation and checkpoints."""
