"""PyTorch modules of layouts."""
