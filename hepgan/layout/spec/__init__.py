"""Layer words: one frozen dataclass per word, with its arguments, output shape and parameter count."""

# Importing the modules registers their words, in the order of the reference page.
from hepgan.layout.spec import (  # noqa: F401, I001
    dense_norm,
    recurrent,
    convolution,
    pooling,
    composite,
    physics,
)
