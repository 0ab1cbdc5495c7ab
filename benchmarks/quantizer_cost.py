"""What the presets of the quantizer cost on the example's network: calibration on 512 images and all its weights and grids at 2, 3, 4, 6 and 8 bits. And what the sensitivities of a search cost: every layer alone at 2, 3, 4 and 6 bits, the weights rounded before.

    python benchmarks/quantizer_cost.py [--parts presets sensitivities] [--out benchmarks/quantizer_cost.json]

In float evaluations of the example's 2000 search images. Both are CPU seconds of the process, as the machine may be shared; the presets run one after the
other, so `peak_mb` is the most that the process has held so far."""
import argparse, json, sys, time
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms
from quantnb.all import *
from quantnb.quant.recipe import PRESETS
from quantnb.rows import peak
from quantnb.run.history import environment

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
import quantizer_nets as zoo
from quantizer_nets import fashion

WIDTHS = (2,3,4,6,8)

def opened(name, recipe, c):
    "(engine, layer paths, CPU seconds): calibrated on `c`, with all weights and grids made."
    i = (ms.Tensor(c[:1]),); net = zoo.load(name); e = OrtEngine(net, select(read_graph(net, i)), i, recipe=recipe); start = time.process_time(); e.calibrate(lambda m: [m(ms.Tensor(c[k:k+64])) for k in range(0, len(c), 64)]); ps = [l.path for l in e.graph.quantizable]
    for p in ps:
        for w in WIDTHS: e.quantizer.weight(p, w); e.quantizer.act(p, w)
    return e,ps,time.process_time()-start

def cost(known, keep):
    calib,(x,y) = fashion.images({}, 'calib')[0],fashion.images({}, 'search')
    for k,p in PRESETS.items():
        e,ps,took = opened('fashion', Recipe(transforms=p['transforms'], rounding=p['rounding']), calib); one = evaluation(e, x, y)
        known[k] = dict(seconds=took, float_evaluation=one, evaluations=took/one, layers=len(ps), peak_mb=peak()/1e6, weights_mb=sum(v.nbytes for v in e.quantizer.params.values())/1e6); print(k, known[k], flush=True); keep()

def evaluation(e, x, y):
    "CPU seconds of a float evaluation, the median of three."
    runs = []
    for _ in range(3): t = time.process_time(); fashion.accuracy(e.net(None), x, y); runs.append(time.process_time()-t)
    return float(np.median(runs))

def sensing(known):
    calib,(x,y) = fashion.images({}, 'calib')[0],fashion.images({}, 'search')
    for name in ('fashion','mobilenet','resnet14','vit'):
        e,ps,_ = opened(name, Recipe(), calib); one = evaluation(e, x, y); t = time.process_time(); table = sensitivities(e.builder, [Bits(w,8) for w in (2,3,4,6)], workers=1); took = time.process_time()-t
        known[name] = dict(layers=len(ps), widths=4, divergences=len(table.table), seconds=took, float_evaluation=one, evaluations=took/one, of_20_layers=20/len(ps)*took/one); print(name, known[name], flush=True)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--parts', nargs='*', default=['presets','sensitivities'], choices=['presets','sensitivities']); p.add_argument('--out', type=Path, default=here/'quantizer_cost.json'); a = p.parse_args()
    r = json.loads(a.out.read_text()) if a.out.exists() else {}; r['environment'] = environment(); keep = lambda: a.out.write_text(json.dumps(r, indent=1)+'\n')
    if 'presets' in a.parts: cost(r.setdefault('cost', {}), keep)
    if 'sensitivities' in a.parts: sensing(r.setdefault('sensitivities', {})); keep()
