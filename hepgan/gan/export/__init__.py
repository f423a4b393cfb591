"""Export of trained GANs for programs without Python: for ONNX Runtime, torch, and host programs with a contract of their own."""
