"""Files with packed weights: bytes, answers, speed, and what opening them costs.

    python benchmarks/packing.py [fashion resnet50 encoder] [--parts files latency opening openvino] [--openvino PYTHON] [--out benchmarks/packing.json]

* files: bytes at 2 to 8 bits, as the search counts them, as a file of whole bytes and as a packed one; both answer the same.
* latency: the packed and the whole-byte file of each width take turns on one thread; a ratio, so that a busy machine does less harm.
* opening: a process of its own opens one file with ONNX Runtime alone: seconds (the median of five processes) and peak memory above that of the import.
* openvino: the same answers, operators that are left when the file is compiled, and the ratio of both files in turns; PYTHON is an interpreter that has OpenVINO.

The networks: the trained example, a ResNet-50 for 224x224 images and a transformer encoder, 25 million weights each, untrained.
Parts that are not asked for keep their results in the file."""
import argparse, json, statistics as st, subprocess, sys, tempfile, time
from pathlib import Path
here = Path(__file__).parent; NETS,PARTS,BITS = ('fashion','resnet50','encoder'),('files','latency','opening','openvino'),(2,3,4,5,6,7,8)

def open_net(name):
    "Engine, calibrated; rows to run."
    import numpy as np, mindspore as ms, quantnb, nets
    from quantnb.all import OrtEngine, Task, open_engine, read_graph, select
    if name=='fashion':
        t = Task.from_yaml(here.parent/'examples'/'fashion'/'quant.yml'); e = open_engine(t); return e,np.concatenate([xs[0] for xs in e.quantizer.inputs])[:64]
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); np.random.seed(0); rng = np.random.default_rng(0)
    net,shape = (nets.ResNet50(),(3,224,224)) if name=='resnet50' else (nets.Encoder(d=512, heads=8, ff=2048, depth=8),(1,32,32))
    x = rng.normal(size=(4,*shape)).astype(np.float32); i = (ms.Tensor(x[:1]),); net = net.set_train(False)
    e = OrtEngine(net, select(read_graph(net, i)), i); e.calibrate(lambda m: m(ms.Tensor(x))); return e,x

def write(name, folder):
    "All files of a network; what is known of them."
    import numpy as np
    from quantnb.all import CostModel, QdqBuilder, Strategy
    e,x = open_net(name); ps = [l.path for l in e.graph.quantizable]; cost = CostModel([l for l in e.graph.layers if l.calls]); whole = QdqBuilder(e.float, e.quantizer); res = {}
    np.savez(folder/'feed.npz', **{e.float.inputs[0].name:x}); (folder/'float.onnx').write_bytes(e.float.bytes())
    for b in BITS:
        s = Strategy.uniform(ps, b, 8)
        for k,f in dict(whole=whole, packed=e.builder).items(): (folder/f'{k}{b}.onnx').write_bytes(f.build(s))
        res[b] = dict(counted=round(1e3*cost.metrics(s)['size_kb']), **{k:(folder/f'{k}{b}.onnx').stat().st_size for k in ('whole','packed')})
    return dict(layers=len(ps), weights=sum(l.n for l in e.graph.quantizable), float=(folder/'float.onnx').stat().st_size, float_counted=round(1e3*cost.metrics(Strategy())['size_kb']), bits=res)

def feed_of(folder):
    import numpy as np
    return dict(np.load(folder/'feed.npz'))

def files(folder):
    "Largest difference between the answers of both files, and the runtime's operators."
    import numpy as np, quantnb
    from quantnb.all import optimized, session
    feed,res = feed_of(folder),{}
    for b in BITS:
        both = [folder/f'{k}{b}.onnx' for k in ('whole','packed')]; a = [session(f).run(None, feed)[0] for f in both]; g = [[n.op_type for n in optimized(f).graph.node] for f in both]
        res[b] = dict(off=float(np.abs(a[0]-a[1]).max()), same_operators=g[0]==g[1], operators=len(g[0]), std=float(a[0].std()))
    return res

def turns(sessions, feed, seconds=4., least=15):
    "Milliseconds of each of some sessions that take turns, one run each."
    t,order,begun = {k:[] for k in sessions},list(sessions),time.perf_counter()
    for s in sessions.values(): s.run(None, feed)
    while time.perf_counter()-begun<seconds or min(map(len, t.values()))<least:
        for k in order: b = time.perf_counter(); sessions[k].run(None, feed); t[k].append(1e3*(time.perf_counter()-b))
        order.reverse()
    return {k:dict(ms=st.median(v), least=min(v), n=len(v)) for k,v in t.items()}

