"""Whisper base by other tools, from the float ONNX files of its encoder and of a step of its decoder that quantnb writes, next to quantnb's own.

    python benchmarks/real/whisper_peers.py --files FOLDER [--nncf FOLDER] [--again NAME …] [--out benchmarks/real/whisper_peers.json]
    python benchmarks/real/whisper_peers.py --files FOLDER --latency     # of the files that are there, all in turns

quantnb's files have 8 bits everywhere, weights rounded to nearest; those called dynamic have the scales of dense layers' activations computed when they run. Each tool works in a process of its own and calibrates, where it does, on the same eight
recordings (four clips, each clean and in noise), written down by the float files. NNCF is imported from FOLDER, the site-packages of an environment that has
it (`pip install nncf openvino`), or left out. Both files of a tool are judged together on the five test clips by ONNX Runtime at one thread: wrong words, negative
log likelihood of a token, and what a call of either file takes of the processor, the median, which other work on the machine changes little. Latency is one clip's encoder, and one step of the decoder with a cache of 64 positions, at one thread: the lowest of
the medians. Figures are kept as they come; a second run goes on.
"""
import argparse, json, resource, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
SIDES = 'encoder', 'decoder'


def where(folder, name, side): return folder/f'{name.replace(" ", "_").replace(",", "")}.{side}.onnx'


def ours(folder, ranges='mse', **names):
    "Write files for each name and width (None: float); how many layers were found."
    import mindspore as ms, whisper as m # before onnx
    from quantnb.all import OrtEngine, Recipe, Strategy, read_graph, select
    begun = time.time(); done = lambda what: print(f'{what}: {time.time()-begun:.0f} s, {time.process_time():.0f} s of the processor', file=sys.stderr, flush=True)
    net, x = m.get_model(), m.get_inputs(); graph = select(read_graph(net, x)); done('graph')
    e = OrtEngine(net, graph, x, recipe=Recipe(rounding='nearest', ranges=ranges), workers=1); done('engine')
    e.calibrate(m.calibrate); done('calibrated')
    paths = [l.path for l in e.graph.quantizable]
    for name, bits in names.items():
        for k, f in e.deployed.files(bits and Strategy.uniform(paths, bits, bits)).items():
            side = k.split('.')[1]
            if side in SIDES: where(folder, name, side).write_bytes(f)
        done(name)
    return dict(layers=len(paths))


def sessions(folder, name, spent=None):
    "Functions of arrays that run the two files of a tool, for speech.py; milliseconds of the processor of each call go into `spent`, lists by side."
    import onnxruntime as ort
    o = ort.SessionOptions(); o.intra_op_num_threads = 1; ss = [ort.InferenceSession(str(where(folder, name, side)), o) for side in SIDES]

    def run(k, xs):
        begun = time.process_time(); res = ss[k].run(None, {i.name: x for i, x in zip(ss[k].get_inputs(), xs)})
        if spent is not None: spent.setdefault(SIDES[k], []).append(1e3*(time.process_time()-begun))
        return res
    return lambda x: run(0, [x]), lambda *xs: run(1, xs)


def fed(folder, side, names):
    "What the float files give each other on the calibration recordings: dictionaries for one side; of the decoder every third step."
    import speech
    encode, step = sessions(folder, 'float'); res = []
    for x, _ in speech.clips('calib'):
        if side == 'encoder': res.append(dict(zip(names, [x]))); continue
        kept = []
        def watched(*xs): kept.append(xs); return step(*xs)
        speech.write(encode, watched, x); res += [dict(zip(names, xs)) for xs in kept[::3]]
    return res


def inputs(src):
    import onnx
    return [i.name for i in onnx.load(str(src), load_external_data=False).graph.input]


def dynamic(folder, side, src, dst):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(str(src), str(dst), per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=['MatMul', 'Gemm', 'Gather', 'Attention']) # its ConvInteger does not run with int8 weights


def static(folder, side, src, dst):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self): self.it = iter(fed(folder, side, inputs(src)))
        def get_next(self): return next(self.it, None)
    quantize_static(str(src), str(dst), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)


def weights(folder, side, src, dst):
    import nncf, onnx
    onnx.save(nncf.compress_weights(onnx.load(str(src)), mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=nncf.IgnoredScope(types=['Conv'], validate=False)), str(dst)) # with convolutions ONNX Runtime refuses the file


