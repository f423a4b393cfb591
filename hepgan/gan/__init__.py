"""The adversarial pair: the GAN itself, what it minimises, how it is trained, how it is kept."""
