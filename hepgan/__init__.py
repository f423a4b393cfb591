"""Generative adversarial networks for high-energy physics, straight from ROOT files."""
