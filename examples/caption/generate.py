"""Caption scenes from exported files alone: ONNX Runtime and numpy, no MindSpore.

    python generate.py tasks/exported/chosen --part search
    python generate.py tasks/exported/chosen --beside tasks/exported/float --batch 1 16 48 --threads 1 2

The loop is an application's own: the encoder runs once, the decoder once a piece, and the cache that it gives back is fed to it again.
With `--beside` nothing is captioned; both folders are timed in turns, so that a disturbance hits both.
"""
import argparse, json, time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from src.data import grammar, scenes

EXAMPLE = Path(__file__).resolve().parent


class Captioner:
    "Greedy captions by `model.encoder.onnx` and `model.decoder.onnx`."
    def __init__(self, folder, threads=1):
        lost = [f for f in ('model.encoder.onnx', 'model.decoder.onnx') if not (Path(folder)/f).is_file()]
        if lost: raise SystemExit(f'there is no {Path(folder)/lost[0]}: name output/best of a task, or a folder that export.py has written')
        o = ort.SessionOptions()
        o.intra_op_num_threads, o.log_severity_level = threads, 3
        o.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self.encoder, self.decoder = (ort.InferenceSession(str(Path(folder)/f'model.{part}.onnx'), o, providers=['CPUExecutionProvider']) for part in ('encoder', 'decoder'))
        self.names = [[i.name for i in s.get_inputs()] for s in (self.encoder, self.decoder)]
        _, self.layers, self.length, self.width = self.decoder.get_inputs()[2].shape  # past_key [N,L,T,H]

    def __call__(self, img_feat, img_pos_feat, attention_mask, gather_index, start=grammar.END):
        "Ids int32 [B,T], `END` behind the end."
        b = len(img_feat)
        memory = self.encoder.run(None, dict(zip(self.names[0], (img_feat, img_pos_feat, attention_mask, gather_index))))
        past = [np.zeros((b, self.layers, self.length, self.width), np.float32)]*2
        ids, more, res = np.full(b, start, np.int32), np.ones(b, bool), np.full((b, self.length), grammar.END, np.int32)
        for t in range(self.length):
            scores, *past = self.decoder.run(None, dict(zip(self.names[1], (ids, np.full(b, t, np.int32), *past, *memory, attention_mask))))
            ids = np.where(more, scores.argmax(1), grammar.END).astype(np.int32)
            res[:, t], more = ids, more & (ids != grammar.END)
            if not more.any(): break
        return res


def captions(say, part, language='zh', batch=16, n=None):
    "Texts of the scenes of a part."
    s = scenes.load(str(EXAMPLE/'caption.npz'), part, n)
    return [grammar.decode(row, language) for b in s.batches(batch) for row in say(*b, start=grammar.start(language))]


def in_turns(captioners, # name to `Captioner`
             batch, n=48, part='search', rounds=5):
    "Median seconds a scene of each, run in turns."
    data = list(scenes.load(str(EXAMPLE/'caption.npz'), part, n).batches(batch))
    secs = {k: [] for k in captioners}
    for _ in range(rounds + 1):  # the first warms up
        for k, say in captioners.items():
            t = time.perf_counter()
            for b in data: say(*b)
            secs[k].append((time.perf_counter() - t)/n)
    return {k: float(np.median(v[1:])) for k, v in secs.items()}


def compare(folders, # name to folder; the first is what the others are compared with
            batches=(1, 16, 48), threads=(1, 2), **kw):
    "One row for each number of scenes a batch and of threads: milliseconds a scene, and how many times as fast as the first."
    res = []
    for t in threads:
        captioners = {k: Captioner(f, t) for k, f in folders.items()}
        for b in batches:
            ms = {k: 1e3*v for k, v in in_turns(captioners, b, **kw).items()}
            first = next(iter(ms.values()))
            res.append(dict(threads=t, batch=b, ms={k: round(v, 3) for k, v in ms.items()}, ratio={k: round(first/v, 3) for k, v in ms.items()}))
            print(f'{t} threads, batch {b:3}: ' + ', '.join(f'{k} {v:.3f} ms a scene ({first/v:.2f})' for k, v in ms.items()), flush=True)
    return res


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='with model.encoder.onnx and model.decoder.onnx, as export.py writes them')
    p.add_argument('--part', default='search', choices=scenes.PARTS)
    p.add_argument('--language', default='zh', choices=grammar.LANGUAGES)
    p.add_argument('--beside', type=Path, help='another such folder: time both')
    p.add_argument('--batch', type=int, nargs='+', default=[16])
    p.add_argument('--threads', type=int, nargs='+', default=[1])
    args = p.parse_args()
    if args.beside: compare({args.beside.name: args.beside, args.folder.name: args.folder}, args.batch, args.threads, part=args.part)
    else: print(json.dumps(captions(Captioner(args.folder, args.threads[0]), args.part, args.language, args.batch[0]), ensure_ascii=False, indent=1))
