"""What the way to find an activation's range is worth on ViT-S/14 and MiniLM: 8 bits everywhere, weights as searched and rounded in sequence.

    python benchmarks/real/ranges.py [vit] [minilm] [--again] [--out benchmarks/real/ranges.json]

Each range estimator works on the same calibration inputs, and each file is judged by the network's own functions on the search data (which decide between the
two roundings) and on the test data, by ONNX Runtime at one thread. Milliseconds are the processor's for one sample, the lowest of five medians, the files in turns.
"""
import argparse, json, tempfile
from pathlib import Path
import mindspore as ms # before onnx
from peers import HERE, judge, latency, path, uniforms

RANGES = 'mse', 'auto', 'dynamic'


def prepared(name, ranges, folder):
    "The search of a network's yml with a range estimator, ready for its first episode."
    from quantnb.config import load
    from quantnb.run.pipeline import SearchPipeStep
    from quantnb.task import Task
    s = SearchPipeStep(Task.from_config(load(HERE/f'{name}.yml', (f'general.task.local_base_path={folder}', f'nas.trainer.quant.ranges={ranges}'))), progress=False)
    s.prepared.open_network(); return s


def files(name, ranges, folder, out):
    "Write both files of 8 bits everywhere; their scores by name."
    s = prepared(name, ranges, folder); b, res = s.exporter.builder, {}; u = uniforms(s)['uniform 8']
    for how, strategy in ('as searched', u), ('in sequence', s.in_sequence(u)):
        f = path(out, name, f'{ranges} {how}'); f.write_bytes(b.build(strategy)); res[f'{ranges} {how}'] = dict(judge(name, f), rounded=bool(strategy.own)); print(name, ranges, how, res[f'{ranges} {how}'], flush=True)
    return res


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('networks', nargs='*', default=['vit', 'minilm']); p.add_argument('--again', action='store_true'); p.add_argument('--out', type=Path, default=HERE/'ranges.json')
    a = p.parse_args(); results = json.loads(a.out.read_text()) if a.out.is_file() else {}
    for name in a.networks:
        if name in results and not a.again: continue
        known = {}
        with tempfile.TemporaryDirectory() as d:
            for r in RANGES: known |= files(name, r, d, Path(d))
            for k, t in latency(name, {k: path(Path(d), name, k) for k in known}).items(): known[k]['ms'] = t
        results[name] = known; a.out.write_text(json.dumps(results, indent=1)+'\n')


if __name__ == '__main__': main()
