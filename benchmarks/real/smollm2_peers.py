"""SmolLM2-135M by other tools, from the float ONNX file that quantnb writes: perplexity, bytes, latency, seconds, memory.

    python benchmarks/real/smollm2_peers.py [--nncf FOLDER] [--files FOLDER] [--again NAME …] [--out benchmarks/real/smollm2_peers.json]
    python benchmarks/real/smollm2_peers.py --latency --files FOLDER     # of the files that are there, and of --ours FILE …; best on a quiet machine

Each tool works in a process of its own, on the same file and, where it calibrates, the same 48 windows of comedies as quantnb. NNCF is
imported from FOLDER, the site-packages of an environment that has it (`pip install nncf openvino`), or left out. Perplexity is that of the
64 test windows of smollm2.py, by ONNX Runtime at one thread; latency is one window of 128 tokens at one thread, all files in turns, the lowest of the medians of
five rounds. Figures are kept as they come; a second run goes on.
"""
import argparse, json, resource, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]


def export(file):
    "The float network as quantnb writes it."
    import mindspore as ms, smollm2 as m
    from quantnb.all import OrtEngine, Recipe, read_graph, select
    net = m.get_model(); x = m.get_inputs(); e = OrtEngine(net, select(read_graph(net, x)), x, recipe=Recipe(rounding='nearest', transforms=()))
    e.calibrate(lambda n: n(ms.Tensor(m.windows('calib')[:1]))); file.write_bytes(e.float.bytes())


def windows(part):
    import smollm2 as m
    return m.windows(part)


def dynamic(src, dst):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(str(src), str(dst), per_channel=True, weight_type=QuantType.QInt8)


def static(src, dst, **how):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    w = windows('calib'); name = onnx.load(str(src), load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self): self.it = iter({name: w[k:k+1]} for k in range(len(w)))
        def get_next(self): return next(self.it, None)
    quantize_static(str(src), str(dst), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, **how)


def blocks(src, dst, bits=4, tables=False):
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.quant_utils import QuantFormat
    q = MatMulNBitsQuantizer(onnx.load(str(src)), bits=bits, block_size=128, is_symmetric=True, accuracy_level=4, quant_format=QuantFormat.QOperator, op_types_to_quantize=('MatMul', 'Gather') if tables else ('MatMul',))
    q.process(); q.model.save_model_to_file(str(dst), False)


def nncf(src, dst, mode='INT8_SYM', **how):
    import onnx, nncf
    if how.pop('data', False): w = windows('calib'); name = onnx.load(str(src)).graph.input[0].name; how['dataset'] = nncf.Dataset([{name: w[k:k+1]} for k in range(len(w))])
    if mode.startswith('INT4'): how |= dict(ratio=1.0, group_size=64) # 576 inputs do not divide by 128; all_layers=True gives a file that ONNX Runtime does not run
    onnx.save(nncf.compress_weights(onnx.load(str(src)), mode=nncf.CompressWeightsMode[mode], **how), str(dst))


TOOLS = {
    'ONNX Runtime dynamic': dynamic,
    'ONNX Runtime static': static,
    'ONNX Runtime 8-bit blocks': lambda s, d: blocks(s, d, 8),
    'ONNX Runtime 4-bit blocks': blocks,
    'ONNX Runtime 4-bit blocks, tables too': lambda s, d: blocks(s, d, tables=True),
    'NNCF 8 bits': nncf,
    'NNCF 4 bits': lambda s, d: nncf(s, d, 'INT4_SYM'),
    'NNCF 4 bits, AWQ and scales by data': lambda s, d: nncf(s, d, 'INT4_SYM', data=True, awq=True, scale_estimation=True),
}


def judge(file):
    "Perplexity on the test windows and the file's bytes."
    import onnxruntime as ort
    from quantnb.perplexity import perplexity
    o = ort.SessionOptions(); o.intra_op_num_threads = 1; s = ort.InferenceSession(str(file), o); name = s.get_inputs()[0].name
    r = perplexity(lambda t: s.run(None, {name: t.asnumpy()})[0], windows('test'))
    return dict(perplexity=r['perplexity'], right=r['right'], mb=sum(f.stat().st_size for f in file.parent.glob(file.name+'*'))/1e6)


def one(name, src, dst, extra):
    "Make a file and judge it, in a process of its own."
    import mindspore # before onnx
    begun = time.time()
    if name == 'float': export(dst)
    else:
        if extra: sys.path.append(extra)
        TOOLS[name](src, dst)
    made = time.time()-begun; peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6
    print(json.dumps(dict(seconds=made, peak_gb=peak)))


def latency(files, rounds=5, repeat=7):
    "Milliseconds of one window at one thread, the files in turns."
    import onnxruntime as ort
    o = ort.SessionOptions(); o.intra_op_num_threads = 1; x = windows('test')[:1]; ss = {k: ort.InferenceSession(str(f), o) for k, f in files.items()}; best = {}
    for _ in range(rounds):
        for k, s in ss.items():
            feed = {s.get_inputs()[0].name: x}; s.run(None, feed); ts = []
            for _ in range(repeat): t = time.perf_counter(); s.run(None, feed); ts.append(time.perf_counter()-t)
            best[k] = min(best.get(k, 1e9), 1e3*float(np.median(ts)))
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--nncf', default=''); p.add_argument('--files', type=Path); p.add_argument('--again', nargs='*', default=[]); p.add_argument('--out', type=Path, default=HERE/'smollm2_peers.json'); p.add_argument('--latency', action='store_true'); p.add_argument('--ours', nargs='*', default=[]); p.add_argument('--one', nargs=4, help=argparse.SUPPRESS)
    p.add_argument('--judge', type=Path, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one: return one(a.one[0], Path(a.one[1]), Path(a.one[2]), a.one[3])
    if a.judge: return print(json.dumps(judge(a.judge)))
    folder = a.files or Path(tempfile.mkdtemp()); folder.mkdir(exist_ok=True, parents=True); results = json.loads(a.out.read_text()) if a.out.is_file() else {}
    where = lambda k: folder/(k.replace(' ', '_').replace(',', '')+'.onnx')

    def save(): tmp = a.out.with_name(a.out.name+'.part'); tmp.write_text(json.dumps(results, indent=1)+'\n'); tmp.replace(a.out)
    if a.latency:
        files = {k: where(k) for k in results if where(k).is_file() and 'perplexity' in results[k]} | {f'quantnb {Path(f).stem}': Path(f) for f in a.ours}
        for k, t in latency(files).items(): results.setdefault(k, {})['ms'] = t; print(k, f'{t:.0f} ms')
        return save()

    def child(*words): return subprocess.run([sys.executable, __file__, *map(str, words)], capture_output=True, text=True, timeout=1500)
    for k in ['float', *TOOLS]:
        if k.startswith('NNCF') and not a.nncf or k in results and k not in a.again and (k != 'float' or where(k).is_file()): continue
        r = child('--one', k, where('float'), where(k), a.nncf if k.startswith('NNCF') else '')
        try: results[k] = json.loads(r.stdout.strip().splitlines()[-1]) if not r.returncode else dict(failed=(r.stderr.strip().splitlines() or ['killed'])[-1][:300])
        except (ValueError, IndexError): results[k] = dict(failed='no answer')
        if 'failed' not in results[k]:
            r = child('--judge', where(k)); results[k] |= json.loads(r.stdout.strip().splitlines()[-1]) if not r.returncode else dict(failed=(r.stderr.strip().splitlines() or ['killed'])[-1][:300])
        save(); print(k, results[k], flush=True)


if __name__ == '__main__': main()
