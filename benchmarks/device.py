"""Which file is fastest in which runtime, one thread, and what it costs in accuracy.

    python benchmarks/device.py [mobilenet] [encoder] [vit] [efficientnet] [--seconds 90] [--out benchmarks/device.json]

For each network and each runtime that is installed (ONNX Runtime; OpenVINO with the extra `openvino`), the fastest file is looked
for: from 8 bits everywhere, layers are left float as long as the whole graph becomes faster in that runtime. Then all files take
turns in both runtimes: float, 8 bits everywhere, the two fastest, ONNX Runtime's own `quantize_static`, and OpenVINO's own (NNCF's
post-training quantization; left out where NNCF is not installed). The accuracy is the evaluation function's on the file itself.
`vit` and `efficientnet` take their weights and images from packages, once (see benchmarks/real/fetch.py)."""
import argparse, json, sys, tempfile
from pathlib import Path
import numpy as np
import mindspore as ms
from quantnb.all import *
from quantnb.deploy.session import feed_of
from quantnb.device.openvino import OpenVinoRunner
from quantnb.run.history import environment

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here/'real')]

def task_of(name):
    "The task of a network, and what OpenVINO's quantizer has to know of it."
    if name in ('vit','efficientnet'): return Task.from_yaml(here/'real'/f'{name}.yml')
    import nets
    (x,y),(calib,_),_ = nets.data()
    return Task(net=nets.trained(name), inputs=ms.Tensor(x[:1]), calib=[ms.Tensor(calib[:256])], evaluate=lambda net: nets.accuracy(net, x[:1000], y[:1000]), bits=[8], act_bits=[8])

def static(model, calib, folder):
    "ONNX Runtime's own quantizer, as its documentation says it is used."
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    f,p,q = folder/'float.onnx',folder/'prepared.onnx',folder/'static.onnx'; f.write_bytes(model); s = session(model)
    class Reader(CalibrationDataReader):
        def __init__(self): self.it = iter(calib)
        def get_next(self): return next(self.it, None)
    try: quant_pre_process(str(f), str(p), skip_symbolic_shape=True)
    except Exception: p = f
    quantize_static(str(p), str(q), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)
    return q.read_bytes()

def nncf_file(model, calib, transformer):
    "OpenVINO's own quantizer on the same ONNX file."
    import nncf, onnx
    m = nncf.quantize(onnx.load_from_string(model), nncf.Dataset(calib), model_type=nncf.ModelType.TRANSFORMER if transformer else None)
    return m.SerializeToString()

def accuracy_of(task, model):
    "The evaluation function on any ONNX file of the same inputs and outputs."
    s = session(model, threads=2)
    class File:
        training = False
        def __call__(self, *xs):
            out = s.run(None, feed_of(s, tuple(x.asnumpy() for x in xs))); t = tuple(ms.Tensor(o) for o in out)
            return t[0] if len(t)==1 else t
        def __getattr__(self, k): return lambda *a, **kw: self
    return float(task.run('evaluate', File())) if task.metric_name() is None else float(task.run('evaluate', File())[task.metric_name()])

def rows_fed(task, names, most=300):
    "What the calibration function feeds, a row at a time, as both tools take them; as many as NNCF asks for."
    seen = []
    class Feed:
        training = False
        def __call__(self, *xs):
            seen.append([x.asnumpy() for x in xs]); return task.net(*xs)
        def __getattr__(self, k): return lambda *a, **kw: self
    given = task.run_calib(Feed())
    if not seen: seen = [[x.asnumpy() for x in (b if isinstance(b, (tuple,list)) else [b])] for b in given]
    return [dict(zip(names, (a[i:i+1] for a in xs))) for xs in seen for i in range(len(xs[0]))][:most]

def measured(name, seconds):
    "Everything of one network."
    task = task_of(name); e = open_engine(task); ex = Exporter(task, e); paths = [l.path for l in e.graph.quantizable]
    custom = QuantCustomEvaluator(task.inputs, ex.onnx, ex.float); feed = custom.get_data(); files = {'float':ex.onnx(None)}
    calib = rows_fed(task, list(feed))
    uniform = Strategy.uniform(paths, 8, 8); files['uniform 8'] = ex.onnx(uniform); res = dict(name=name, layers=len(paths), left={}, runtimes={}, accuracy={}, failed={})
    runs = {n: runners[n]() for n in ('CPU','OpenVINO') if not runners[n].missing()}
    for n,r in runs.items():
        def times(ss): return r.measure({'float':files['float'], **{k:ex.onnx(s) for k,s in ss.items()}}, feed, 30, seconds=seconds/8)
        f = fastest(uniform, times, seconds)
        files[f'fastest, {n}'] = ex.onnx(f.strategy); res['left'][n] = list(f.left); print(name, n, f'{f.ratio:.3f} of float, {len(f.left)} of {len(paths)} layers float, {f.tried} files', flush=True)
    with tempfile.TemporaryDirectory() as d:
        for k,make in {'quantize_static':lambda: static(files['float'], calib, Path(d)), 'nncf':lambda: nncf_file(files['float'], calib, name in ('vit','encoder'))}.items():
            try: files[k] = make()
            except Exception as x: res['failed'][k] = f'{type(x).__name__}: {str(x)[:200]}'; print(name, k, res['failed'][k], flush=True)
    for n,r in runs.items():
        t = r.measure(files, feed, 100, seconds=seconds)
        res['runtimes'][r.runtime()] = {k: v and dict(median=v.median, p90=v.p90, n=v.n, disturbed=round(v.disturbed, 2), load=round(v.load, 2), speedup=t['float'].median/v.median) for k,v in t.items()}; res['failed'] |= {f'{k} in {n}':w for k,w in r.failed.items()}
    for k,m in files.items():
        try: res['accuracy'][k] = accuracy_of(task, m)
        except Exception as x: res['failed'][f'accuracy of {k}'] = f'{type(x).__name__}: {str(x)[:200]}'
    res['kb'] = {k:len(m)/1e3 for k,m in files.items()}
    return res

def table(r):
    return Table([dict(file=k, **{n:f'{t[k]["median"]:.3f}' if t.get(k) else 'failed' for n,t in r['runtimes'].items()}, **{f'{n} x float':f'{t[k]["speedup"]:.2f}' if t.get(k) else '' for n,t in r['runtimes'].items()}, accuracy=r['accuracy'].get(k), KB=round(kb)) for k,kb in r['kb'].items()])

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('nets', nargs='*', default=['mobilenet','encoder','vit','efficientnet']); p.add_argument('--seconds', type=float, default=90); p.add_argument('--out', type=Path, default=here/'device.json')
    a = p.parse_args(); out = json.loads(a.out.read_text()) if a.out.exists() else dict(networks={})
    for n in a.nets:
        r = measured(n, a.seconds); print(table(r), flush=True); out['networks'][n] = r
        a.out.write_text(json.dumps(clean(dict(out, command='python benchmarks/device.py', environment=environment())), indent=1)+'\n')
