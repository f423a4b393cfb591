"""Generative adversarial networks: model, training, serialization and export."""
