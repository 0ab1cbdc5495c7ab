"""Search algorithms at equal cost, and what racing saves. An evaluation is 1000 images of the example's search part; every evaluation is kept on disk, so all algorithms share them, and a second run goes on where the first ended.

    python benchmarks/search.py [--part curves sequence planted racing] [--nets mobilenet resnet14 vit fashion] [--settings 'W 2.5'] [--algorithms MsQuantRL …] [--seeds 5] [--evaluations 200] [--seconds 500] [--data FOLDER] [--out benchmarks/search.json]

*curves*: the divergence on the search images is the signal of all algorithms, and decides which strategy is the best at 20, 50, 100
and 200 evaluations; the test images are shown to those strategies only. They are the 10,000 official ones (`--data`: folder of the idx files), since
2000 cannot tell strategies apart that differ by a tenth of a point. *delivered* is what the best after 50 and after 200 become when they are rounded in sequence, as the pipeline does with its finalists. Of every algorithm the
difference to the default's accuracy is kept with its standard error, image by image (means over the seeds): two strategies of the same divergence differ by a tenth of a point by chance. RandomSearch and HAQ have the budget's projection, but none of the structured
strategies that the others start from. *sequence*: the default with `episodes: in sequence`, 50 evaluations, each of which costs a pass
through the network more. *planted*: small residual networks of numpy whose 4096 strategies are all evaluated, so that the optimum is known;
the agent's settings were chosen on others than 60 to 79. *racing*: searches of the first kind at 2.5 bits, with
evaluations of 2000 images, are replayed with the races of the pipeline: how many are dropped, what they cost, and whether the best is among those that are kept."""
import argparse, json, os, sys, tempfile, time
os.environ.setdefault('OMP_NUM_THREADS', '1'); os.environ.setdefault('GLOG_v', '3')
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms
from quantnb.all import *
from dataclasses import replace
from quantnb.run.history import environment
from quantnb.compare import row_losses
from quantnb.paired import clearly_behind
from quantnb.quant.race import Race

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
import quantizer_nets as zoo
from quantizer_nets import fashion
from prepare import DATA, official as read

SETTINGS = {'W 3.0':dict(bits=[2,3,4,5,6,7,8], act_bits=[8], average=3.), 'W 2.5':dict(bits=[2,3,4,5,6,7,8], act_bits=[8], average=2.5), 'WA 5.0':dict(bits=[4,8], act_bits=None, average=5.), 'WA 3.0':dict(bits=[2,3,4,6,8], act_bits=None, average=3.)}
DELIVERED = 'W 2.5','W 3.0','WA 3.0' # settings of the searches in sequence: in the last one 3 bits everywhere lose 1 to 3 points however they are rounded

def official(folder):
    "The 10,000 official test images, float32 [N,1,28,28], and labels."
    x,y = read(folder, 't10k'); return ((x[:,None]/255-fashion.MEAN)/fashion.STD).astype(np.float32),y.astype(np.int32)

