"""Invertible encodings between events and network inputs."""
