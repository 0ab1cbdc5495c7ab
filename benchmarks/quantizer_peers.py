"""Uniform 8 bits by quantnb beside ONNX Runtime's `quantize_static` and `quantize_dynamic` and NNCF, from the same float file and the same calibration images in the same order.

    python benchmarks/quantizer_peers.py [--nets fashion mobilenet vit] [--nncf FOLDER] [--files FOLDER] [--out benchmarks/quantizer_peers.json]
    python benchmarks/quantizer_peers.py --latency --files FOLDER     # of the files as trained, best on a quiet machine

Each network as it was trained, and with planted damage (the first draw of `quantizer.py`). The float file has its batch norms folded and
nothing else. NNCF is imported from FOLDER, the site-packages of an environment that has it (`pip install nncf openvino`), or left out. `quantize_with_accuracy_control`
may lose 0.3 points on the example's search images; its evaluations are counted. For the transformer it gets the float file in opset 20: the file that it
makes in opset 21 is valid, but ONNX Runtime 1.32 moves a QuantizeLinear through a Transpose there, gives it an output type that is not its zero point's, and refuses its own result. Accuracy is that of the 6000 images of `rounding.py`;
latency is one image at one thread, all files of a network in turns, the lowest of the medians of nine rounds, measured by a run of its own. Figures are kept as they come; a second run goes on."""
import argparse, json, signal, sys, tempfile, time
from pathlib import Path
import numpy as np
import quantnb, mindspore as ms # before onnx
import onnx, onnx.version_converter
from quantnb.all import *
from quantnb.run.history import environment
from quantnb.deploy.qdq import HEAVY, INTEGER, optimized
from quantnb.deploy.runtime import session

here = Path(__file__).resolve().parent; sys.path[:0] = [str(here)]
import quantizer as planting, quantizer_nets as zoo
from quantizer_nets import fashion

DROP = .3 # points that accuracy control may lose
LIMIT = 120 # CPU seconds in which a file has to be made

def late(*_): raise TimeoutError(f'no answer in {LIMIT} CPU seconds')

def network(name, planted):
    if not planted: return zoo.load(name)
    return planting.damaged(name, 0, planting.peaks(zoo.load(name), np.concatenate([fashion.images({}, p)[0] for p in ('calib',*planting.PARTS)])))[0]

def engine(net, calib, recipe):
    "An engine that is calibrated, and its layers' paths."
    i = (ms.Tensor(calib[:1]),); e = OrtEngine(net, select(read_graph(net, i)), i, recipe=recipe); e.calibrate(lambda m: [m(ms.Tensor(calib[k:k+64])) for k in range(0, len(calib), 64)])
    return e,[l.path for l in e.graph.quantizable]

def written(net, calib, recipe, widths, in_sequence=False):
    "The file of an engine with this recipe."
    e,ps = engine(net, calib, recipe); s = Strategy.uniform(ps, *widths)
    return e.builder.build(sequential(e.builder, s) if in_sequence else s)

def dynamic(model):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    with tempfile.TemporaryDirectory() as d:
        f,q = (Path(d)/n for n in ('float.onnx','dynamic.onnx')); f.write_bytes(model); quantize_dynamic(str(f), str(q), per_channel=True, weight_type=QuantType.QInt8)
        return q.read_bytes()

def static(model, name, calib, method):
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    class Reader(CalibrationDataReader):
        def __init__(self): self.it = iter({name:calib[k:k+1]} for k in range(len(calib)))
        def get_next(self): return next(self.it, None)
    with tempfile.TemporaryDirectory() as d:
        f,p,q = (Path(d)/n for n in ('float.onnx','prepared.onnx','static.onnx')); f.write_bytes(model)
        try: quant_pre_process(str(f), str(p), skip_symbolic_shape=True)
        except Exception: p = f
        quantize_static(str(p), str(q), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, calibrate_method=CalibrationMethod[method])
        return q.read_bytes()

def in_opset(m, version): m = onnx.version_converter.convert_version(m, version); m.ir_version = min(m.ir_version, 9); return m

def nncf_file(model, name, calib, transformer, control):
    "(file, evaluations, images) of NNCF."
    import nncf
    m = onnx.load_from_string(model); m = in_opset(m, 20) if transformer else m; kind = nncf.ModelType.TRANSFORMER if transformer else None; data = nncf.Dataset([{name:calib[k:k+1]} for k in range(len(calib))]); seen = [0,0]
    if not control: return nncf.quantize(m, data, subset_size=len(calib), model_type=kind).SerializeToString(),0,0
    x,y = fashion.images({}, 'search')
    def right(model, items):
        ks = [int(k) for k in items]; s = session(model.SerializeToString() if hasattr(model, 'SerializeToString') else model); seen[0] += 1; seen[1] += len(ks)
        ok = np.concatenate([s.run(None, {name:x[ks[a:a+250]]})[0].argmax(1)==y[ks[a:a+250]] for a in range(0, len(ks), 250)]); return float(ok.mean()),[float(o) for o in ok]
    q = nncf.quantize_with_accuracy_control(m, data, nncf.Dataset(list(range(len(x)))), right, max_drop=DROP/100, subset_size=len(calib), model_type=kind)
    return q.SerializeToString(),*seen