def ratios(folder, open_):
    "Packed over whole bytes, of medians and of minima, for each width."
    feed = {k:v[:1] for k,v in feed_of(folder).items()}; res = {}
    for b in BITS: r = turns({k:open_(folder/f'{k}{b}.onnx') for k in ('whole','packed')}, feed); res[b] = dict(**r, ratio=r['packed']['ms']/r['whole']['ms'], ratio_least=r['packed']['least']/r['whole']['least'])
    return res

def latency(folder):
    import quantnb
    from quantnb.all import session
    return ratios(folder, session)

def opening(folder, times=5):
    res = {}
    for f in ['float.onnx', 'whole8.onnx', *(f'packed{b}.onnx' for b in BITS[:-1])]:
        rs = [json.loads(subprocess.run([sys.executable, __file__, '--open', folder/f], capture_output=True, text=True, check=True).stdout) for _ in range(times)]
        res[f.removesuffix('.onnx')] = dict(seconds=st.median(r['seconds'] for r in rs), least=min(r['seconds'] for r in rs), mb=st.median(r['mb'] for r in rs), kept=st.median(r['kept'] for r in rs), bytes=(folder/f).stat().st_size)
    return res

def open_one(path):
    "In a process that has imported the runtime and nothing else."
    import onnxruntime as ort
    def mb(key): return next(int(l.split()[1])/1e3*1.024 for l in open('/proc/self/status') if l.startswith(key))
    so = ort.SessionOptions(); so.intra_op_num_threads = 1; so.log_severity_level = 3; before = mb('VmRSS')
    t = time.perf_counter(); s = ort.InferenceSession(path, so, providers=['CPUExecutionProvider']); t = time.perf_counter()-t
    print(json.dumps(dict(seconds=t, mb=mb('VmHWM')-before, kept=mb('VmRSS')-before)))

def openvino(folder):
    "Runs in an interpreter with OpenVINO."
    import numpy as np, openvino as ov
    core,settings = ov.Core(),dict(PERFORMANCE_HINT='LATENCY', NUM_STREAMS=1, INFERENCE_PRECISION_HINT='f32', INFERENCE_NUM_THREADS=1)
    class Model:
        def __init__(self, path): t = time.perf_counter(); self.model = core.compile_model(core.read_model(str(path)), 'CPU', settings); self.seconds = time.perf_counter()-t; self.request = self.model.create_infer_request()
        def run(self, _, feed): self.request.infer(feed, share_inputs=True); return [np.array(o.data) for o in self.request.output_tensors]
    feed,res = feed_of(folder),ratios(folder, Model)
    for b in BITS:
        both = [Model(folder/f'{k}{b}.onnx') for k in ('whole','packed')]; a = [m.run(None, feed)[0] for m in both]
        res[b] |= dict(off=float(np.abs(a[0]-a[1]).max()), operators=[len(m.model.get_runtime_model().get_ops()) for m in both], opened=[m.seconds for m in both])
    return dict(version=ov.__version__.split('-')[0], bits=res)

def child(python, *words):
    r = subprocess.run([python, __file__, *map(str, words)], capture_output=True, text=True)
    if r.returncode: sys.exit(r.stderr)
    return json.loads(r.stdout.rpartition('RESULT ')[2])

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('nets', nargs='*', default=NETS); p.add_argument('--parts', nargs='+', default=PARTS); p.add_argument('--openvino', default=sys.executable); p.add_argument('--out', type=Path, default=here/'packing.json'); p.add_argument('--open'); p.add_argument('--child', nargs=3)
    a = p.parse_args()
    if a.open: open_one(a.open); return
    if a.child: f,n,d = a.child; print('\nRESULT '+json.dumps(write(n, Path(d)) if f=='write' else globals()[f](Path(d)))); return
    res = json.loads(a.out.read_text()) if a.out.exists() else {}
    for n in a.nets:
        with tempfile.TemporaryDirectory() as d:
            made = child(sys.executable, '--child', 'write', n, d); r = res.setdefault(n, {}); r.update({**made, 'bits':{b:{**(r.get('bits') or {}).get(str(b), {}), **v} for b,v in made['bits'].items()}})
            for part in a.parts:
                got = child(a.openvino if part=='openvino' else sys.executable, '--child', part, n, d); print(n, part, got, flush=True)
                if part=='files':
                    for b,v in got.items(): r['bits'][b] |= v
                else: r[part] = got
        a.out.write_text(json.dumps(res, indent=1)+'\n')

if __name__=='__main__': main()
