"""ROOT and arrays: files, schema, encoding, loader, converters. The only room that imports uproot and h5py."""
