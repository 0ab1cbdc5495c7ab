"""Speed, agreement and memory of the fast engine, on three networks, as ratios measured side by side.

    python benchmarks/engine.py [episodes agreement sensitivity latency memory opening] [--nets resnet mobilenet encoder] [--out benchmarks/engine.json]

* episodes: strategy -> graph -> session -> accuracy of 2000 images, in turns with a float evaluation in MindSpore's graph mode,
  with the process on one core and on two; the simulation of the same episode beside it.
* agreement: 20 random strategies a network against the reference in MindSpore; equal answers at batches 1, 8, 64, 65, 250;
  the share of MACs on integer kernels.
* sensitivity: all layers x 4 widths on 256 and on 64 images, against a float evaluation of 2000.
* latency: 40 measured strategies, each predicted from the others.
* memory: 500 episodes; sessions of a network with 50 million weights.
* opening: strategy -> session of a ResNet-50 (25 million weights, 224x224, untrained).

Every part of every network runs in a process of its own. Parts that are not asked for keep their results in the file."""
import os, sys
if 'CORES' in os.environ: os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:int(os.environ['CORES'])]))
import argparse, ctypes, gc, json, statistics as st, subprocess, time
from pathlib import Path
here = Path(__file__).parent
NETS,PARTS = ('resnet','mobilenet','encoder'),('episodes','agreement','sensitivity','latency','memory','opening')

def open_net(name, calib=512, trained=False):
    "Network, engine, data. Where only time and memory are measured the weights are as they were initialised: integer kernels take as long on any numbers."
    import numpy as np, mindspore as ms, quantnb, nets
    from quantnb.all import OrtEngine, read_graph, select
    (x,y),(c,_),_ = nets.data(); i = (ms.Tensor(c[:1]),)
    if trained: net = nets.trained(name)
    else: ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); np.random.seed(0); net = nets.NETS[name]().set_train(False)
    e = OrtEngine(net, select(read_graph(net, i)), i, workers=len(os.sched_getaffinity(0)))
    e.calibrate(lambda m: [m(ms.Tensor(c[k:k+64])).asnumpy() for k in range(0, calib, 64)])
    return net,e,x,y,[l.path for l in e.graph.quantizable]

def strategies(paths, seed=0):
    "The four of the episodes."
    import numpy as np
    from quantnb.all import Strategy
    rng = np.random.default_rng(seed)
    third = set(rng.permutation(paths)[:round(len(paths)/3)])
    return {'W8A8':Strategy.uniform(paths, 8, 8), 'W4A4':Strategy.uniform(paths, 4, 4), 'mixed':Strategy({p:(int(rng.choice([2,4,8])), int(rng.choice([4,6,8]))) for p in paths}),
        'a third float':Strategy({p:(32,32) if p in third else (8,8) for p in paths})}

def episodes(name, repeat=3):
    import nets
    net,e,x,y,paths = open_net(name, 128); acc = lambda n: nets.accuracy(n, x, y); clock = time.perf_counter
    ss = strategies(paths); acc(net); sim = e.sim; nets.accuracy(sim.net(ss['W8A8']), x[:200], y[:200])
    for s in ss.values(): nets.accuracy(e.net(s), x[:100], y[:100]) # constants of widths are made once in a search
    t = {k:[] for k in ['float',*ss]}; simulated = {}
    for r in range(repeat):
        b = clock(); acc(net); t['float'].append(clock()-b)
        for k,s in ss.items(): e.deployed.sessions.open.clear(); b = clock(); acc(e.net(s)); t[k].append(clock()-b)
    for k in ('mixed',): b = clock(); acc(sim.net(ss[k])); simulated[k] = clock()-b
    b = clock(); acc(e.net(None)); f = clock()-b
    opens = []
    for _ in range(10):
        for s in ss.values(): b = clock(); e.builder.open(s); opens.append(clock()-b)
    m = {k:st.median(v) for k,v in t.items()}
    return dict(float_s=m['float'], ratio={k:m[k]/m['float'] for k in ss}, spread={k:[min(v)/m['float'],max(v)/m['float']] for k,v in t.items()}, onnxruntime_float=f/m['float'],
        against_simulation={k:simulated[k]/m[k] for k in simulated}, open_ms=1e3*st.median(opens), layers=len(paths))

