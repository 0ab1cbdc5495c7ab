"""EfficientNet-Lite0, all-MiniLM-L6-v2 and ViT-S/14 by other tools, from the float ONNX file that quantnb writes, next to quantnb's own files.

    python benchmarks/real/peers.py --files FOLDER [--nets efficientnet minilm vit] [--nncf FOLDER] [--again NAME …] [--out benchmarks/real/peers.json]
    python benchmarks/real/peers.py --files FOLDER --latency     # of the files that are there, all of a network in turns

quantnb runs the network's yml, as run.py does it, and leaves its float file, the delivered one, and those of 8 and 4 bits everywhere, prepared as the delivered
one is. Each other tool works in a process of its own on that float file, with the calibration inputs of the network's script in the same order. ONNX Runtime's
own preparation (shapes, batch norms folded) comes before all of them. NNCF is imported from FOLDER, the site-packages of an environment that has it
(`pip install nncf openvino`), or left out; its transformers are in opset 20 (see quantizer_peers.py). Each file is judged by the script's own test function
on the test data, by ONNX Runtime at one thread. Integer products are those convolutions and products of the runtime's optimised graph that compute with integers, of all of
them, those of two activations included. Latency is one photograph, or one sentence of 64 tokens, at one
thread, in time of the processor, so that other work on the machine is not counted: the lowest of five medians. Figures are kept as they come; a second run goes on.
"""
import argparse, importlib, json, resource, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
BYTES = 14_000_000_000 # of addresses that a tool may take


def rows(name, part='calib', one=False):
    "The inputs of a network in the order of its script, a dictionary for each sample, or for the first one only."
    m = importlib.import_module(name)
    if name == 'minilm': ids, mask = m.tokens(m.sentences(), m.CALIB_TOKENS); res = [dict(input_ids=ids[k:k+1], attention_mask=mask[k:k+1]) for k in range(len(ids))]
    else: x = m.images(part); res = [dict(x=x[k:k+1]) for k in range(len(x))]
    return res[0] if one else res


def step(name, folder):
    "A search of the network's yml that writes below a folder."
    from quantnb.config import load
    from quantnb.run.pipeline import SearchPipeStep
    from quantnb.task import Task
    return SearchPipeStep(Task.from_config(load(HERE/f'{name}.yml', (f'general.task.local_base_path={folder}',))), progress=False)


def ours(name, folder):
    "Run the network's yml; the float file, the delivered one, and 8 and 4 bits everywhere, into the folder."
    with tempfile.TemporaryDirectory() as d:
        s = step(name, d); s.run(); b = s.exporter.builder; files = {'float':b.build(None), 'quantnb delivered':b.build(s.delivered)}
        for k, u in uniforms(s).items(): files[f'quantnb {k.split()[1]} bits'] = b.build(s.delivered if s.delivered.plain == u else s.in_sequence(u) if s.delivered.own else u)
        for k, f in files.items(): path(folder, name, k).write_bytes(f)
        return dict(widths={str(w): sum(o.w == w for o in s.delivered.plain.values()) for w in sorted({o.w for o in s.delivered.plain.values()})}, missed=s.result.get('missed'))


def uniforms(s):
    from quantnb.run.prepare import uniforms
    return uniforms(s.config, s.graph)


def as_searched(name, src, dst):
    "8 bits everywhere with the weights that the search evaluates, rounded before it is known what the layers before give."
    with tempfile.TemporaryDirectory() as d: s = step(name, d); s.prepared.open_network(); dst.write_bytes(s.exporter.builder.build(uniforms(s)['uniform 8']))


def path(folder, name, k): return folder/f'{name}_{k.replace(" ", "_").replace(",", "")}.onnx'


def prepared(src):
    "The float file as ONNX Runtime's preparation leaves it, or as it was where that fails; whether it was prepared."
    from onnxruntime.quantization.shape_inference import quant_pre_process
    dst = src.with_suffix('.prepared')
    for skip in False, True:
        try: quant_pre_process(str(src), str(dst), skip_symbolic_shape=skip); return dst, True
        except Exception as e: print(f'preparation: {type(e).__name__}: {e}', file=sys.stderr)
    return src, False


def dynamic(name, src, dst):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(str(src), str(dst), per_channel=True, weight_type=QuantType.QInt8)


def static(name, src, dst, method='MinMax'):
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self): self.it = iter(rows(name))
        def get_next(self): return next(self.it, None)
    quantize_static(str(src), str(dst), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, calibrate_method=CalibrationMethod[method])


def blocks(name, src, dst, bits):
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.quant_utils import QuantFormat
    q = MatMulNBitsQuantizer(products(onnx.load(str(src))), bits=bits, block_size=128, is_symmetric=True, accuracy_level=4, quant_format=QuantFormat.QOperator, op_types_to_quantize=('MatMul', 'Gather'))
    q.process(); q.model.save_model_to_file(str(dst), False)


