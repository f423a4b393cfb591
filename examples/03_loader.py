"""The loader without a GAN: a plain torch autoencoder on calorimeter showers, straight from ROOT and without labels.

    python examples/03_loader.py [FILES.root] [EPOCHS]

Only a shuffle buffer is kept in memory, so the files may be of any size.
"""

import functools
import sys

import torch

import hepgan
from hepgan.data.loaders.in_memory import split_chunks

FRACTIONS = {"train": 0.9, "test": 0.1}
LAYERS = {"layer_0": [3, 96], "layer_1": [12, 12], "layer_2": [12, 6]}
SCHEMA = hepgan.Schema.from_table({"fields": {name: {"shape": LAYERS[name]} for name in LAYERS}})
STEPS = ({"step": "log", "threshold": 0.01}, {"step": "standardize"})


def main(files: str, epochs: int) -> None:
    torch.manual_seed(1)
    chunks = functools.partial(split_chunks, files, SCHEMA, FRACTIONS, "train")
    encoding = hepgan.Encoding.fit_stream(chunks, SCHEMA, hepgan.EncodingSettings(STEPS), seed=1)
    encode = functools.partial(encoding.encode, seed=1)
    train, test = (
        hepgan.StreamingLoader(
            files, SCHEMA, encode, batch_size=128, seed=1, part=(name, FRACTIONS)
        )
        for name in FRACTIONS
    )
    size = encoding.features
    net = torch.nn.Sequential(torch.nn.Linear(size, 16), torch.nn.Tanh(), torch.nn.Linear(16, size))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for x, _ in train:
            loss = (net(x) - x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses = [(net(x) - x).square().mean() for x, _ in test]
        print(f"epoch {epoch}: test loss {torch.stack(losses).mean():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["sample:showers.root"], int((sys.argv[2:] or ["3"])[0]))