def agreement(name, n=20, seed=0):
    import numpy as np, mindspore as ms
    from quantnb.all import Strategy, integer_macs
    net,e,x,y,paths = open_net(name, trained=True); rng = np.random.default_rng(seed); rows = []
    draws = [Strategy({p:(int(rng.choice([2,3,4,5,6,8])), int(rng.choice([4,5,6,8]) if k%2 else 8)) for p in paths}) for k in range(n)]
    answers = lambda m,b: np.concatenate([m(ms.Tensor(x[k:k+b])).asnumpy() for k in range(0, len(x), b)])
    for k,s in enumerate(draws):
        f = e.net(s); a = answers(f, 250).argmax(1); r = answers(e.reference.net(s), 100).argmax(1)
        row = dict(agreement=float((a==r).mean()), accuracy=float((a==y).mean()), reference=float((r==y).mean()), activations='4 to 8 bits' if k%2 else '8 bits')
        if k<2: row['batches'] = {b: float((answers(f, b).argmax(1)==a).mean()) for b in (1,8,64,65)}
        rows.append(row); print(name, k, row, flush=True)
    m = integer_macs(e.builder.build(Strategy.uniform(paths, 8, 8)), e.float)
    return dict(rows=rows, worst=min(r['agreement'] for r in rows), worst_points=max(100*abs(r['accuracy']-r['reference']) for r in rows), images=len(x), batches=min(v for r in rows for v in r.get('batches', {}).values()),
        integer_macs=m['share'], float_layers=m['float_layers'], float_accuracy=float((answers(net, 100).argmax(1)==y).mean()), unmatched=sorted(getattr(e.reference, 'unmatched', ())))

def sensitivity(name, repeat=2):
    import nets
    from quantnb.all import Bits, sensitivities
    net,e,x,y,paths = open_net(name, 256); clock = time.perf_counter; nets.accuracy(net, x[:200], y[:200]); fl,t = [],{256:[],64:[]}
    ws = [Bits(8,8),Bits(4,8),Bits(2,8),Bits(4,4)]; sensitivities(e.builder, ws, rows=16)
    for _ in range(repeat):
        b = clock(); nets.accuracy(net, x, y); fl.append(clock()-b)
        for n in t: b = clock(); r = sensitivities(e.builder, ws, [(x[:n],)], rows=n); t[n].append(clock()-b)
    f = st.median(fl)
    return dict(layers=len(paths), widths=len(ws), ratio={n:st.median(v)/f for n,v in t.items()}, ratio_25_layers={n:st.median(v)/f*25/len(paths) for n,v in t.items()}, float_s=f)

def latency_model(name, n=40):
    import numpy as np
    from quantnb.all import QuantRLCodec, LatencyModel, latency, spread
    net,e,x,y,paths = open_net(name, 64); ss = spread(QuantRLCodec(e.graph.layers, [4,8,32], None), n)
    feed = {e.float.inputs[0].name:x[:1]}; ts = latency({**{i:e.builder.open(s) for i,s in enumerate(ss)}, 'float':e.builder.open(None)}, feed, repeat=60)
    m = LatencyModel(e.builder)
    for i,s in enumerate(ss): m.add(s, ts[i].median)
    m.learn(); p = m.predictions
    return dict(error=m.error, measured=m.y, predicted=p.tolist(), float_ms=ts['float'].median, rank=float(np.corrcoef(np.argsort(np.argsort(p)), np.argsort(np.argsort(m.y)))[0,1]), single_layers=m.columns==slice(None), strength=m.strength, disturbed=float(np.mean([o.disturbed for o in ts.values()])))

def memory(name):
    import numpy as np, psutil, mindspore as ms, nets
    rss = lambda: (gc.collect(), ctypes.CDLL('libc.so.6').malloc_trim(0), psutil.Process().memory_info().rss/2**20)[-1]
    if name=='large': return large(rss)
    from quantnb.all import Strategy
    net,e,x,y,paths = open_net(name, 64); rng = np.random.default_rng(0); ms_,mb = [],[]; k = 100
    for i in range(500):
        s = Strategy({p:(int(rng.choice([2,4,8])),8) for p in paths}); b = time.perf_counter(); nets.accuracy(e.net(s), x[:k], y[:k]); ms_.append(1e3*(time.perf_counter()-b))
        if i%20==19: mb.append(rss())
    return dict(episodes=500, images=k, rss_mb=mb, growth=mb[-1]/mb[1]-1, first_ms=st.median(ms_[50:150]), last_ms=st.median(ms_[-100:]), limit_mb=e.deployed.sessions.limit/2**20, open=len(e.deployed.sessions.open))

