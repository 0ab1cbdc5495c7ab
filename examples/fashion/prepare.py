"""Split Fashion-MNIST and write the part that ships, `fashion.npz`.

calib, search and confirm are held out of the official training set, test is drawn from the official test set; the split
has a seed of its own, so that no training seed ever trains on a shipped image.
"""
import argparse, gzip
from pathlib import Path

import numpy as np

DATA = '/usr/share/datasets/fashion-mnist'  # Debian's package dataset-fashion-mnist
SIZES = dict(calib=512, search=2000, confirm=2000)
TEST, SPLIT_SEED = 2000, 2017


def read_idx(file):
    "The uint8 array of a gzipped idx file."
    raw = gzip.decompress(Path(file).read_bytes())
    if raw[:3] != b'\0\0\x08': raise ValueError(f'{file}: no idx file of unsigned bytes')
    ndim = raw[3]
    shape = np.frombuffer(raw, '>i4', ndim, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4*ndim).reshape(shape)


def official(data, name): # folder of the idx files; 'train' or 't10k'
    "Images uint8 [N,28,28] and labels uint8 [N] of an official set."
    return tuple(read_idx(Path(data)/f'{name}-{kind}-ubyte.gz') for kind in ('images-idx3', 'labels-idx1'))


def split(data=DATA):
    "`{part: (images, labels)}`, disjoint: calib, search, confirm, train (the rest) from 60000; test and official from 10000."
    rng = np.random.default_rng(SPLIT_SEED)
    (x, y), (tx, ty) = official(data, 'train'), official(data, 't10k')
    cuts = np.split(rng.permutation(len(x)), np.cumsum(list(SIZES.values())))
    parts = {part: (x[i], y[i]) for part, i in zip([*SIZES, 'train'], cuts)}
    i = rng.permutation(len(tx))[:TEST]
    return parts | dict(test=(tx[i], ty[i]), official=(tx, ty))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--data', default=DATA, help='folder of the four idx files')
    p.add_argument('--out', default=Path(__file__).resolve().parent, type=Path, help='folder for fashion.npz')
    args = p.parse_args()
    parts = split(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out/'fashion.npz'
    np.savez_compressed(file, **{f'{part}_{k}': a for part in [*SIZES, 'test'] for k, a in zip('xy', parts[part])})
    print(f'{file.name}: {file.stat().st_size} bytes')
