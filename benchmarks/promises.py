"""What a search promises, and whether it holds on data that nothing has seen.

    python benchmarks/promises.py [original] [floor] [latency] [--data FOLDER] [--runs 20] [--algorithms MsQuantRL SensitivityILP] [--seconds 1500]

*original*: the setting of the first yml, 20 episodes with 10 of warm-up, on the fashion example: when the first record meets the targets, and what
the result is beside the integer program's. *floor*: the smallest ResNet-14 that loses at most half a point, with 95 % confidence; each run has another
split of the 10,000 test images of Fashion-MNIST (`--data`: folder of the idx files): 1000 steer, 3000 choose among the finalists, 6000 judge what was
delivered, by its file. Beside it: what the same history gives whoever takes the smallest strategy that meets the floor on the steering images.
*latency*: the fastest file that loses at most one point, 8 bits or float for each layer, beside all of them at 8 bits, all float, and depthwise
convolutions float; the four take turns on a machine that does nothing else. Results go to promises.json; what is there is not done again."""
import argparse, gzip, json, os, sys, tempfile, time
os.environ.setdefault('OMP_NUM_THREADS', '1'); os.environ.setdefault('GLOG_v', '3')
from pathlib import Path
import numpy as np
import mindspore as ms
import onnxruntime as ort
from quantnb.all import *
from quantnb.run.history import environment
from quantnb.run.trial import measure

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here), str(here.parent/'examples'/'fashion')]
import model as fashion, quantizer_nets as zoo

def answers(file, x):
    "Classes of images by an ONNX file."
    s = ort.InferenceSession(file if isinstance(file, bytes) else str(file), providers=['CPUExecutionProvider']); name = s.get_inputs()[0].name
    return np.concatenate([s.run(None, {name:x[i:i+250]})[0].argmax(1) for i in range(0, len(x), 250)])

def original(results, save, a):
    r = results.setdefault('original', {}); x,y = fashion.images({}, 'test')
    for seed in range(3):
        for bits,threshold in (([8,32],40), ([2,4,8],85)):
            for name in ('MsQuantRL','SensitivityILP'):
                key = f'{bits} {name} {seed}'
                if key in r: continue
                with tempfile.TemporaryDirectory() as d:
                    t = Task.from_yaml(here.parent/'examples'/'fashion'/'quant.yml', [f'search_space.hyperparameters=[{{key: network.bit_candidates, type: CATEGORY, range: {bits}}}]', 'search_algorithm.policy={max_episode: 20, num_warmup: 10}', f'search_algorithm.type={name}', 'objective_keys=[accuracy, compress_ratio, flops]', f'compress_threshold={threshold}', f'seed={seed}', f'local_base_path={d}', 'task_id=t'])
                    s = SearchPipeStep(t, progress=False); h = s.run(); best = next(Path(d).glob('*/output/best/model.onnx')); first = next((k+1 for k,o in enumerate(h.ok) if o.feasible), None); c = h.chosen or h.best()
                    r[key] = dict(first_feasible=first, episodes=len(h), accuracy=c.metrics['accuracy'], compress_ratio=c.metrics['compress_ratio'], divergence=c.metrics['divergence'], reward=c.reward, float=h.float['accuracy'], test=100*float((answers(best, x)==y).mean()))
                save(); print(key, r[key], flush=True)

def pool(folder):
    read = lambda f, skip: np.frombuffer(gzip.open(f).read() if f.suffix=='.gz' else f.read_bytes(), np.uint8, offset=skip)
    find = lambda p: next(Path(folder).rglob(p)); x = read(find('t10k-images*'), 16).reshape(-1, 1, 28, 28)
    return ((x/255-fashion.MEAN)/fashion.STD).astype(np.float32),read(find('t10k-labels*'), 8).astype(np.int32)