def large(rss):
    "Sessions of a transformer with 50 million weights: resident memory against the bytes of its constants."
    import mindspore as ms, nets, quantnb
    from quantnb.all import OrtEngine, read_graph, select, Strategy
    ms.set_context(mode=ms.GRAPH_MODE); net = nets.Encoder(d=768, heads=12, ff=3072, depth=7).set_train(False); x = nets.data()[0][0]; i = (ms.Tensor(x[:1]),)
    e = OrtEngine(net, select(read_graph(net, i)), i); e.calibrate(lambda m: m(ms.Tensor(x[:4]))); ps = [l.path for l in e.graph.quantizable]; res = {}
    for k,s in {'float':None, 'W8A8':Strategy.uniform(ps, 8, 8), 'a third float':strategies(ps)['a third float']}.items():
        e.builder.open(s); a = rss(); b = time.perf_counter(); o = e.builder.open(s); t = time.perf_counter()-b; o.run(None, {e.float.inputs[0].name:x[:1]}); n = e.builder.nbytes(e.builder.pieces(s or {})[1])
        res[k] = dict(constants_mb=n/2**20, session_mb=rss()-a, ratio=(rss()-a)*2**20/n, with_constants=1+(rss()-a)*2**20/n, open_ms=1e3*t); del o
    return dict(weights=sum(int(p.size) for p in net.get_parameters()), sessions=res)

def opening(name, repeat=7):
    "Milliseconds from a strategy to a session that has run nothing yet; widths that were used before, as all soon are in a search."
    import numpy as np, mindspore as ms, nets, quantnb
    from quantnb.all import OrtEngine, read_graph, select, Strategy
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = nets.ResNet50().set_train(False); x = np.random.default_rng(0).normal(size=(2,3,224,224)).astype(np.float32); i = (ms.Tensor(x[:1]),)
    e = OrtEngine(net, select(read_graph(net, i)), i); e.calibrate(lambda m: m(ms.Tensor(x))); ps = [l.path for l in e.graph.quantizable]; ss = strategies(ps); clock = time.perf_counter; res = {}
    for s in ss.values(): e.builder.open(s)
    rng = np.random.default_rng(1); fresh = [Strategy({p:(int(rng.choice([2,4,8])), int(rng.choice([4,6,8]))) for p in ps}) for _ in range(repeat)]
    def timed(f, *a): b = clock(); o = f(*a); t = clock()-b; return 1e3*t
    for k,s in ss.items(): res[k] = dict(pieces_ms=st.median([timed(e.builder.pieces, s) for _ in range(repeat)]), open_ms=st.median([timed(e.builder.open, s) for _ in range(repeat)]))
    res['never seen'] = dict(pieces_ms=st.median([timed(e.builder.pieces, s) for s in fresh]), open_ms=st.median([timed(e.builder.open, s) for s in fresh]))
    return dict(layers=len(ps), weights=sum(int(p.size) for p in net.get_parameters()), strategies=res)

RUN = dict(opening=opening, episodes=episodes, agreement=agreement, sensitivity=sensitivity, latency=latency_model, memory=memory)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('parts', nargs='*', default=PARTS); p.add_argument('--nets', nargs='+', default=NETS); p.add_argument('--out', type=Path, default=here/'engine.json'); p.add_argument('--cores', nargs='+', type=int, default=[1,2], help='of the timed parts'); p.add_argument('--child', nargs=2)
    a = p.parse_args()
    if a.child: print('\nRESULT '+json.dumps(RUN[a.child[0]](a.child[1]))); return
    if set(a.parts)-set(PARTS): p.error(f'parts are {", ".join(PARTS)}')
    for part in a.parts:
        for n in ['resnet50'] if part=='opening' else [*a.nets, *['large']*(part=='memory')]:
            for cores in a.cores if part in ('episodes','sensitivity') else (2,):
                o = subprocess.run([sys.executable, __file__, '--child', part, n], env={**os.environ, 'CORES':str(cores)}, capture_output=True, text=True)
                line = next((l for l in o.stdout.splitlines() if l.startswith('RESULT ')), None)
                if line is None: print(o.stdout[-2000:], o.stderr[-3000:]); sys.exit(f'{part} of {n} failed')
                res = json.loads(a.out.read_text()) if a.out.exists() else {} # another run may have written meanwhile
                res.setdefault(part, {}).setdefault(n, {})[f'{cores} core{"s"*(cores>1)}'] = json.loads(line[7:])
                if 'environment' not in res:
                    from quantnb.run.history import environment
                    res['environment'] = environment()
                a.out.write_text(json.dumps(res, indent=1)+'\n'); print(part, n, cores, json.dumps({k:v for k,v in json.loads(line[7:]).items() if k not in ('rows','measured','predicted','rss_mb','spread')}), flush=True)

if __name__=='__main__': main()
