"""What the quantizer's methods are worth; each part is kept as soon as it is measured, and a second run goes on where the first ended.

    python benchmarks/quantizer.py [--part planted ranges] [--nets resnet14 mobilenet fashion vit] [--draws 10] [--out benchmarks/quantizer.json]

*planted*: random channels of random convolution pairs are scaled by 32 to 256, and scaled back where they are read. The
network computes what it computed before, and its grids suffer. Uniform W8A8 without a search, without a layer left float and
without an evaluation, by the recipes (fold), (fold, equalize). In the transformer the gain and shift of random channels of random layer norms
are scaled, and the columns that read them scaled back; its recipes are (fold), (fold, smooth). Calibrated on the example's 512 calibration images;
`test` are its 2000 test images, `all` the 6000 that no network was trained or calibrated on.

*ranges*: every range estimator, weights of 8 bits, activations of 8 and of 4."""
import argparse, json, sys, tempfile, time
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms
from quantnb.all import *
from quantnb.run.history import environment

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
import quantizer_nets as zoo
from quantizer_nets import fashion

RECIPES = {'fold':('fold',), 'fold, equalize':('fold','equalize')}; NORM_RECIPES = {'fold':('fold',), 'fold, smooth':('fold','smooth')}
def recipes(name): return NORM_RECIPES if name=='vit' else RECIPES
PARTS = ('search','confirm','test')

def pairs(graph):
    "(batch norm that ends the first convolution, operator between or '', second convolution), where nothing else reads the channels."
    by_node = {i:l for l in graph.layers for i in l.nodes}
    for n in graph.nodes:
        if n.op!='BatchNormalization' or getattr(graph.producer(n.ins[0]), 'op', '')!='Conv': continue
        us = graph.users[n.outs[0]]; op = us[0].origin if len(us)==1 and us[0].origin in ('ReLU','ReLU6') else ''
        if op: us = graph.users[us[0].outs[0]]
        if len(us)==1 and us[0].op=='Conv': yield n,op,by_node[us[0].id]

def plant(net, graph, rng, top, low=32, high=256):
    """Scale random channels of random pairs in the network's Parameters; a list of (pair, operator, channels, factors).

    Between two convolutions with a ReLU or nothing the channel is multiplied: its batch norm's gain and shift, which folding
    turns into the first convolution's rows, and the second convolution's weights are divided. A ReLU6 limits what a factor may
    do: the channel is divided, and only one that stays below 6 on every image (`top`) is taken, as its limit would have to move, too."""
    ps = {p.name:p for p in net.get_parameters()}; found = list(pairs(graph)); hit = [rng.random()<.5 for _ in found]
    if not any(hit): hit[rng.integers(len(found))] = True
    done = []
    for (n,op,l),h in zip(found, hit):
        gamma,beta = ps[n.ins[1]].asnumpy(),ps[n.ins[2]].asnumpy(); c = len(gamma)
        if not h: continue
        ok = np.flatnonzero(top[n.ins[1]]<6) if op=='ReLU6' else np.arange(c)
        if not len(ok): continue
        at = rng.choice(ok, min(len(ok), max(1, rng.binomial(c, 1/8))), replace=False); s = np.ones(c); s[at] = np.exp(rng.uniform(np.log(low), np.log(high), len(at)))
        if op=='ReLU6': s = 1/s
        w = ps[l.param].asnumpy(); back = s.reshape((-1,1,1,1) if l.depthwise else (1,-1,1,1))
        for p,v in ((n.ins[1], gamma*s),(n.ins[2], beta*s),(l.param, w/back)): ps[p].set_data(ms.Tensor(v.astype(np.float32)))
        done.append(dict(norm=n.ins[1], op=op, reader=l.path, depthwise=l.depthwise, channels=at.tolist(), factors=s[at].round(5).tolist()))
    return done

