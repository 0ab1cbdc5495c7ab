"""What each method of the default recipe gains: the recipe without it, or with one that it leaves out, uniform W8A8, W4A8 and W3A32, on the networks of `quantizer_nets.py` as trained and with planted damage.

    python benchmarks/quantizer_ablation.py [--nets fashion resnet14 mobilenet vit] [--seeds 1] [--recipes default …] [--out benchmarks/quantizer_ablation.json]

Images, draws of calibration images and resuming as in `rounding.py`; the damage is the first draw of `quantizer.py`, where only the transforms are left out or added.
Norms are fitted again on the transformer, the one network that has some left after folding, for three draws of calibration images.
What the presets cost is in `quantizer_cost.py`."""
import argparse, json, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms
from quantnb.all import *
from quantnb.quant.recipe import PRESETS
from quantnb.run.history import environment

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
from rounding import calibration, data, fashion, zoo
from quantizer import PARTS, damaged, peaks

FULL = Recipe(transforms=PRESETS['default']['transforms'], rounding=PRESETS['default']['rounding'])
WITHOUT = {'default':FULL, **{f'without {t}':replace(FULL, transforms=tuple(o for o in FULL.transforms if o!=t)) for t in FULL.transforms if t!='fold'}, 'without sweeps':replace(FULL, rounding=dict(type='gptq', sweeps=0)), 'without GPTQ':replace(FULL, rounding='nearest'),
    'without bias correction':replace(FULL, bias='none'), 'ranges: minmax':replace(FULL, ranges='minmax'), 'ranges: percentile':replace(FULL, ranges='percentile'), 'ranges: auto':replace(FULL, ranges='auto'),
    'with absorb':replace(FULL, transforms=(*FULL.transforms, 'absorb'))}
WIDTHS = ((8,8),(4,8),(3,32))
NORMS = {'nearest':replace(FULL, rounding='nearest'), 'default':FULL}

def opened(net, recipe, c):
    "A calibrated engine and its layers' paths."
    i = (ms.Tensor(c[:1]),); e = OrtEngine(net, select(read_graph(net, i)), i, recipe=recipe); e.calibrate(lambda m: [m(ms.Tensor(c[k:k+64])) for k in range(0, len(c), 64)])
    return e,[l.path for l in e.graph.quantizable]

def measure(name, net, seed, x, y, known, keep, recipes, widths):
    for k,recipe in recipes.items():
        todo = [w for w in widths if f'W{w[0]}A{w[1]}' not in known.get(k, {})]
        if not todo: continue
        start = time.process_time(); e,ps = opened(net, recipe, calibration(seed)); r = known.setdefault(k, {})
        for t in e.quantizer.scaled: r.setdefault('scaled', {})[type(t).__name__] = [sum(o['kept'] for o in t.report), len(t.report)]
        if k=='with absorb': r['best left'] = min((o['after']/o['before'] for o in e.quantizer.scaled[-1].report if o['before']), default=None) # share of a layer's error
        if 'float' not in known: known['float'] = fashion.accuracy(e.net(None), x, y)
        for w,a in todo:
            s = Strategy.uniform(ps, w, a); r[f'W{w}A{a}'] = fashion.accuracy(e.net(s), x, y)
            if k=='default': own = sequential(e.builder, s); known.setdefault('in sequence', {})[f'W{w}A{a}'] = fashion.accuracy(e.net(own), x, y); e.builder.drop(own.own); e.quantizer.drop(own.own)
            e.deployed.sessions.clear()
        r['seconds'] = time.process_time()-start; print(name, seed, k, r, known.get('in sequence') if k=='default' else '', flush=True); keep()

def measure_norms(net, seed, x, y, known, keep):
    "Weights as searched, the same with norms fitted again, and weights rounded in sequence; accuracy and divergence in thousandths."
    for k,recipe in NORMS.items():
        if all(f'W{w}A{a}' in known.get(f'{k}, norms refitted', {}) for w,a in (*WIDTHS,(2,32),(4,4))): continue
        e,ps = opened(net, recipe, calibration(seed))
        for w,a in (*WIDTHS,(2,32),(4,4)):
            s = Strategy.uniform(ps, w, a); made = {k:s, f'{k}, norms refitted':with_norms(e.builder, s), **({'in sequence':sequential(e.builder, s)} if k=='default' else {})}
            for name,o in made.items():
                known.setdefault(name, {})[f'W{w}A{a}'] = dict(accuracy=fashion.accuracy(e.net(o), x, y), divergence=1e3*e.divergence_of(o), fitted=len(e.quantizer.refitted(o)))
                if o.own: e.builder.drop(o.own); e.quantizer.drop(o.own)
            e.deployed.sessions.clear(); print('norms', seed, k, w, a, {n:known[n][f'W{w}A{a}'] for n in made}, flush=True); keep()

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--nets', nargs='*', default=['fashion','resnet14','mobilenet','vit']); p.add_argument('--seeds', type=int, default=1); p.add_argument('--recipes', nargs='*', default=list(WITHOUT)); p.add_argument('--out', type=Path, default=here/'quantizer_ablation.json'); a = p.parse_args()
    r = json.loads(a.out.read_text()) if a.out.exists() else {}; r['environment'] = environment(); x,y = data(); nets = r.setdefault('nets', {})
    def keep(): write_atomic(a.out, json.dumps(r, indent=1)+'\n')
    for n in a.nets:
        for s in range(a.seeds): measure(n, zoo.load(n), s, x, y, nets.setdefault(n, {}).setdefault(str(s), {}), keep, {k:WITHOUT[k] for k in a.recipes}, WIDTHS)
        if n=='vit':
            for s in range(3): measure_norms(zoo.load(n), s, x, y, r.setdefault('norms', {}).setdefault(str(s), {}), keep)
        net,_ = damaged(n, 0, peaks(zoo.load(n), np.concatenate([fashion.images({}, 'calib')[0], x])))
        for s in range(a.seeds): measure(f'{n}, planted', net, s, x, y, nets.setdefault(f'{n}, planted', {}).setdefault(str(s), {}), keep, {k:WITHOUT[k] for k in a.recipes if k in ('default','without equalize','without smooth','with absorb')}, WIDTHS[:2])
