"""What a rounding is worth: weights of 4, 3 and 2 bits, and both at 4 bits, on the networks of `quantizer_nets.py`.

    python benchmarks/rounding.py [--nets fashion resnet14 mobilenet vit] [--seeds 3] [--out benchmarks/rounding.json]
    python benchmarks/rounding.py --export FOLDER     # weights, calibration and test images for `rounding_reference.py`

Uniform widths, no layer left float, no search. For each seed another 384 of the example's 512 calibration images; accuracy on its
6000 images that no network was trained or calibrated on. Each figure is kept as soon as it is measured; a second run goes on."""
import argparse, json, sys, time
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms
from quantnb.all import *
from quantnb.run.history import environment

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
import quantizer_nets as zoo
from quantizer_nets import fashion

RECIPES = {'nearest':Recipe(rounding='nearest', bias='none'), 'nearest, bias':Recipe(rounding='nearest'), 'GPTQ, bias':Recipe(rounding=dict(type='gptq', sweeps=0)), 'GPTQ, sweeps, bias':Recipe()}
WIDTHS = ((4,32),(3,32),(2,32),(4,4))

def data(): return [np.concatenate(o) for o in zip(*(fashion.images({}, p) for p in ('search','confirm','test')))]

def calibration(seed): c = fashion.images({}, 'calib')[0]; return c[np.random.default_rng(seed).permutation(len(c))[:384]]

def export(folder, names, seeds):
    "What another library needs to do the same."
    folder.mkdir(parents=True, exist_ok=True); x,y = data(); np.savez(folder/'data.npz', x=x, y=y, **{f'calib{k}':calibration(k) for k in range(seeds)})
    for n in names: np.savez(folder/f'{n}.npz', **{p.name:p.asnumpy() for p in zoo.load(n).get_parameters()})

def measure(name, seed, x, y, known, keep):
    "Accuracies of one network and one choice of calibration images, by recipe and widths."
    net,c = zoo.load(name),calibration(seed); i = (ms.Tensor(c[:1]),)
    for recipe,r in RECIPES.items():
        todo = [w for w in WIDTHS for k in (recipe, 'in sequence') if f'W{w[0]}A{w[1]}' not in known.get(k, {}) and (k==recipe or recipe=='GPTQ, sweeps, bias')]
        if not todo: continue
        e = OrtEngine(net, select(read_graph(net, i)), i, recipe=r); t = time.perf_counter(); e.calibrate(lambda m: [m(ms.Tensor(c[k:k+64])) for k in range(0, len(c), 64)]); ps = [l.path for l in e.graph.quantizable]
        for p in ps:
            for w,_ in WIDTHS: e.quantizer.weight(p, w)
        known.setdefault('seconds', {})[recipe] = time.perf_counter()-t
        if 'float' not in known: known['float'] = fashion.accuracy(e.net(None), x, y)
        for w,a in dict.fromkeys(todo):
            s = Strategy.uniform(ps, w, a); known.setdefault(recipe, {})[f'W{w}A{a}'] = fashion.accuracy(e.net(s), x, y)
            if recipe=='GPTQ, sweeps, bias':
                t = time.perf_counter(); own = sequential(e.builder, s); known['seconds'][f'in sequence, W{w}A{a}'] = time.perf_counter()-t
                known.setdefault('in sequence', {})[f'W{w}A{a}'] = fashion.accuracy(e.net(own), x, y); e.builder.drop(own.own); e.quantizer.drop(own.own)
            e.deployed.sessions.clear(); print(name, seed, recipe, w, a, {k:v.get(f'W{w}A{a}') for k,v in known.items() if isinstance(v, dict) and k!='seconds'}, flush=True); keep()

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--nets', nargs='*', default=['fashion','resnet14','mobilenet','vit']); p.add_argument('--seeds', type=int, default=3); p.add_argument('--export', type=Path); p.add_argument('--out', type=Path, default=here/'rounding.json')
    a = p.parse_args()
    if a.export: export(a.export, a.nets, a.seeds); raise SystemExit
    r = json.loads(a.out.read_text()) if a.out.exists() else {}; x,y = data()
    r['environment'] = environment()
    def keep(): write_atomic(a.out, json.dumps(r, indent=1)+'\n')
    for n in a.nets:
        for s in range(a.seeds): measure(n, s, x, y, r.setdefault('nets', {}).setdefault(n, {}).setdefault(str(s), {}), keep); keep()