def floor(results, save, a):
    begun = time.time(); r = results.setdefault('floor', {}); x,y = pool(a.data); calib = fashion.images({}, 'calib')[0]; file = None
    for run in range(a.runs):
        for name in a.algorithms:
            key = f'{name} {run}'
            if key in r or time.time()-begun>a.seconds: continue
            parts = dict(zip(('search','confirm','judge'), np.split(np.random.default_rng(run).permutation(len(y)), [1000,4000])))
            of = lambda part: lambda m: 100*float(np.mean(np.concatenate([m(ms.Tensor(b)).asnumpy().argmax(1) for b in np.array_split(x[parts[part]], len(parts[part])//250)])==y[parts[part]]))
            with tempfile.TemporaryDirectory() as d:
                start = time.time()
                t = Task(net=lambda: zoo.load('resnet14'), inputs=ms.Tensor(calib[:2]), calib=lambda m: [m(ms.Tensor(calib[k:k+128])) for k in range(0, 512, 128)], evaluate=of('search'), confirm=of('confirm'), bits=[2,3,4,5,6,8], act_bits=[8], max_episode=24, seed=run, local_base_path=d,
                    targets=Targets(acc_threshold=.5, acc_threshold_mode='drop'), reward_type='compress_first', stop_early=False, **{'search_algorithm.type':name})
                s = SearchPipeStep(t, progress=False); h = s.run(); out = next(Path(d).glob('*/output')); best = json.loads((out/'best.json').read_text())
                judge = x[parts['judge']],y[parts['judge']]; acc = lambda f: 100*float((answers(f, judge[0])==judge[1]).mean()); f0 = acc(s.engine.float.bytes())
                plain = min((o for o in h.ok if o.feasible), key=lambda o: o.metrics['size_kb'], default=None)
                r[key] = dict(delivered=dict(drop=round(f0-acc(out/'best'/'model.onnx'), 3), compress_ratio=h.chosen.metrics['compress_ratio'], assured=(best.get('acceptance') or {}).get('assured'), upper=(best.get('acceptance') or {}).get('upper'), candidates=[{k:c.get(k) for k in ('episode','compress_ratio','accuracy','drop_bound','why')} for c in (best.get('confirm') or {}).get('candidates', [])]),
                    smallest=plain and dict(drop=round(f0-acc(s.engine.builder.build(plain.strategy)), 3), compress_ratio=plain.metrics['compress_ratio']), float=f0, seconds=round(time.time()-start, 1), episodes=len(h))
            save(); print(key, r[key], flush=True)

def latency(results, save, a):
    r = results.setdefault('latency', {}); part = {k: fashion.images({}, k) for k in ('calib','search','confirm','test')}
    of = lambda k: lambda m: 100*float((np.concatenate([m(b).asnumpy().argmax(1) for b in fashion.batches(part[k][0], 250)])==part[k][1]).mean())
    for net in ('mobilenet','vit'):
        for seed in range(a.seeds):
            if f'{net} {seed}' in r: continue
            with tempfile.TemporaryDirectory() as d:
                start = time.time(); t = Task(net=lambda: zoo.load(net), inputs=ms.Tensor(part['calib'][0][:1]), calib=lambda m: [m(b) for b in fashion.batches(part['calib'][0], 128)], evaluate=of('search'), confirm=of('confirm'), bits=[8,32], max_episode=24, seed=seed, local_base_path=d,
                    targets=Targets(acc_threshold=1., acc_threshold_mode='drop'), objectives=['accuracy','latency'], custom_reward=True, metric_to_reward='latency', metric_ratio=1.)
                s = SearchPipeStep(t, progress=False); h = s.run(); ls = s.graph.quantizable; eight,free = Bits(8,8),Bits()
                plain = {'all 8 bits':dict.fromkeys((l.path for l in ls), eight), 'depthwise float':{l.path:free if l.groups>1 else eight for l in ls}}; files = {'chosen':s.delivered, **{k:Strategy(v) for k,v in plain.items()}}
                times = measure(t, s.exporter, files, repeat=400, seconds=40.); acc = lambda f: 100*float((answers(f, part['test'][0])==part['test'][1]).mean()); data = s.exporter.float.bytes()
                r[f'{net} {seed}'] = dict(ms={k:v.median for k,v in times.items()}, disturbed={k:v.disturbed for k,v in times.items()}, test={'float':acc(data), **{k:acc(s.exporter.builder.build(v)) for k,v in files.items()}}, left=[p for p,b in s.delivered.items() if b.w==32], layers=len(ls), model_error=s.latency_model and s.latency_model.error, episodes=len(h), seconds=round(time.time()-start, 1))
            save(); print(net, seed, r[f'{net} {seed}'], flush=True)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('parts', nargs='*', default=['original','floor']); p.add_argument('--data'); p.add_argument('--runs', type=int, default=20); p.add_argument('--seeds', type=int, default=1); p.add_argument('--algorithms', nargs='*', default=['MsQuantRL']); p.add_argument('--seconds', type=float, default=1500); p.add_argument('--out', type=Path, default=here/'promises.json'); a = p.parse_args()
    results = json.loads(a.out.read_text()) if a.out.exists() else {}; results['environment'] = environment()
    def save(): write_atomic(a.out, json.dumps(clean(results), indent=1)+'\n')
    if 'original' in a.parts: original(results, save, a)
    if 'floor' in a.parts and a.data: floor(results, save, a)
    if 'latency' in a.parts: latency(results, save, a)
    save()
