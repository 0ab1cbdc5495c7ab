"""SmolLM2-135M, ours beside ONNX Runtime's own tools, on the same float ONNX file and the same windows of text.

    python benchmarks/real/lm_peers.py [--only NAME ...] [--again] [--out benchmarks/real/lm_peers.json]

Each row: perplexity on the test windows (opened for this alone; nothing is chosen by them), bytes of the file, milliseconds of one
window of 128 tokens at one thread (median of 9, all files in turns, so only their ratios mean something). A row that is there is
not made again unless told so; latencies are measured anew for all files that are there. Everything in one process: 6 GB.
"""
import argparse, json, os, platform, sys, time
from pathlib import Path
import numpy as np
import mindspore as ms # before onnx
import onnx, onnxruntime as ort
from fetch import Missing, cache, skipping
import smollm2 as lm
from quantnb.all import *
from quantnb.deploy.engine import OrtEngine
from quantnb.deploy.packing import STORAGE
from quantnb.quant.recipe import Recipe

HERE = Path(__file__).resolve().parent
HEAD = 'tokens.embedding_table'
OURS = { # name: group size, widths of the blocks, widths of the table that is the head, too
    'ours W8, groups of 128': (128, (8, 32), (8, 32)), 'ours W4, groups of 128': (128, (4, 32), (4, 32)), 'ours W4, groups of 128, table W8': (128, (4, 32), (8, 32)),
    'ours W3, groups of 128, table W8': (128, (3, 32), (8, 32)), 'ours W8A8': (None, (8, 8), (8, 8)), 'ours W8': (None, (8, 32), (8, 32))}


def session(file):
    o = ort.SessionOptions(); o.intra_op_num_threads = 1; o.log_severity_level = 3
    return ort.InferenceSession(str(file), o, providers=['CPUExecutionProvider'])

class Net:
    "A file as a function of token numbers."
    def __init__(self, file): self.s = session(file); self.name = self.s.get_inputs()[0].name
    def __call__(self, ids): return self.s.run(None, {self.name: ids.asnumpy()})[0]

def engine(group_size):
    x = lm.get_inputs(); net = lm.get_model()
    e = OrtEngine(net, select(read_graph(net, x), group_size=group_size), x, recipe=Recipe()); t = time.monotonic(); e.calibrate(lm.calibrate)
    print(f'calibrated in {time.monotonic()-t:.0f} s', flush=True); return e

def write(file, parts):
    tmp = file.with_suffix('.part')
    with open(tmp, 'wb') as f: f.writelines(parts)
    tmp.replace(file)

def make_ours(names, folder):
    for size in dict.fromkeys(OURS[n][0] for n in names):
        e = engine(size)
        if not (folder/'float.onnx').exists(): write(folder/'float.onnx', e.float.parts())
        for n in [n for n in names if OURS[n][0] == size]:
            _, block, head = OURS[n]; t = time.monotonic(); e.builder.storage = STORAGE['packed']
            write(folder/f'{n}.onnx', e.builder.parts(Strategy({l.path: head if l.path == HEAD else block for l in e.graph.quantizable}))); e.builder.storage = None
            yield n, time.monotonic()-t

def make_dynamic(float_, out):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(str(float_), str(out), weight_type=QuantType.QInt8, per_channel=True)

def make_static(float_, out):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    class Reader(CalibrationDataReader):
        def __init__(self): self.rows = iter(lm.windows('calib')[:12])
        def get_next(self): r = next(self.rows, None); return None if r is None else {onnx.load(str(float_)).graph.input[0].name: r[None]}
    quantize_static(str(float_), str(out), Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)

def make_nbits(bits):
    def make(float_, out):
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        q = MatMulNBitsQuantizer(onnx.load(str(float_)), bits=bits, block_size=128, is_symmetric=True, accuracy_level=4); q.process(); q.model.save_model_to_file(str(out))
    return make

PEERS = {'ONNX Runtime dynamic': make_dynamic, 'ONNX Runtime static, MinMax': make_static, 'ONNX Runtime 4-bit tool, blocks of 128': make_nbits(4)}


def latencies(files, turns=9):
    "Milliseconds of one window: median over the turns, in each of which every file runs once."
    nets = {n: Net(f) for n, f in files.items()}; x = ms.Tensor(lm.windows('test')[:1]); times = {n: [] for n in nets}
    for k in range(turns+1):
        for n, net in nets.items(): t = time.perf_counter(); net(x); times[n] += [time.perf_counter()-t]*(k > 0)
    return {n: round(1e3*float(np.median(v)), 1) for n, v in times.items()}

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0]); p.add_argument('--only', nargs='*'); p.add_argument('--again', action='store_true'); p.add_argument('--out', type=Path, default=HERE/'lm_peers.json')
    a = p.parse_args(); folder = cache()/'lm_peers'; folder.mkdir(exist_ok=True)
    res = json.loads(a.out.read_text()) if a.out.is_file() else dict(rows={}); rows = res['rows']
    res['environment'] = dict(onnxruntime=ort.__version__, mindspore=ms.__version__, python=platform.python_version(), windows=[len(lm.windows('test')), lm.T])
    wanted = [n for n in ['float', *OURS, *PEERS] if (not a.only or n in a.only) and (a.again or n not in rows)]
    def done(name, seconds=None):
        file = folder/f'{name}.onnx'; r = lm.test(Net(file)); rows[name] = dict(perplexity=r['perplexity'], right=r['right'], bytes=file.stat().st_size, seconds=seconds and round(seconds, 1))
        tmp = a.out.with_name(a.out.name+'.part'); tmp.write_text(json.dumps(res, indent=1)+'\n'); tmp.replace(a.out); print(name, rows[name], flush=True)
    for n, s in make_ours([n for n in OURS if n in wanted] or ['ours W8']*(not (folder/'float.onnx').exists()), folder): n in wanted and done(n, s)
    if 'float' in wanted: done('float')
    for n, make in PEERS.items():
        if n not in wanted: continue
        t = time.monotonic()
        try: make(folder/'float.onnx', folder/f'{n}.onnx')
        except Exception as e: rows[n] = dict(failed=f'{type(e).__name__}: {str(e).splitlines()[0][:200]}'); print(n, rows[n]); continue
        done(n, time.monotonic()-t)
    for n, v in latencies({n: folder/f'{n}.onnx' for n in rows if (folder/f'{n}.onnx').exists()}).items(): rows[n]['ms'] = v
    a.out.write_text(json.dumps(res, indent=1)+'\n'); print({n: r.get('ms') for n, r in rows.items()})


if __name__ == '__main__':
    with skipping(): main()
