"""``python -m hepgan``, which ``torchrun -m hepgan`` needs too."""

from hepgan.cli import main

main()