def products(model):
    "Gemm of a constant, written as MatMul and Add: the tool for blocks knows MatMul alone."
    import onnx
    from onnx import helper, numpy_helper
    g = model.graph; init = {t.name: t for t in g.initializer}; res = []
    for n in g.node:
        a = {o.name: helper.get_attribute_value(o) for o in n.attribute}
        if n.op_type != 'Gemm' or n.input[1] not in init or a.get('transA') or a.get('alpha', 1) != 1 or a.get('beta', 1) != 1: res.append(n); continue
        w = n.input[1]
        if a.get('transB'): t = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(init[w]).T), n.output[0]+'_weight'); g.initializer.append(t); w = t.name
        y = n.output[0]+'_product' if len(n.input) > 2 else n.output[0]; res.append(helper.make_node('MatMul', [n.input[0], w], [y], n.output[0]+'_matmul'))
        if len(n.input) > 2: res.append(helper.make_node('Add', [y, n.input[2]], n.output))
    del g.node[:]; g.node.extend(res); used = {i for n in res for i in n.input}; keep = [t for t in g.initializer if t.name in used]; del g.initializer[:]; g.initializer.extend(keep)
    return model


def opened(name, src):
    "The float file as NNCF gets it."
    import onnx, onnx.version_converter
    m = onnx.load(str(src))
    if name == 'efficientnet': return m
    m = onnx.version_converter.convert_version(m, 20); m.ir_version = min(m.ir_version, 9); return m


def nncf_static(name, src, dst):
    import onnx, nncf
    data = rows(name); onnx.save(nncf.quantize(opened(name, src), nncf.Dataset(data), subset_size=len(data), model_type=None if name == 'efficientnet' else nncf.ModelType.TRANSFORMER), str(dst))


def nncf_weights(name, src, dst, mode='INT8_SYM', **how):
    import onnx, nncf
    if how.pop('data', False): how['dataset'] = nncf.Dataset(rows(name))
    if mode.startswith('INT4'): how |= dict(ratio=1.0, group_size=128)
    how['ignored_scope'] = nncf.IgnoredScope(types=['Conv'], validate=False) # with convolutions it writes a file that the runtime refuses: scale and axis of their DequantizeLinear do not fit
    onnx.save(nncf.compress_weights(onnx.load(str(src)), mode=nncf.CompressWeightsMode[mode], **how), str(dst))


def attention(name, src, dst):
    "quantnb's file of 8 bits with the products of two activations on 8-bit grids, too: one for a tensor, from lowest to highest value in calibration."
    import onnx
    from onnx import helper, numpy_helper
    m = onnx.load(str(path(dst.parent, name, 'quantnb 8 bits'))); g = m.graph; made = {n.output[0]: n.op_type for n in g.node}
    reads = [n for n in g.node if n.op_type == 'MatMul' and not any(made.get(i) == 'DequantizeLinear' or i not in made for i in n.input)]; seen = list(dict.fromkeys(i for n in reads for i in n.input)); low, high = {}, {}
    watch = onnx.ModelProto(); watch.CopyFrom(m); watch.graph.output.extend(helper.make_empty_tensor_value_info(k) for k in seen); watch.ir_version = min(watch.ir_version, 10); s = session(watch.SerializeToString())
    for row in rows(name):
        for k, v in zip(seen, s.run(seen, row)): low[k], high[k] = min(low.get(k, 0.), float(v.min())), max(high.get(k, 0.), float(v.max()))
    after = {}
    for k in seen:
        scale = (high[k]-low[k])/255; zero = np.uint8(round(-low[k]/scale)); g.initializer.extend([numpy_helper.from_array(np.float32(scale), k+'_s'), numpy_helper.from_array(zero, k+'_z')])
        after[k] = [helper.make_node('QuantizeLinear', [k, k+'_s', k+'_z'], [k+'_q']), helper.make_node('DequantizeLinear', [k+'_q', k+'_s', k+'_z'], [k+'_dq'])]
    for n in reads: n.input[:] = [i+'_dq' for i in n.input]
    nodes = [o for n in g.node for o in (n, *(q for y in n.output for q in after.get(y, ())))]; del g.node[:]; g.node.extend(nodes); onnx.save(m, str(dst))


OURS = ['float', 'quantnb 8 bits', 'quantnb delivered', 'quantnb 4 bits']
TOOLS = {
    'quantnb 8 bits, as searched': as_searched,
    **{f'ONNX Runtime static, {m}': lambda *o, m=m: static(*o, m) for m in ('MinMax', 'Percentile', 'Entropy')},
    'ONNX Runtime dynamic': dynamic,
    'NNCF quantize': nncf_static,
    'quantnb 8 bits, attention too': attention,
    'ONNX Runtime 8-bit blocks': lambda *o: blocks(*o, 8),
    'ONNX Runtime 4-bit blocks': lambda *o: blocks(*o, 4),
    'NNCF weights 8 bits': nncf_weights,
    'NNCF weights 4 bits': lambda *o: nncf_weights(*o, 'INT4_SYM'),
    'NNCF weights 4 bits, AWQ and scales by data': lambda *o: nncf_weights(*o, 'INT4_SYM', data=True, awq=True, scale_estimation=True),
}


