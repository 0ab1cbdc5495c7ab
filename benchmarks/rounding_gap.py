"""Accuracy, and how far the answers are from the float network's: weights of 4 bits by quantnb and by Brevitas, image by image.

    python benchmarks/rounding_gap.py FOLDER --of own         # in quantnb's environment; FOLDER is that of `rounding.py --export`
    python benchmarks/rounding_gap.py FOLDER --of reference   # in Brevitas' environment; [--nets vit] [--methods GPTQ] adds to what is there
    python benchmarks/rounding_gap.py FOLDER                  # compares them and writes benchmarks/rounding_gap.json

At 4 bits all methods answer almost as the float network does, and accuracies differ by a few images of 6000. The divergence from the float
network (mean of KL over the images, in thousandths) says more: on the calibration images, too, which may decide on a default."""
import argparse, json, sys
from pathlib import Path
import numpy as np

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
SEEDS,BITS = range(3),4

def own(name, data):
    "Answers of quantnb's roundings by method and seed, on the test images and on the calibration images."
    import rounding as r
    from quantnb.all import OrtEngine, Recipe, Strategy, read_graph, select, sequential
    def answers(model, x): return np.concatenate([model(r.ms.Tensor(x[k:k+250])).asnumpy() for k in range(0, len(x), 250)])
    for seed in SEEDS:
        c = data[f'calib{seed}']; net = r.zoo.load(name); i = (r.ms.Tensor(c[:1]),)
        for k,recipe in (('GPTQ, sweeps, bias',Recipe()),('nearest, bias',Recipe(rounding='nearest'))):
            e = OrtEngine(net, select(read_graph(net, i)), i, recipe=recipe); e.calibrate(lambda m: [m(r.ms.Tensor(c[k:k+64])) for k in range(0, len(c), 64)]); s = Strategy.uniform([l.path for l in e.graph.quantizable], BITS, 32)
            if seed==0 and k=='nearest, bias': yield 'float',(answers(e.net(None), data['x']),)
            for n,t in ((k,s),*([('in sequence',sequential(e.builder, s))] if k!='nearest, bias' else [])): m = e.net(t); yield f'{n}/{seed}',(answers(m, data['x']),answers(e.net(None), c),answers(m, c))

def reference(name, data):
    "The same of Brevitas' methods."
    import rounding_reference as r, torch
    torch.set_num_threads(1)
    def answers(net, x):
        with torch.no_grad(): return torch.cat([net(b) for b in r.batches(torch.tensor(x))]).numpy()
    for seed in SEEDS:
        c = data[f'calib{seed}']; calib = r.batches(torch.tensor(c), 64)
        for method in a.methods:
            for narrow in (False,True):
                net = r.load(a.folder, name)
                if name!='vit': net = r.preprocess_for_quantize(net, merge_bn=True, equalize_iters=0)
                net = r.quantized(net, BITS, narrow).eval()
                with torch.no_grad(): net(calib[0])
                r.METHODS[method](net, calib)
                with torch.no_grad(), r.bias_correction_mode(net):
                    for b in calib: net(b)
                yield f'{method}{", narrow" if narrow else ""}/{seed}',(answers(net, data['x']),answers(r.load(a.folder, name), c),answers(net, c))

def log_softmax(v): v = v.astype(np.float64); v = v-v.max(1, keepdims=True); return v-np.log(np.exp(v).sum(1, keepdims=True))
def divergence(p, q): p,q = log_softmax(p),log_softmax(q); return 1e3*float((np.exp(p)*(p-q)).sum(1).mean())

def compared(found, y):
    "Per method, means over the seeds; and the paired difference of accuracy to rounding in sequence."
    f = found['float'][0]; res,ours = {},[found[f'in sequence/{s}'][0].argmax(1)==y for s in SEEDS if f'in sequence/{s}' in found]
    for m in dict.fromkeys(k.split('/')[0] for k in found if '/' in k):
        seen = [(s, found[f'{m}/{s}']) for s in SEEDS if f'{m}/{s}' in found]; d = [(t[0].argmax(1)==y).astype(float)-ours[s] for s,t in seen]
        res[m] = dict(accuracy=[100*float((t[0].argmax(1)==y).mean()) for _,t in seen], other_answers=float(np.mean([100*(t[0].argmax(1)!=f.argmax(1)).mean() for _,t in seen])), divergence=float(np.mean([divergence(f, t[0]) for _,t in seen])),
            divergence_calibration=float(np.mean([divergence(*t[1:]) for _,t in seen])), cross_entropy=float(np.mean([-log_softmax(t[0])[np.arange(len(y)),y].mean() for _,t in seen])), ahead=100*float(np.mean(d)), standard_error=100*float(np.mean([v.std()/len(y)**.5 for v in d])))
    return dict(float=dict(accuracy=100*float((f.argmax(1)==y).mean()), cross_entropy=float(-log_softmax(f)[np.arange(len(y)),y].mean())), methods=res)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('folder', type=Path); p.add_argument('--of', choices=['own','reference']); p.add_argument('--nets', nargs='*', default=['resnet14','vit']); p.add_argument('--methods', nargs='*', default=['nearest','GPTQ','Qronos'], help="Brevitas' methods"); p.add_argument('--out', type=Path, default=here/'rounding_gap.json'); a = p.parse_args()
    data = np.load(a.folder/'data.npz'); res = {}
    for name in a.nets:
        if a.of:
            file = a.folder/f'answers_{a.of}_{name}.npz'; got = dict(np.load(file)) if file.is_file() else {}
            for k,v in (own if a.of=='own' else reference)(name, data): got |= {f'{k}|{j}':o for j,o in enumerate(v)}; print(name, k, round(100*float((v[0].argmax(1)==data['y']).mean()), 2), flush=True)
            np.savez(file, **got)
        else:
            z = {k:v for f in ('own','reference') for k,v in np.load(a.folder/f'answers_{f}_{name}.npz').items()}; found = {}
            for k,v in z.items(): found.setdefault(k.rpartition('|')[0], []).append(v)
            res[name] = compared(found, data['y'])
    if not a.of: a.out.write_text(json.dumps(res, indent=1)+'\n')
