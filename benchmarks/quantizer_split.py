"""What splitting outlier channels would gain (OCS, Zhao et al., ICML 2019): uniform 4, 3 and 2 bits, weights only, on the networks of `quantizer_nets.py`.

    python benchmarks/quantizer_split.py [--nets resnet14 vit mobilenet fashion] [--seeds 1] [--share .05] [--out benchmarks/quantizer_split.json]

A split input channel is read twice, each time with half of its weights, so that their integers add up to twice the range. The layer is not made
larger here: the sum of both integers is put in the place of the one, in whole bytes, which gives the outputs that the larger layer would give.
5 % of each layer's input channels are split, those whose weights are largest beside the others of their rows; the weights of the larger layer would take 5 % more bytes.
Images, draws of calibration images and resuming as in `rounding.py`."""
import argparse, json, math, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms
from quantnb.all import *
from quantnb.deploy.packing import STORAGE
from quantnb.quant.gptq import Gptq, damped, factor
from quantnb.quant.grid import WeightGrid, quantize_weight
from quantnb.quant.moments import as_rows
from quantnb.run.history import environment

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
from quantizer_ablation import FULL
from rounding import calibration, data, fashion, zoo

def widened(rows, taps, share): # [groups, O, k]
    "Places of the inputs of a layer whose outlier channels are read twice, and what their weights are multiplied by."
    g,o,k = rows.shape; c = k//taps; n = math.ceil(share*c) if c>1 else 0; big = np.abs(rows).reshape(g, o, c, taps).max(3); big = big/np.maximum(big.max(2, keepdims=True), 1e-30)
    some = np.argsort(-(big**4).sum((0,1)))[:n]; again = np.concatenate([np.arange(s*taps, (s+1)*taps) for s in some]) if n else np.zeros(0, int)
    half = np.ones(k); half[again] = .5
    return np.concatenate([np.arange(k), again]),np.concatenate([half, half[again]]).astype(np.float32)

class Split(Gptq):
    "GPTQ with coordinate descent, or nearest, on the larger layer; the integers of both halves are added."
    def __init__(self, share=0., nearest=False): super().__init__(); self.share,self.nearest = share,nearest
    def rounded(self, w, bits, axis, H, order, U, group=0):
        rows = as_rows(w, axis, len(H)); k = rows.shape[-1]; at,half = widened(rows, math.prod(w.shape[2:]), self.share); r = np.ascontiguousarray(rows[...,at]*half)
        if len(at)>k: H = damped(np.ascontiguousarray(H[:,at][:,:,at])); order,U = factor(H)
        if self.nearest: grid = quantize_weight(r.reshape(-1, len(at)), bits)
        else: grid = super().rounded(r.reshape(-1, len(at)), bits, 0, H, order, U)
        q = grid.q.reshape(r.shape).astype(np.int32); both = q[...,:k].copy(); np.add.at(both, (..., at[k:]), q[...,k:])
        sh = w.shape; return WeightGrid(np.ascontiguousarray(np.moveaxis(both.astype(np.int8).reshape((sh[axis],*sh[:axis],*sh[axis+1:])), 0, axis)), grid.scale.ravel(), axis, bits)

def measure(name, seed, share, x, y, known, keep):
    net,c = zoo.load(name),calibration(seed); i = (ms.Tensor(c[:1]),)
    for k,options in {'nearest':dict(nearest=True), 'nearest, split':dict(nearest=True, share=share), 'GPTQ':{}, 'GPTQ, split':dict(share=share)}.items():
        if all(f'W{w}' in known.get(f'{k}, in sequence' if 'GPTQ' in k else k, {}) for w in (4,3,2)): continue
        roundings.register('split')(Split); e = OrtEngine(net, select(read_graph(net, i)), i, recipe=replace(FULL, rounding=dict(type='split', **options))); e.storage = STORAGE['int8'] # both halves take more than the bits of one
        e.calibrate(lambda m: [m(ms.Tensor(c[a:a+64])) for a in range(0, len(c), 64)]); ps = [l.path for l in e.graph.quantizable]
        for w in (4,3,2):
            s = Strategy.uniform(ps, w, 32); known.setdefault(k, {})[f'W{w}'] = fashion.accuracy(e.net(s), x, y)
            if 'GPTQ' in k: own = sequential(e.builder, s, method=Split(**options)); known.setdefault(f'{k}, in sequence', {})[f'W{w}'] = fashion.accuracy(e.net(own), x, y); e.builder.drop(own.own); e.quantizer.drop(own.own)
            e.deployed.sessions.clear()
        print(name, seed, k, known[k], known.get(f'{k}, in sequence', ''), flush=True); keep()

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--nets', nargs='*', default=['resnet14','vit','mobilenet','fashion']); p.add_argument('--seeds', type=int, default=1); p.add_argument('--share', type=float, default=.05); p.add_argument('--out', type=Path, default=here/'quantizer_split.json'); a = p.parse_args()
    r = json.loads(a.out.read_text()) if a.out.exists() else {}; r['environment'] = environment(); x,y = data()
    def keep(): write_atomic(a.out, json.dumps(r, indent=1)+'\n')
    for n in a.nets:
        for s in range(a.seeds): measure(n, s, a.share, x, y, r.setdefault('nets', {}).setdefault(n, {}).setdefault(str(s), {}), keep)