def quantize(folder, side, src, dst):
    import nncf, onnx, onnx.version_converter
    data = fed(folder, side, inputs(src)); m = onnx.load(str(src))
    if max(o.version for o in m.opset_import if o.domain in ('', 'ai.onnx')) > 20: m = onnx.version_converter.convert_version(m, 20); m.ir_version = min(m.ir_version, 9) # of a later one ONNX Runtime refuses the file
    onnx.save(nncf.quantize(m, nncf.Dataset(data), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(data)), str(dst))


OURS = {'float': lambda folder: ours(folder, **{'float': None, 'quantnb 8 bits': 8}), 'quantnb 8 bits, dynamic': lambda folder: ours(folder, 'dynamic', **{'quantnb 8 bits, dynamic': 8})}
TOOLS = {'ONNX Runtime dynamic': dynamic, 'ONNX Runtime static': static, 'NNCF 8 bits, weights': weights, 'NNCF quantize': quantize}


def judge(folder, name):
    "Wrong words, likelihood, bytes, and the processor's time of a call, of the two files of a tool."
    import speech
    spent = {}; encode, step = sessions(folder, name, spent); nll, heard = [], []
    for x, text in speech.clips('test'):
        memory = encode(x); once = lambda _: memory
        nll.append(speech.foretell(once, step, x, text)); heard.append(speech.write(once, step, x))
    r = speech.summary('test', nll, heard); r.pop('samples')
    return dict(**r, heard=heard, mb={side: where(folder, name, side).stat().st_size/1e6 for side in SIDES}, processor_ms={k: float(np.median(v)) for k, v in spent.items()},
        peak_gb_run=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6)


def latency(folder, names, rounds=3, repeat=5):
    "Milliseconds of a clip's encoder and of a step with a cache of 64 positions, at one thread, the files in turns."
    import speech
    x = speech.clips('test')[0][0]; fs = {k: sessions(folder, k) for k in names}; memory = fs['float'][0](x); past = [np.zeros((1, 6, speech.LENGTH, 512), np.float32)]*2; best = {}
    step = (np.array([100], np.int32), np.array([40], np.int32), *past, *memory)
    for r in range(rounds):
        for k, (encode, decode) in fs.items():
            for side, f, n in ('encoder', lambda: encode(x), 1), ('step', lambda: decode(*step), repeat):
                f() if not r else None; ts = []
                for _ in range(n): t = time.perf_counter(); f(); ts.append(time.perf_counter()-t)
                best.setdefault(k, {})[side] = min(best.get(k, {}).get(side, 1e9), 1e3*float(np.median(ts)))
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--files', type=Path); p.add_argument('--nncf', default=''); p.add_argument('--again', nargs='*', default=[]); p.add_argument('--out', type=Path, default=HERE/'whisper_peers.json')
    p.add_argument('--latency', action='store_true'); p.add_argument('--one', help=argparse.SUPPRESS); p.add_argument('--judge', help=argparse.SUPPRESS)
    a = p.parse_args(); folder = a.files or Path(tempfile.mkdtemp()); folder.mkdir(exist_ok=True, parents=True)
    there = lambda k: all(where(folder, k, side).is_file() for side in SIDES)
    if a.one:
        begun = time.time(); more = {}
        if a.nncf: sys.path.append(a.nncf)
        if a.one in OURS: more = OURS[a.one](folder)
        else:
            for side in SIDES: TOOLS[a.one](folder, side, where(folder, 'float', side), where(folder, a.one, side))
        return print(json.dumps(dict(seconds=time.time()-begun, processor_seconds=time.process_time(), peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6, **more)))
    if a.judge: return print(json.dumps(judge(folder, a.judge)))
    results = json.loads(a.out.read_text()) if a.out.is_file() else {}

    def save(): tmp = a.out.with_name(a.out.name+'.part'); tmp.write_text(json.dumps(results, indent=1)+'\n'); tmp.replace(a.out)
    if a.latency:
        for k, t in latency(folder, [k for k in results if there(k) and 'failed' not in results[k]]).items(): results[k]['ms'] = t; print(k, t)
        return save()

    def child(*words):
        r = subprocess.run([sys.executable, __file__, '--files', str(folder), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not r.returncode: return json.loads(r.stdout.strip().splitlines()[-1])
        return dict(failed=(r.stderr.strip().splitlines() or ['killed'])[-1][:300])
    for k in ['float', 'quantnb 8 bits', 'quantnb 8 bits, dynamic', *TOOLS]:
        if k.startswith('NNCF') and not a.nncf or k in results and k not in a.again: continue
        made = {} if there(k) else child('--one', k, *(['--nncf', a.nncf] if k.startswith('NNCF') else []))
        results[k] = made if 'failed' in made else made | child('--judge', k)
        save(); print(k, results[k], flush=True)


if __name__ == '__main__': main()
