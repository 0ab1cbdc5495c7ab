"""Rounding in sequence on pretrained networks: how strongly the weights are held where they were, and where the mean is kept.

    python benchmarks/real/sequence.py [efficientnet] [minilm] [--widths 8 4] [--out benchmarks/real/sequence.json]

Uniform widths, 8-bit activations, default recipe, calibrated as the network's script says. `as searched` is rounded for the inputs of the float network;
each other row is rounded in sequence, with its damping (share of the mean energy of an input) and with the mean kept of the layer's own output or of what
lies behind its activation function. Judged by the script's function on its search data; test data are not touched. The distance is the root mean square
difference of EfficientNet's outputs from float, relative to float's, and one minus the mean cosine for MiniLM. Figures are kept as they come.
"""
import argparse, importlib, json, sys, time
from pathlib import Path
from quantnb.all import *
from quantnb.quant.gptq import Gptq
from quantnb.run.history import environment

HERE = Path(__file__).resolve().parent; sys.path[:0] = [str(HERE)]
DAMPINGS, WAYS = (.01, .3, 1.), ('output', 'behind')


def scores(module, net):
    r = module.evaluate(net)
    return dict(score=float(r['spearman' if 'spearman' in r else 'agreement']), distance=float(r['rms_error'] if 'rms_error' in r else 1-r['cosine']))


def measure(name, widths, known, keep):
    m = importlib.import_module(name); net = m.get_model(); x = m.get_inputs(); x = x if isinstance(x, tuple) else (x,)
    e = OrtEngine(net, select(read_graph(net, x)), x, recipe=Recipe()); e.calibrate(m.calibrate); walk = Walk(e.builder); behind = Walk.shifted
    def note(key, strategy, **more):
        known[key] = dict(scores(m, e.net(strategy)), **more); e.deployed.sessions.clear(); print(name, key, known[key], flush=True); keep()
    for w in widths:
        s = Strategy.uniform([l.path for l in e.graph.quantizable], w, 8)
        if f'{w} bits, as searched' not in known: note(f'{w} bits, as searched', s)
        for way in WAYS:
            for d in DAMPINGS:
                if (key := f'{w} bits, damping {d:g}, mean of {way}') in known: continue
                Walk.shifted = behind if way=='behind' else lambda self, s, xs, ys, grid, plain: plain
                t = time.perf_counter(); own = sequential(e.builder, s, method=Gptq(damping=d), walk=walk); Walk.shifted = behind
                note(key, own, seconds=round(time.perf_counter()-t, 1), rows=walk.rows); e.builder.drop(own.own); e.quantizer.drop(own.own)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('networks', nargs='*', default=['efficientnet', 'minilm']); p.add_argument('--widths', nargs='*', type=int, default=[8, 4]); p.add_argument('--out', type=Path, default=HERE/'sequence.json')
    a = p.parse_args(); r = json.loads(a.out.read_text()) if a.out.is_file() else {}; r['environment'] = environment()
    for n in a.networks or ['efficientnet', 'minilm']: measure(n, a.widths, r.setdefault(n, {}), lambda: a.out.write_text(json.dumps(r, indent=1)+'\n'))


if __name__ == '__main__': main()
