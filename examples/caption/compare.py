"""The table of the README: strategies on the test scenes, by the network and by the exported files; float and int8 in turns.

    quantnb run opt_caption_ms_quant.yml && quantnb run caption_248.yml
    python compare.py tasks/quant_caption tasks/quant_caption_248

Nothing but this and the picture reads the test scenes. What is measured goes to `compare.json` and into the README, the files to `tasks/exported`.
"""
import argparse, json
from pathlib import Path

import numpy as np
import mindspore as ms  # before onnx

import generate
from quantnb.all import Strategy, integer_macs
from quantnb.run.pipeline import cost_model
from export import chosen, open_parts, write_parts
from src.scripts import pretrain_three_caption_endtoend_eval as script
from src.tools.metrics import caption_metrics
from src.tools.misc import read_config


def references(part, language='zh'):
    return script.scenes.load(str(generate.EXAMPLE/'caption.npz'), part).texts(language)


def scores(texts, part, language='zh'):
    "CIDEr, Bleu and ROUGE-L of captions, and the share of those that are one of their references."
    refs = references(part, language)
    return {**caption_metrics(dict(enumerate(texts)), dict(enumerate(refs)), language), 'right': float(np.mean([t in r for t, r in zip(texts, refs)]))}


def same(a, b): return float(np.mean([x == y for x, y in zip(a, b)]))


def rows(task, engine, exporter, strategies, part, folder):
    "One row a strategy: what the network says under it, what the exported files say, and how large they are."
    opts, cost, res, float_cider = read_config(generate.EXAMPLE/'config'/'ftcap_quant.json'), cost_model(task, engine.graph), [], None
    for name, s in strategies.items():
        sizes = write_parts(exporter, s, folder/name)
        twin = next((r for r in res if strategies[r['name']] == s), None)
        if twin:
            res.append({**twin, 'name': name})
            continue
        network = script.captions(engine.sim.net(s), opts, part)
        files = generate.captions(generate.Captioner(folder/name), part)
        m, f, c = scores(network, part), scores(files, part), cost.metrics(s or Strategy())
        float_cider = float_cider or m['CIDEr']
        whole = exporter.onnx(s)
        row = dict(name=name, compress_ratio=c['compress_ratio'], size_kb=c['size_kb'], network=m, files=f, scenes=len(files), same=same(network, files))
        row |= {k: 100*(float_cider - v['CIDEr'])/float_cider for k, v in dict(drop=m, drop_files=f).items()}
        row['bytes'] = {**sizes, 'model.onnx': len(whole), 'model.mindir': engine.graph.size if s is None else len(exporter.mindir(s))}
        row['integer_macs'] = 0. if s is None else integer_macs(whole, exporter.float)['share']
        row['widths'] = {} if s is None else {str(b): sum(o == b for o in s.values()) for b in dict.fromkeys(s.values())}
        res.append(row)
        print(f"{name:20} -{c['compress_ratio']:5.2f} %  CIDEr {m['CIDEr']:.4f} (drop {row['drop']:+.2f} %), files {f['CIDEr']:.4f}; same captions {100*row['same']:.1f} %", flush=True)
    return res


def cache_changes_nothing(engine, strategy, n=24, part='search'):
    "Share of scenes with the same caption with and without the cache, one beam and three."
    ms.set_context(mode=ms.PYNATIVE_MODE)  # without a cache every step has another shape
    net, x = engine.sim.net(strategy), tuple(ms.Tensor(o) for o in next(script.scenes.load(str(generate.EXAMPLE/'caption.npz'), part, n).batches(n)))
    return {w: float((net.search(*x, width=w) == net.search(*x, width=w, cache=False)).all(1).mean()) for w in (1, 3)}


def examples(folders, part, n=4):
    "Captions by the exported files beside one of the references: of the first scenes, and of the first that float describes wrongly."
    refs = references(part)
    said = {k: generate.captions(generate.Captioner(f), part) for k, f in folders.items()}
    wrong = [i for i in range(n, len(refs)) if said['float'][i] not in refs[i]][:n]
    return [dict(reference=refs[i][0], **{k: v[i] for k, v in said.items()}) for i in [*range(n), *wrong]]


def markdown(head, rows): return '\n'.join('| ' + ' | '.join(map(str, r)) + ' |' for r in [head, ['---']*len(head), *rows]) + '\n'