def plant_norms(net, rng, low=32, high=256):
    "Scale gain and shift of random channels of random layer norms of the transformer, and the columns that read them back."
    ps = {p.name:p for p in net.get_parameters()}; found = [(k[:-6], r) for k in ps if k.endswith('.gamma') for r in [k.replace('n1.gamma', 'att.qkv.weight').replace('n2.gamma', 'up.weight').replace('norm.gamma', 'head.weight')]]; hit = [rng.random()<.5 for _ in found]
    if not any(hit): hit[rng.integers(len(found))] = True
    done = []
    for (n,reader),h in zip(found, hit):
        if not h: continue
        c = len(ps[f'{n}.gamma'].asnumpy()); at = rng.choice(c, max(1, rng.binomial(c, 1/8)), replace=False); s = np.ones(c); s[at] = np.exp(rng.uniform(np.log(low), np.log(high), len(at)))
        for p,f in ((f'{n}.gamma', s),(f'{n}.beta', s),(reader, 1/s)): ps[p].set_data(ms.Tensor((ps[p].asnumpy()*f).astype(np.float32)))
        done.append(dict(norm=n, reader=reader, channels=at.tolist(), factors=s[at].round(5).tolist()))
    return done

def damaged(name, draw, top):
    "(network with planted damage, what was scaled)."
    net,rng = zoo.load(name),np.random.default_rng([int(draw), len(name)])
    return net,plant_norms(net, rng) if name=='vit' else plant(net, read_graph(net, (ms.Tensor(fashion.images({}, 'calib')[0][:2]),)), rng, top)

def peaks(net, images):
    "Largest output of each channel of every batch norm over all images, by the name of its gain."
    seen,hooks = {},[]
    for _,c in net.cells_and_names():
        if isinstance(c, ms.nn.BatchNorm2d): hooks.append(c.register_forward_hook(lambda c, i, o: seen.__setitem__(c.gamma.name, np.maximum(seen.get(c.gamma.name, -np.inf), o.asnumpy().max((0,2,3))))))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        for b in fashion.batches(images, 250): net(b)
    finally:
        for h in hooks: h.remove()
        ms.set_context(mode=ms.GRAPH_MODE)
    return seen

def answers(net, x): return np.concatenate([net(b).asnumpy() for b in fashion.batches(x, 250)])

def accuracies(logits, labels):
    "Percent on the test images and on all."
    ok = logits.argmax(1)==labels; n = len(fashion.images({}, 'test')[1])
    return dict(test=100*float(ok[-n:].mean()), all=100*float(ok.mean()))

def quantized(net, transforms, x, y, own, simulated=False):
    "Uniform W8A8 of a network whose outputs are `own`: accuracies, and how far the transformed float network is from them."
    start = time.time(); calib = fashion.images({}, 'calib')[0]
    task = Task(net=net, inputs=ms.Tensor(calib[:2]), calib=lambda m: [m(b) for b in fashion.batches(calib, 128)], evaluate=lambda m: float(m(ms.Tensor(calib[:1])).asnumpy().mean()), bits=[8], act_bits=[8], quant=dict(transforms=list(transforms)), local_base_path=tempfile.mkdtemp())
    e = open_engine(task); s = Strategy.uniform([l.path for l in e.graph.quantizable], 8, 8); ready = time.time()-start
    left = [l.path for l in e.graph.layers if l.path not in s]; f = answers(e.net(None), x)
    res = dict(engine=e.name, **accuracies(answers(e.net(s), x), y), float_difference=float(np.abs(f-own).max()/np.abs(own).max()), seconds=ready, layers=len(s), left_float=left)
    if simulated: n = len(fashion.images({}, 'test')[1]); res['simulation'] = float((answers(e.simulation.net(s), x[-n:]).argmax(1)==y[-n:]).mean()*100) # in MindSpore, on the test images
    for t in e.quantizer.scaled: res['groups'] = [len(t.report), sum(r['kept'] for r in t.report)]
    return res

