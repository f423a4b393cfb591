"""Data: ROOT files, schemas, encodings, loaders and converters. The only package that imports uproot and h5py."""