def threshold(net, inputs, average):
    "Compression ratio in percent of a network whose weights have `average` bits, with the scales that quantized layers need."
    g = read_graph(net, (inputs,)); cost = CostModel([l for l in g.layers if l.calls])
    return -100*sum((l.n*average+7)//8+4*l.bias+4*l.c_out+8-4*(l.n+l.bias) for l in g.quantizable)/cost.s0

class Bench:
    "One network and one budget: its `Problem`, and evaluations that are kept."
    def __init__(self, net, setting, cache, tested, images=1000):
        o = SETTINGS[setting]; calib = fashion.images({}, 'calib')[0]; start = time.time()
        model = zoo.load(net); ratio = threshold(model, ms.Tensor(calib[:2]), o['average'])
        task = Task(net=model, inputs=ms.Tensor(calib[:2]), calib=lambda m: [m(b) for b in fashion.batches(calib, 128)], evaluate=lambda m: float(m(ms.Tensor(calib[:1])).asnumpy().mean()), bits=o['bits'], act_bits=o['act_bits'],
            targets=Targets(compress_ratio=ratio), local_base_path=tempfile.mkdtemp())
        p = self.prepared = Prepared(task).open_network(); self.engine = p.engine
        self.problem = p.make_problem(); self.seconds = time.time()-start
        self.data = dict(search=fashion.images({}, 'search'), test=tested); self.data['search'] = tuple(v[:images] for v in self.data['search'])
        self.file = Path(cache)/f'{net}-{setting.replace(" ","")}{"" if images==1000 else f"-{images}"}.jsonl'; self.file.parent.mkdir(parents=True, exist_ok=True)
        self.known = {tuple(d['key']):d for d in map(json.loads, self.file.read_text().splitlines())} if self.file.exists() else {}
        self.float = {k: self.logits(None, k) for k in self.data}; self.walk,self.kept = None,Path(cache)/f'{self.file.stem}-tested.npz'; self.tested = dict(np.load(self.kept)) if self.kept.exists() else {}
    def logits(self, strategy, part):
        s = self.engine.builder.open(strategy) if strategy is not None else self.engine.float.open()
        return np.concatenate([s.run(None, self.engine.float.feed((b,)))[0] for b in fashion.batches(self.data[part][0], 250)])
    def accuracy(self, logits, part): return 100*float((logits.argmax(1)==self.data[part][1]).mean())
    def __call__(self, strategy):
        "dict(accuracy, divergence) on the search images."
        key = ('search', *(b.w for b in strategy.values()), *(b.a for b in strategy.values()))
        if key not in self.known:
            start = time.time(); y = self.logits(strategy, 'search')
            d = dict(key=key, accuracy=self.accuracy(y, 'search'), divergence=self.off(y, 'search'), seconds=time.time()-start)
            with self.file.open('a') as f: f.write(json.dumps(d)+'\n')
            self.known[key] = d
        return self.known[key]
    def off(self, logits, part): return divergence((self.float[part],), (logits,), self.engine.kinds)
    def in_sequence(self, strategy):
        "The strategy rounded in sequence, with the damping that is best where calibration and search data are of one kind."
        b = self.engine.builder; self.walk = self.walk or Walk(b, 512, keep=2**28); return sequential(b, strategy, walk=self.walk)
    def drop(self, own): self.engine.builder.drop(own.own); self.engine.quantizer.drop(own.own)
    def test(self, strategy, delivered=False):
        "(which test images are right, divergence on them)."
        key = f'{"delivered" if delivered else "searched"} '+' '.join(f'{b.w}/{b.a}' for b in strategy.values())
        if key not in self.tested:
            s = self.in_sequence(strategy) if delivered else strategy; y = self.logits(s, 'test'); self.tested[key] = np.append(y.argmax(1)==self.data['test'][1], np.float64(self.off(y, 'test'))); delivered and self.drop(s)
        return self.tested[key][:-1],float(self.tested[key][-1])
    def keep(self): np.savez_compressed(self.kept, **self.tested)

CHECKS,FINAL = (20,50,100,200),('50','200')
ALGORITHMS = dict(Uniform={}, SensitivityILP={}, GreedySensitivity={}, InteractionIQP={}, MsQuantRL=dict(max_episode=200), Evolution={}, RandomSearch=dict(num_warmup=0), HAQ=dict(max_episode=200, num_warmup=20)) # settings
ONCE = ('Uniform','SensitivityILP','GreedySensitivity','InteractionIQP') # nothing in them is random
BARE = ('RandomSearch','HAQ') # without structured strategies

def run(name, problem, value, seed, n=100):
    "(strategies, values, seconds of the algorithm, evaluations that its pairs of layers are worth) of one search; `value` gives the divergence."
    start = time.perf_counter(); alg = get_algorithm(name)(replace(problem, starts=()) if name in BARE else problem, {k: n if k=='max_episode' else v for k,v in ALGORITHMS[name].items()}, seed); own,ss,vs = time.perf_counter()-start,[],[]; pairs = (getattr(alg, 'pairs', 0) or getattr(alg, 'measured', 0)) if problem.measure else 0
    for i in range(n):
        if i and alg.exhausted: break
        t = time.perf_counter(); p = alg.propose(); own += time.perf_counter()-t; v = value(p.strategy)
        t = time.perf_counter(); alg.learn(Record(i, p.strategy, metrics=dict(divergence=v), reward=-10*v, phase=p.phase, known=i)); own += time.perf_counter()-t
        ss.append(p.strategy); vs.append(v)
    return ss,vs,own,-(-pairs*128//1000)

def against(right, name='MsQuantRL'):
    "Accuracy of `name` less that of each other algorithm in points, and the standard error of the difference; means over the seeds, image by image."
    mean = {}
    for (k,seed,at),v in right.items(): mean.setdefault((k,at), []).append(v)
    mean = {k: np.mean(v, 0) for k,v in mean.items()}
    return {k: {at: [100*float(d.mean()), 100*float(d.std()/len(d)**.5)] for (j,at),v in mean.items() if j==k for d in [mean[name,at]-v]} for k in dict.fromkeys(j for j,_ in mean) if k!=name}

def curves(results, save, a):
    begun = time.time()
    for setting in a.settings or list(SETTINGS)[:3]:
        for net in a.nets:
            if net!='fashion' and not (here/'quantizer'/f'{net}.npz').exists(): continue
            r = results.setdefault('curves', {}).setdefault(f'{net} {setting}', dict(runs={})); todo = [(k, s) for s in range(a.seeds) for k in a.algorithms if f'{k} {s}' not in r['runs'] and (s==0 or k not in ONCE)]
            if not todo or time.time()-begun>a.seconds: continue
            b = Bench(net, setting, a.cache, official(a.data)); r['test_images'] = len(b.data['test'][1]); r['float'] = {k: b.accuracy(v, k) for k,v in b.float.items()}; r['threshold'] = b.problem.project.threshold; r['steps'],r['prepare_seconds'] = len(b.problem.space),b.seconds
            n = r.setdefault('evaluations', a.evaluations); checks = [k for k in CHECKS if k<=n]
            for name,seed in todo:
                if time.time()-begun>a.seconds: break
                ss,vs,own,paid = run(name, b.problem, lambda s: b(s)['divergence'], seed, n); at = {str(k): ss[int(np.argmin(vs[:max(1, k-paid)]))] for k in checks} # what the pairs have cost is taken off
                plain,made = {k: b.test(s) for k,s in at.items()},{k: b.test(at[k], True) for k in FINAL if k in at}; shown = lambda seen, j: {k: 100*float(v[0].mean()) if j==0 else v[1] for k,v in seen.items()}
                r['runs'][f'{name} {seed}'] = dict(best=[[k+1, v] for k,v in enumerate(np.minimum.accumulate(vs).tolist()) if k==0 or v<min(vs[:k])], evaluations=len(vs), accuracy={k: b(s)['accuracy'] for k,s in at.items()}, test=shown(plain, 0), test_divergence=shown(plain, 1), delivered=shown(made, 0), delivered_divergence=shown(made, 1), strategies={k: s.to_json() for k,s in at.items()}, own_seconds=own/len(vs), pairs_paid=paid)
                save(); b.keep(); t = r['runs'][f'{name} {seed}']; print(net, setting, name, seed, {k: (round(min(vs[:int(k)]), 5), t['test'][k], t['delivered'].get(k), t['delivered_divergence'].get(k)) for k in t['test']}, f'{1e3*t["own_seconds"]:.0f} ms, {time.time()-begun:.0f} s', flush=True)
            if a.algorithms==list(ALGORITHMS):
                whole = {(*k.split(), at): Strategy.from_json(s) for k,v in r['runs'].items() for at,s in v['strategies'].items()}
                r['ahead'] = {k: against({c: b.test(s, k=='delivered')[0] for c,s in whole.items() if k=='searched' or c[2] in FINAL}) for k in ('searched','delivered')}; save()

def own_episodes(results, save, a):
    begun = time.time(); n = min(a.evaluations, 50); checks = [k for k in CHECKS if k<=n]
    for setting in a.settings or DELIVERED:
        for net in a.nets:
            r = results.setdefault('sequence', {}).setdefault(f'{net} {setting}', dict(runs={})); todo = [(k, s) for s in range(a.seeds) for k in a.algorithms if f'{k} {s}' not in r['runs'] and (s==0 or k not in ONCE)]
            if not todo or time.time()-begun>a.seconds: continue
            b = Bench(net, setting, a.cache, official(a.data)); r['test_images'] = len(b.data['test'][1]); r['float'] = {k: b.accuracy(v, k) for k,v in b.float.items()}; seconds = []
            file = b.file.with_name(f'{b.file.stem}-sequence.jsonl'); known = dict(json.loads(l) for l in file.read_text().splitlines()) if file.exists() else {}
            def value(s):
                key = ' '.join(f'{b.w}/{b.a}' for b in s.values())
                if key not in known:
                    t = time.process_time(); o = b.in_sequence(s); seconds.append(time.process_time()-t); known[key] = b.off(b.logits(o, 'search'), 'search'); b.drop(o)
                    with file.open('a') as f: f.write(json.dumps([key, known[key]])+'\n')
                return known[key]
            for name,seed in todo:
                if time.time()-begun>a.seconds: break
                ss,vs,own,paid = run(name, replace(b.problem, rough=True), value, seed, n); at = {str(k): ss[int(np.argmin(vs[:max(1, k-paid)]))] for k in (1,*checks)}; seen = {k: b.test(s, True) for k,s in at.items()}
                r['runs'][f'{name} {seed}'] = dict(best=[[k+1, v] for k,v in enumerate(np.minimum.accumulate(vs).tolist()) if k==0 or v<min(vs[:k])], evaluations=len(vs), delivered={k: 100*float(v[0].mean()) for k,v in seen.items()}, delivered_divergence={k: v[1] for k,v in seen.items()}, strategies={k: s.to_json() for k,s in at.items()}, pairs_paid=paid)
                if seconds: r['seconds'] = float(np.median(seconds))
                save(); b.keep(); print(net, setting, name, seed, {k: (round(min(vs[:int(k)]), 5), round(v[1], 5), 100*float(v[0].mean())) for k,v in seen.items()}, f'{time.time()-begun:.0f} s', flush=True)
            whole = {(*k.split(), at): Strategy.from_json(s) for k,v in r['runs'].items() for at,s in v['strategies'].items()}
            r['ahead'] = against({c: b.test(s, True)[0] for c,s in whole.items()}); save()

def raced(sizes, rows, losses, blocks=100, error=.2, margin=.02):
    "Replay of a search, as the pipeline races against the best that is no larger: on the remembered samples [K,R], then on the evaluation's [K,N] while it runs."
    n,values,parts = losses.shape[1],losses.mean(1),losses.reshape(len(losses), blocks, -1).mean(2); known,images = [],[]
    for k in range(len(values)):
        rival = min((j for j in known if sizes[j]<=sizes[k]), key=lambda j: values[j], default=None); cost,behind = rows.shape[1],False
        if rival is not None:
            behind = clearly_behind(rows[k], rows[rival], error, margin)
            for look in () if behind else Race.looks:
                if behind := clearly_behind(parts[k,:look], parts[rival,:look], error, margin): cost += look*n//blocks; break
        if not behind: known.append(k); cost += n
        images.append(cost)
    return dict(episodes=len(values), dropped=len(values)-len(known), images=sum(images), all_images=len(values)*n, median=float(np.median(images))/n, best=float(min(values[k] for k in known)), best_of_all=float(values.min()), rows=rows.shape[1], evaluation=n)

def racing(results, save, a):
    r = results.setdefault('racing', {}); begun = time.time()
    for net in a.nets:
        todo = [(k, s) for s in range(a.seeds) for k in a.algorithms if get_algorithm(k).races and f'{net} {k} {s}' not in r]; b = Bench(net, 'W 2.5', a.cache, fashion.images({}, 'test'), 2000) if todo else None
        for name,seed in todo:
            if time.time()-begun>a.seconds: break
            of = {}
            def value(s): # the losses are kept for the replay
                if s not in of: of[s] = row_losses((b.float['search'],), (b.logits(s, 'search'),), b.engine.kinds)
                return float(of[s].mean())
            ss,*_ = run(name, b.problem, value, seed, a.evaluations)
            r[f'{net} {name} {seed}'] = raced([b.problem.cost.size(s) for s in ss], np.array([b.engine.losses_of(s) for s in ss]), np.array([of[s] for s in ss])); save(); print('racing', net, name, seed, r[f'{net} {name} {seed}'], flush=True)

class Planted:
    "A residual network of numpy with six layers, four widths each: what quantizing does to it is run, not assumed, and all 4096 strategies are known."
    def __init__(self, seed, widths=(2,3,4,6), average=3.5, n=256, d=24):
        rng = np.random.default_rng(seed); self.x = rng.normal(size=(n,d)).astype(np.float32); hidden = rng.choice([16,32,48], 3); shapes = {'head':(10,d)}
        for i,h in enumerate(hidden): shapes |= {f'{i}.up':(int(h),d), f'{i}.down':(d,int(h))}
        self.layers = [Layer(p, 'dense', 'MatMul', p, s, macs=s[0]*s[1]) for p,s in shapes.items() if p!='head'] # the head stays float, so that there are six
        self.w = {p:(rng.standard_t(4, s)/np.sqrt(s[1])*np.exp(rng.normal(0, .5, (s[0],1)))).astype(np.float32) for p,s in shapes.items()}
        self.q = {(l.path,b):np.asarray(quantize_weight(self.w[l.path], b, l.channel_axis).dequantized, np.float32) for l in self.layers for b in (*widths,8)}
        self.ref = self.answer(self.w); space,cost = QuantRLCodec(self.layers, widths, [8]),CostModel(self.layers); eight = {l.path:8 for l in self.layers}
        loss = {(l.path,b):max(0., self.divergence({**eight, l.path:b}, 64)-self.divergence(eight, 64)) for l in self.layers for b in widths}
        ratio = 100-100*sum((l.n*average+7)//8+4*l.c_out+8 for l in self.layers)/cost.s0; budget = Projection(space, cost, ratio, loss)
        self.problem = Problem(space, Targets(compress_ratio=ratio), cost, budget, loss, features(self.layers), starts=tuple(structured(space, cost, budget, loss, ratio)))
        self.all = {s:self.divergence({p:b.w for p,b in s.items()}) for s in space.strategies()}; self.optimum = min(v for s,v in self.all.items() if cost.ratio(s)>=ratio)
    def answer(self, w):
        h = self.x
        for i in range(3): h = h+np.maximum(h/np.sqrt((h**2).mean(1, keepdims=True))@w[f'{i}.up'].T, 0)@w[f'{i}.down'].T
        return h@w['head'].T
    def divergence(self, widths, n=None):
        return divergence((self.ref[:n],), (self.answer({'head':self.w['head'], **{p:self.q[p,b] for p,b in widths.items()}})[:n],), ('scores',))

def planted(results, save, a):
    begun = time.time()
    for net in a.planted:
        r = results.setdefault('planted', {}).setdefault(str(net), {}); todo = [(k, s) for k in a.algorithms for s in range(a.seeds) if f'{k} {s}' not in r and (s==0 or k not in ONCE)]
        if not todo or time.time()-begun>a.seconds: continue
        p = Planted(net)
        for name,seed in todo: _,vs,_,_ = run(name, p.problem, p.all.__getitem__, seed); best = np.minimum.accumulate(vs); r[f'{name} {seed}'] = {str(n):float(best[min(n, len(vs))-1]/p.optimum-1) for n in CHECKS[:3]}
        save(); print('planted', net, {k:{n:round(float(np.mean([r[f'{k} {s}'][n] for s in range(a.seeds) if f'{k} {s}' in r])), 4) for n in map(str, CHECKS[:3])} for k in a.algorithms}, flush=True)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--part', nargs='*', default=['curves','planted'], choices=['curves','sequence','planted','racing']); p.add_argument('--nets', nargs='*', default=['mobilenet','resnet14','vit','fashion']); p.add_argument('--settings', nargs='*', help='default: the first three for curves, those that DELIVERED names for sequence')
    p.add_argument('--algorithms', nargs='*', default=list(ALGORITHMS)); p.add_argument('--evaluations', type=int, default=200); p.add_argument('--seeds', type=int, default=5); p.add_argument('--planted', nargs='*', type=int, default=[*range(6),*range(12,18),*range(60,80)]); p.add_argument('--seconds', type=float, default=500); p.add_argument('--data', default=DATA); p.add_argument('--cache', default=str(Path(tempfile.gettempdir())/'quantnb-search')); p.add_argument('--out', type=Path, default=here/'search.json'); a = p.parse_args()
    results = json.loads(a.out.read_text()) if a.out.exists() else {}; results['environment'] = environment()
    def save(): write_atomic(a.out, json.dumps(clean(results), indent=1)+'\n')
    if 'curves' in a.part: curves(results, save, a)
    if 'sequence' in a.part: own_episodes(results, save, a)
    if 'planted' in a.part: planted(results, save, a)
    if 'racing' in a.part: racing(results, save, a)
    save()