def planted(results, save, nets, draws):
    x,y = (np.concatenate(o) for o in zip(*[fashion.images({}, p) for p in PARTS]))
    for name in nets:
        r = results.setdefault('planted', {}).setdefault(name, dict(draws={})); todo = recipes(name)
        own = answers(zoo.load(name), x); r['float'] = accuracies(own, y)
        for k,ts in todo.items():
            if k not in r.setdefault('as trained', {}): r['as trained'][k] = quantized(zoo.load(name), ts, x, y, own, True); save(); print(name, 'as trained', k, r['as trained'][k], flush=True)
        if all(k in r['draws'].get(str(d), {}) for d in range(draws) for k in todo): continue
        top = peaks(zoo.load(name), np.concatenate([fashion.images({}, 'calib')[0], x]))
        for d in map(str, range(draws)):
            t = r['draws'].setdefault(d, {})
            if all(k in t for k in todo): continue
            net,t['planted'] = damaged(name, d, top); now = answers(net, x); t['function'] = float(np.abs(now-own).max()/np.abs(own).max()); t['float'] = accuracies(now, y)
            for k,ts in todo.items():
                if k not in t: t[k] = quantized(net, ts, x, y, now, d=='0'); save()
            print(name, d, f"function {t['function']:.1e}", {k: (t[k]['test'], round(t[k]['all'], 2)) for k in ('float',*todo)}, flush=True)

RANGES = ('minmax','mse','trimmed','percentile','ema','kl','ifmr','auto')

def by_range(results, save, nets):
    "Each range estimator from one calibration: divergence on the calibration inputs and accuracy on the test images, activations of 8 and 4 bits, weights of 8."
    from quantnb.deploy.facade import Deployed
    calib,(x,y) = fashion.images({}, 'calib')[0],fashion.images({}, 'test')
    for name in nets:
        r = results.setdefault('ranges', {}).setdefault(name, {})
        if all(k in r for k in RANGES): continue
        task = Task(net=zoo.load(name), inputs=ms.Tensor(calib[:2]), calib=lambda m: [m(b) for b in fashion.batches(calib, 128)], evaluate=lambda m: 0., bits=[8], act_bits=[4,8], quant=dict(ranges='auto'), local_base_path=tempfile.mkdtemp())
        e = open_engine(task); q = e.quantizer; ps = [l.path for l in e.graph.quantizable]; seen,inputs = q.observers,q.inputs
        for k in RANGES:
            if k in r: continue
            f = ranges[k]; f = f() if isinstance(f, type) else f
            for p in ps: q.methods[p] = {**q.methods[p], 'ranges':f}
            q.calibrated(seen, inputs); e.deployed = Deployed(e.like, q, e.inputs, e.names, meter=e.meter, answer=e.sim.first); start = time.time(); [q.act(p, a) for p in ps for a in (4, 8)]
            r[k] = dict(seconds=time.time()-start, **{f'W8A{a}':dict(divergence=e.divergence_of(s := Strategy.uniform(ps, 8, a)), test=100*float((answers(e.net(s), x).argmax(1)==y).mean())) for a in (8, 4)})
            save(); print(name, k, r[k], flush=True)

def summary(r):
    "Points lost against the float network: mean and worst over the draws."
    rows = []
    for name,n in r.get('planted', {}).items():
        for k in recipes(name):
            for part in ('test','all'):
                lost = [t['float'][part]-t[k][part] for t in n['draws'].values() if k in t]
                if lost: rows.append(dict(network=name, recipe=k, images=part, draws=len(lost), float=n['float'][part], unplanted=n['float'][part]-n['as trained'][k][part], mean=float(np.mean(lost)), worst=max(lost)))
    return rows

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--part', nargs='*', default=['planted'], choices=['planted','ranges']); p.add_argument('--nets', nargs='*', default=['resnet14','mobilenet','fashion','vit'])
    p.add_argument('--draws', type=int, default=10); p.add_argument('--out', type=Path, default=here/'quantizer.json'); a = p.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE); results = json.loads(a.out.read_text()) if a.out.exists() else {}
    results['environment'] = environment()
    def save(): write_atomic(a.out, json.dumps(clean(results), indent=1)+'\n')
    if 'planted' in a.part: planted(results, save, a.nets, a.draws)
    if 'ranges' in a.part: by_range(results, save, a.nets)
    save()
    for row in summary(results): print({k: round(v, 2) if isinstance(v, float) else v for k,v in row.items()})
