"""Scenes of 1 to 4 Fashion-MNIST items on a grid of 2x2 cells, and the four inputs of the network.

A canvas has 64x64 pixels, a cell 32x32, an item 28x28 in the middle of its cell; the canvas is cut into 16 patches of 16x16.
Row 0 of `img_feat` is empty (the network's summary of the picture), rows 1 to 16 are the patches in reading order.
"""
from functools import lru_cache

import numpy as np

from .grammar import captions, decode, encode

CELL, ITEM, GRID = 32, 28, 2
SIDE = CELL*GRID
MEAN, STD = .2860, .3530  # of Fashion-MNIST's training images, pixels scaled to [0,1]
PARTS = ('calib', 'search', 'confirm', 'test')


def layout(n, rng,
           sizes=(1, 4)): # smallest and largest number of items
    "Cells of `n` scenes as bool [n,4]: each number of items equally often, any cells."
    rank = rng.random((n, 4)).argsort(1)
    return rank < rng.integers(sizes[0], sizes[1] + 1, n)[:, None]


def render(items,  # uint8 [M,28,28], of all scenes one after the other
           cells): # bool [N,4], M of them True
    "Canvases uint8 [N,64,64]."
    canvas = np.zeros((len(cells), SIDE, SIDE), np.uint8)
    scene, cell = np.nonzero(cells)
    y, x = (cell//GRID*CELL)[:, None, None], (cell % GRID*CELL)[:, None, None]
    span = np.arange(ITEM) + (CELL - ITEM)//2
    canvas[scene[:, None, None], y + span[:, None], x + span] = items
    return canvas


def inputs(canvas,         # uint8 [N,64,64]
           patch_size=16):
    "`img_feat` f32 [N,P,patch²], `img_pos_feat` i32 [1,P], `attention_mask` i32 [N,P], `gather_index` i32 [N,P]; P = 1 + patches."
    n, k = len(canvas), SIDE//patch_size
    p = canvas.reshape(n, k, patch_size, k, patch_size).transpose(0, 1, 3, 2, 4).reshape(n, k*k, patch_size**2)
    feat = np.zeros((n, k*k + 1, patch_size**2), np.float32)
    feat[:, 1:] = (p.astype(np.float32)/255 - MEAN)/STD
    keep = np.concatenate([np.ones((n, 1), bool), p.any(2)], 1)  # patches with nothing in them are left out
    order = np.argsort(~keep, 1, kind='stable')
    mask = np.take_along_axis(keep, order, 1)
    return feat, np.arange(k*k + 1, dtype=np.int32)[None], mask.astype(np.int32), (order*mask).astype(np.int32)


class Scenes:
    "Scenes of one part of the shipped data."
    def __init__(self, items, labels, cells):
        self.canvas = render(items, cells)
        at = np.full(cells.shape, -1); at[cells] = labels
        self.scenes = [{c: int(k) for c, k in enumerate(row) if k >= 0} for row in at]
    def __len__(self): return len(self.scenes)
    def references(self, lang): return [captions(s, lang) for s in self.scenes]
    def texts(self, lang): return [[decode(encode(r), lang) for r in rs] for rs in self.references(lang)]  # the same as the network's captions are written
    def batches(self, size, patch_size=16): # -> four arrays each; the last batch may be smaller
        for i in range(0, len(self), size): yield inputs(self.canvas[i:i+size], patch_size)


@lru_cache(maxsize=8)
def load(file, # caption.npz
         part, # one of `PARTS`
         n=None): # scenes from the first on; all if None
    "Scenes of one part, rendered again from the items that ship."
    with np.load(file) as z: x, y, cells = (z[f'{part}_{k}'] for k in ('items', 'labels', 'cells'))
    m = int(cells[:n].sum())
    return Scenes(x[:m], y[:m], cells[:n])