def integer_share(model):
    "(integer, float) numbers of convolutions and products in the runtime's optimised graph; products of two activations, as attention has them, are among them."
    ops = [n.op_type for n in optimized(model).graph.node]; done = sum(o in INTEGER for o in ops); left = sum(o in HEAVY or o in ('FusedConv','FusedGemm','FusedMatMul') for o in ops)
    return done,left

def accuracy(model, x, y): s = session(model); n = s.get_inputs()[0].name; return 100*float(np.mean(np.concatenate([s.run(None, {n:x[k:k+250]})[0].argmax(1) for k in range(0, len(x), 250)])==y))

def latencies(files, x, seconds=.7):
    "Median milliseconds of one image at one thread, the files in turns; of eight runs the last five count, as the first ones find the caches of another file."
    ss = {k: session(f) for k,f in files.items()}; name = {k: s.get_inputs()[0].name for k,s in ss.items()}; took = {k:[] for k in ss}
    for s,n in zip(ss.values(), name.values()): [s.run(None, {n:x[:1]}) for _ in range(10)]
    end = time.monotonic()+seconds
    while time.monotonic()<end:
        for k,s in ss.items():
            for n in range(8):
                t = time.perf_counter(); s.run(None, {name[k]:x[:1]})
                if n>2: took[k].append(1e3*(time.perf_counter()-t))
    return {k: float(np.median(v)) for k,v in took.items()}

STATES = ('as trained','planted')
def stored(folder, name, state, k): return folder/f'{name}, {state}, {k}.onnx'

def timed(folder, name, state, r, rounds=9):
    "Latency of all files of a network: the lowest of the rounds' medians, since a busy machine only adds."
    files = {k:f.read_bytes() for k in r if (f := stored(folder, name, state, k)).exists()}; x = fashion.images({}, 'test')[0]
    seen = [latencies(files, x) for _ in range(rounds)] if files else []
    for k in files: r[k] |= dict(latency=min(o[k] for o in seen), latency_rounds=[o[k] for o in seen])
    if files: print(name, state, {k: round(r[k]['latency'], 4) for k in files}, flush=True)

def measure(name, planted, r, nncf, keep, folder):
    calib = fashion.images({}, 'calib')[0]; x,y = [np.concatenate(o) for o in zip(*(fashion.images({}, p) for p in planting.PARTS))]; net = network(name, planted); files = {}
    def one(k, make):
        t = time.perf_counter()
        if k in r and ('error' in r[k] or stored(folder, name, STATES[planted], k).exists()): files[k] = stored(folder, name, STATES[planted], k).read_bytes() if 'error' not in r[k] else None; return
        try:
            signal.setitimer(signal.ITIMER_PROF, LIMIT)
            try: f,*evaluated = make()
            finally: signal.setitimer(signal.ITIMER_PROF, 0)
            session(f) # some files are not accepted by the runtime
        except Exception as e: r[k] = dict(error=f'{type(e).__name__}: {str(e).splitlines()[0][:150]}'); keep(); print(name, k, r[k], flush=True); return
        stored(folder, name, STATES[planted], k).write_bytes(f); files[k] = f; done,left = integer_share(f); n,images = evaluated or (0,0); r[k] = dict(accuracy=accuracy(f, x, y), bytes=len(f), integer=done, float=left, evaluations=n, images=images, seconds=time.perf_counter()-t); keep(); print(name, 'planted' if planted else '', k, r[k], flush=True)
    one('float', lambda: (written(net, calib[:64], Recipe(transforms=('fold',), rounding='nearest'), (32,32)),)); f = files['float']; i = session(f).get_inputs()[0].name
    one('quantnb', lambda: (written(net, calib, Recipe(), (8,8)),)); one('quantnb, in sequence', lambda: (written(net, calib, Recipe(), (8,8), True),))
    for m in ('MinMax','Percentile','Entropy'): one(f'quantize_static, {m}', lambda m=m: (static(f, i, calib, m),))
    one('quantize_dynamic', lambda: (dynamic(f),))
    if nncf: sys.path.append(nncf); [one('NNCF, accuracy control' if c else 'NNCF', lambda c=c: nncf_file(f, i, calib, name=='vit', c)) for c in (False,True)]
    r['done'] = True; keep()

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--nets', nargs='*', default=['fashion','mobilenet','vit']); p.add_argument('--nncf', default=''); p.add_argument('--files', type=Path); p.add_argument('--latency', action='store_true'); p.add_argument('--out', type=Path, default=here/'quantizer_peers.json'); a = p.parse_args()
    signal.signal(signal.SIGPROF, late); ms.set_context(mode=ms.GRAPH_MODE); r = json.loads(a.out.read_text()) if a.out.exists() else {}; r['environment'] = environment()
    def keep(): write_atomic(a.out, json.dumps(r, indent=1)+'\n')
    folder = a.files or Path(tempfile.mkdtemp()); folder.mkdir(parents=True, exist_ok=True)
    for n in a.nets:
        for planted,state in enumerate(STATES):
            t = r.setdefault('nets', {}).setdefault(n, {}).setdefault(state, {})
            if a.latency: planted or timed(folder, n, state, t); keep() # the graphs under planted damage are the same
            elif not t.get('done'): measure(n, planted, t, a.nncf, keep, folder)
