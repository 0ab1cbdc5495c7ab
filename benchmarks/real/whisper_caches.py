"""What caches of 8 bits would save in a step of Whisper's decoder: an experiment on the files that whisper_peers.py leaves.

    python benchmarks/real/whisper_caches.py FOLDER [--out benchmarks/real/whisper_caches.json]

The decoder's cache, and the keys and values of the encoder, become int8 inputs with one scale a block (the largest value in a calibration recording), dequantized
where they are read; new keys and values are quantized as they leave. Judged on the five test clips as in whisper_peers.py. Milliseconds of the processor of
a step at one thread with 64 positions, the only length that the exported file takes, the files in turns, medians.
"""
import argparse, json, time
from pathlib import Path
import numpy as np
import onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
import speech
from whisper_peers import sessions, where

BASES = 'float', 'quantnb 8 bits'
KINDS = dict(none=(), cache=('past',), encoder=('memory',), both=('past', 'memory'))


def scales(folder):
    "One scale a block, float32 [blocks], for past keys and values and for the encoder's."
    encode, step = sessions(folder, 'float'); top = np.zeros((4, 6))
    def watched(*xs):
        nonlocal top
        top = np.maximum(top, [abs(x).max((0, 2, 3)) for x in xs[2:]]); return step(*xs)
    for x, _ in speech.clips('calib')[::2]: speech.write(encode, watched, x)
    return (top/127).astype(np.float32)


def narrowed(model, kinds, scale):
    "A decoder whose caches of some kinds are int8."
    g = model.graph; ins = list(g.input)[2:]; which = [k for k in range(4) if ('past', 'past', 'memory', 'memory')[k] in kinds]; first, last = [], []
    for k in which:
        old = ins[k].name; g.initializer.extend([numpy_helper.from_array(scale[k], f'scale_{k}'), numpy_helper.from_array(np.zeros(6, np.int8), f'zero_{k}')])
        for n in g.node:
            for i, name in enumerate(n.input):
                if name == old: n.input[i] = old+'_float'
        ins[k].type.tensor_type.elem_type = TensorProto.INT8; first.append(helper.make_node('DequantizeLinear', [old, f'scale_{k}', f'zero_{k}'], [old+'_float'], axis=1))
        if k > 1: continue
        out = g.output[1+k]; made = out.name+'_float'
        for n in g.node:
            for names in (n.input, n.output):
                for i, name in enumerate(names):
                    if name == out.name: names[i] = made
        out.type.tensor_type.elem_type = TensorProto.INT8; last.append(helper.make_node('QuantizeLinear', [made, f'scale_{k}', f'zero_{k}'], [out.name], axis=1))
    nodes = [*first, *g.node, *last]; del g.node[:]; g.node.extend(nodes)
    return model


def narrow(x, scale): return np.clip(np.rint(x/scale[:, None, None]), -127, 127).astype(np.int8) if x.dtype == np.float32 else x


def decoder(folder, name, kinds, scale):
    "A function of arrays for speech.py; what is float and has to be int8 is quantized before."
    o = ort.SessionOptions(); o.intra_op_num_threads = 1
    s = ort.InferenceSession(narrowed(onnx.load(str(where(folder, name, 'decoder'))), kinds, scale).SerializeToString(), o); names = [i.name for i in s.get_inputs()]
    ready = lambda xs: [narrow(x, scale[k-2]) if k > 1 and ('past' if k < 4 else 'memory') in kinds else x for k, x in enumerate(xs)]
    return lambda *xs: s.run(None, dict(zip(names, xs))), ready


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0]); p.add_argument('folder', type=Path); p.add_argument('--out', type=Path, default=Path(__file__).with_name('whisper_caches.json'))
    a = p.parse_args(); scale = scales(a.folder); rng = np.random.default_rng(0); rows = []
    for name in BASES:
        encode, _ = sessions(a.folder, name); memories = [encode(x) for x, _ in speech.clips('test')]; made = {}
        for kind, kinds in KINDS.items():
            step, ready = made[kind] = decoder(a.folder, name, kinds, scale); nll, heard = [], []
            for (x, text), memory in zip(speech.clips('test'), memories):
                once, ready_step = lambda _: memory, lambda *xs: step(*ready(xs))
                nll.append(speech.foretell(once, ready_step, x, text)); heard.append(speech.write(once, ready_step, x))
            r = speech.summary('test', nll, heard); rows.append(dict(file=name, int8=kind, nll=r['nll'], wrong=r['wrong'], ms={}, cache_mb={})); print(rows[-1], flush=True)
        for length in [speech.LENGTH]: # the exported step takes no other
            past = [rng.normal(0, 1, (1, 6, length, 512)).astype(np.float32) for _ in range(2)]; spent = {k: [] for k in made}
            fed = {k: ready([np.array([100], np.int32), np.array([length-1], np.int32), *past, *memories[0]]) for k, (_, ready) in made.items()}
            for turn in range(13):
                for k, (step, _) in made.items(): begun = time.process_time(); step(*fed[k]); spent[k].append(1e3*(time.process_time()-begun))
            for row in rows[-len(made):]: row['ms'][length] = float(np.median(spent[row['int8']][1:])); row['cache_mb'][length] = sum(x.nbytes for x in fed[row['int8']][2:])/1e6
    a.out.write_text(json.dumps(rows, indent=1)+'\n')
    for row in rows: print(row)


if __name__ == '__main__': main()