def session(file):
    import onnxruntime as ort
    o = ort.SessionOptions(); o.intra_op_num_threads = 1; o.log_severity_level = 3
    return ort.InferenceSession(file if isinstance(file, bytes) else str(file), o, providers=['CPUExecutionProvider'])


def judge(name, file):
    "The script's scores on the test data, and on the data of the search; bytes; integer and float products."
    import mindspore as ms
    from quantnb.deploy.qdq import HEAVY, INTEGER, optimized
    m = importlib.import_module(name); s = session(file); names = [i.name for i in s.get_inputs()]
    net = lambda *xs: ms.Tensor(s.run(None, dict(zip(names, (x.asnumpy() for x in xs))))[0])
    ops = [n.op_type for n in optimized(file.read_bytes()).graph.node]
    done = sum(o in INTEGER or o == 'MatMulNBits' for o in ops); left = sum(o in HEAVY or o in ('FusedConv', 'FusedGemm', 'FusedMatMul') for o in ops)
    return dict(test=m.test(net), search=m.evaluate(net), mb=file.stat().st_size/1e6, integer=[done, done+left])


def one(name, k, folder, extra):
    "Make a file, or quantnb's four, in a process of its own."
    import mindspore # before onnx
    begun = time.time(); said = {}; resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    if k in OURS: said = ours(name, folder)
    else:
        src, said['prepared'] = prepared(path(folder, name, 'float'))
        if extra: sys.path.append(extra)
        TOOLS[k](name, src, path(folder, name, k))
    print(json.dumps(dict(seconds=time.time()-begun, peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6, **said)))


def latency(name, files, rounds=5, repeat=9):
    "Milliseconds of one sample at one thread, the files in turns; what other work on the machine took of the core is not counted."
    x = rows(name, one=True); ss = {k: session(f) for k, f in files.items()}; best = {}
    for _ in range(rounds):
        for k, s in ss.items():
            for _ in range(3): s.run(None, x)
            ts = []
            for _ in range(repeat): t = time.thread_time(); s.run(None, x); ts.append(time.thread_time()-t)
            best[k] = min(best.get(k, 1e9), 1e3*float(np.median(ts)))
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--nets', nargs='*', default=['efficientnet', 'minilm', 'vit']); p.add_argument('--nncf', default=''); p.add_argument('--files', type=Path, required=True); p.add_argument('--again', nargs='*', default=[])
    p.add_argument('--out', type=Path, default=HERE/'peers.json'); p.add_argument('--latency', action='store_true'); p.add_argument('--one', nargs=3, help=argparse.SUPPRESS); p.add_argument('--judge', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args(); folder = a.files.resolve(); folder.mkdir(exist_ok=True, parents=True)
    if a.one: return one(*a.one[:2], folder, a.one[2])
    if a.judge: return print(json.dumps(judge(a.judge[0], Path(a.judge[1]))))
    results = json.loads(a.out.read_text()) if a.out.is_file() else {}

    def save(): tmp = a.out.with_name(a.out.name+'.part'); tmp.write_text(json.dumps(results, indent=1)+'\n'); tmp.replace(a.out)
    def child(*words):
        try: r = subprocess.run([sys.executable, __file__, '--files', str(folder), *map(str, words)], capture_output=True, text=True, timeout=1500)
        except subprocess.TimeoutExpired: return dict(failed='no answer in 1500 seconds')
        try: return json.loads(r.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError): return dict(failed=next((o for o in reversed(r.stderr.splitlines()) if 'Error' in o or 'Exception' in o or 'bad_alloc' in o), 'killed').replace(str(folder), 'FOLDER')[:300])
    for name in a.nets:
        known = results.setdefault(name, {})
        if a.latency:
            files = {k: path(folder, name, k) for k in known if 'test' in known[k] and path(folder, name, k).is_file()}
            for k, t in latency(name, files).items(): known[k]['ms'] = t; print(name, k, f'{t:.1f} ms', flush=True)
            save(); continue
        if any(k not in known or k in a.again or not path(folder, name, k).is_file() for k in OURS):
            made = child('--one', name, 'float', '')
            for k in OURS: known[k] = dict(made) if 'failed' in made else {**made, **child('--judge', name, path(folder, name, k))}; print(name, k, known[k], flush=True); save()
        for k in TOOLS:
            if k.startswith('NNCF') and not a.nncf or TOOLS[k] is attention and name == 'efficientnet' or k in known and k not in a.again: continue
            known[k] = child('--one', name, k, a.nncf if k.startswith('NNCF') else '')
            if 'failed' not in known[k]: known[k] |= child('--judge', name, path(folder, name, k))
            save(); print(name, k, known[k], flush=True)


if __name__ == '__main__': main()