def tables(d):
    "What the README shows of `compare.json`."
    mb = lambda r, kind: sum(v for k, v in r['bytes'].items() if k in (f'model.encoder.{kind}', f'model.decoder.{kind}'))/1e6
    one = lambda r: [r['name'], f"{r['compress_ratio']:.2f} %", ', '.join(f'{n} {b}' for b, n in r['widths'].items()) or 'float', f"{r['network']['CIDEr']:.3f}", f"{r['drop'] + 0:+.2f} %", f"{100*r['network']['right']:.1f} %",
        f"{r['files']['CIDEr']:.3f}", f"{100*r['same']:.1f} %", f"{100*r['integer_macs']:.0f} %", f"{mb(r, 'onnx'):.1f}", f"{mb(r, 'mindir'):.1f}"]
    m = d['rows'][0]['network']
    res = f"Float on the {d['rows'][0]['scenes']} {d['part']} scenes, Chinese: " + ', '.join(f'{k} {v:.3f}' for k, v in m.items() if k != 'right') + f". The first reference of every scene would have a CIDEr of {d['ceiling']:.3f}.\n\n"
    res += markdown(['strategy', 'removed', 'layers', 'CIDEr', 'drop', 'right', 'by the files', 'same captions', 'integer MACs', 'ONNX, MB', 'MINDIR, MB'], map(one, d['rows']))
    if 'speed' in d:
        names = list(d['speed'][0]['ms'])
        res += '\nMilliseconds a scene of the loop over the files, in turns; in brackets how many times as fast as float:\n\n' + markdown(['threads', 'scenes at once', *names],
            [[r['threads'], r['batch'], *(f"{r['ms'][k]:.2f} ({r['ratio'][k]:.2f})" for k in names)] for r in d['speed']])
    if 'english' in d: res += '\nThe same files in English, from the same encoder: ' + ', '.join(f"{k} CIDEr {m['CIDEr']:.3f}, {100*m['right']:.1f} % right" for k, m in d['english'].items()) + '.\n'
    if 'examples' in d: res += '\nThe first test scenes, and the first that float describes wrongly:\n\n' + markdown(list(d['examples'][0]), [list(r.values()) for r in d['examples']])
    if 'cache' in d: res += '\nWith and without the cache the quantized network says the same: ' + '; '.join(f"{k}: " + ', '.join(f"{100*v:.0f} % of the scenes with {w} beam{'s'*(int(w) > 1)}" for w, v in c.items()) for k, c in d['cache'].items()) + '.\n'
    return res


def write_readme(d, file=generate.EXAMPLE/'README.md'):
    "Put the tables between the two comments."
    a, b = '<!-- compare.py writes from here -->\n', '<!-- to here -->\n'
    text = file.read_text(encoding='utf-8')
    i, j = text.index(a) + len(a), text.index(b)
    file.write_text(text[:i] + tables(d) + text[j:], encoding='utf-8')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('tasks', type=Path, nargs='*', help='folders of finished tasks; none: only write the README from compare.json')
    p.add_argument('--part', default='test', choices=script.scenes.PARTS)
    p.add_argument('--folder', type=Path, default=Path('tasks')/'exported')
    p.add_argument('--out', type=Path, default=generate.EXAMPLE/'compare.json')
    args = p.parse_args()
    if args.tasks:
        found = {t.name: chosen(t) for t in args.tasks}
        task, engine, exporter = open_parts()
        layers = engine.graph.quantizable  # a table has no activation
        strategies = {'float': None, 'uniform 8': Strategy.uniform(layers, 8, 8), 'uniform 4': Strategy.uniform(layers, 4, 8), **found}
        first = {}  # the same strategy under two names would only show the noise
        for k, v in strategies.items(): first.setdefault(v, k)
        d, folders = dict(part=args.part), {k: args.folder/k for k in first.values()}
        for key, make in dict(ceiling=lambda: scores([r[0] for r in references(args.part)], args.part)['CIDEr'], rows=lambda: rows(task, engine, exporter, strategies, args.part, args.folder), speed=lambda: generate.compare(folders), examples=lambda: examples(folders, args.part),
                              english=lambda: {k: scores(generate.captions(generate.Captioner(f), args.part, 'en'), args.part, 'en') for k, f in folders.items()},
                              cache=lambda: {k: cache_changes_nothing(engine, s) for k, s in found.items()}).items():
            d[key] = make()
            args.out.write_text(json.dumps(d, indent=1, ensure_ascii=False), encoding='utf-8')
    write_readme(json.loads(args.out.read_text(encoding='utf-8')))
