"""Split Fashion-MNIST's items and write the scenes that ship, `caption.npz`.

calib, search and confirm are made of items held out of the official training set, test of items of the official test set;
no item is in two parts or twice in one. The rest of the training set is what `train.py` makes its scenes of.
"""
import argparse, gzip
from pathlib import Path

import numpy as np

from src.data.scenes import layout

DATA = '/usr/share/datasets/fashion-mnist'  # Debian's package dataset-fashion-mnist
SIZES = dict(calib=256, search=300, confirm=300, test=500)  # scenes
HELD_OUT, SEED = 4000, 2018  # items of the training set that `train.py` never sees


def read_idx(file):
    "The uint8 array of a gzipped idx file."
    raw = gzip.decompress(Path(file).read_bytes())
    if raw[:3] != b'\0\0\x08': raise ValueError(f'{file}: no idx file of unsigned bytes')
    ndim = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4 + 4*ndim).reshape(np.frombuffer(raw, '>i4', ndim, 4))


def split(data=DATA):
    "`{part: (images uint8 [N,28,28], labels uint8 [N])}` of train, held_out (both from 60000) and test (10000)."
    (x, y), (tx, ty) = (tuple(read_idx(Path(data)/f'{name}-{kind}-ubyte.gz') for kind in ('images-idx3', 'labels-idx1')) for name in ('train', 't10k'))
    i = np.random.default_rng(SEED).permutation(len(x))
    return dict(train=(x[i[HELD_OUT:]], y[i[HELD_OUT:]]), held_out=(x[i[:HELD_OUT]], y[i[:HELD_OUT]]), test=(tx, ty))


def kinds(cells, rng):
    "Kinds of the items of scenes, one scene after the other; every second one that is not the first is of the kind before it."
    scene = np.nonzero(cells)[0]
    k, again = rng.integers(0, 10, len(scene)), rng.random(len(scene)) < .5
    for i in range(1, len(scene)):
        if again[i] and scene[i] == scene[i-1]: k[i] = k[i-1]
    return k


class Pool:
    "Items by kind, each handed out once before any is handed out again."
    def __init__(self, labels, rng): self.at, self.rng, self.left = [np.flatnonzero(labels == k) for k in range(10)], rng, [[] for _ in range(10)]
    def __call__(self, kinds):
        res = np.empty(len(kinds), np.int64)
        for i, k in enumerate(kinds):
            if not len(self.left[k]): self.left[k] = self.rng.permutation(self.at[k]).tolist()
            res[i] = self.left[k].pop()
        return res


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--data', default=DATA, help='folder of the four idx files')
    p.add_argument('--out', default=Path(__file__).resolve().parent, type=Path, help='folder for caption.npz')
    args = p.parse_args()
    parts, rng, ship = split(args.data), np.random.default_rng(SEED), {}
    pools = {name: Pool(parts[name][1], rng) for name in ('held_out', 'test')}
    for part, n in SIZES.items():
        source = 'test' if part == 'test' else 'held_out'
        cells = layout(n, rng)
        items = pools[source](kinds(cells, rng))
        if len(set(items)) < len(items): raise ValueError(f'{part} needs more items than there are')
        ship |= {f'{part}_items': parts[source][0][items], f'{part}_labels': parts[source][1][items], f'{part}_cells': cells,
                 f'{part}_index': items.astype(np.uint16)}
    used = np.concatenate([ship[f'{part}_index'] for part in SIZES if part != 'test'])
    if len(set(used)) < len(used): raise ValueError('an item is in two parts: hold out more')
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out/'caption.npz'
    np.savez_compressed(file, **ship)
    print(f'{file.name}: {file.stat().st_size} bytes, {({k: len(ship[f"{k}_items"]) for k in SIZES})} items')
