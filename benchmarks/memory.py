"""Peak memory and seconds of whole runs, each in a process of its own: a MobileNetV2 for small images and two decoder language models.

    python benchmarks/memory.py [mobilenet] [lm6] [lm12] [--again] [--out benchmarks/memory.json]

Random weights: what is asked here is what a run costs. Three episodes over 4 and 8 bits; the accuracy is the agreement with the float
network's own answers. A network that is in the results file is not run again unless told so."""
import os
os.environ.setdefault('GLOG_v', '4')
import argparse, json, subprocess, sys, tempfile, time
from pathlib import Path
here = Path(__file__).resolve().parent
LM = dict(lm6=(6, 512, 8192), lm12=(12, 768, 32000)) # layers, width, vocabulary


def decoder(layers, width, vocabulary, heads=8):
    import mindspore as ms
    from mindspore import nn, ops
    class Block(nn.Cell):
        def __init__(self):
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm((width,)), nn.LayerNorm((width,))
            self.q, self.k, self.v, self.o = (nn.Dense(width, width) for _ in range(4))
            self.up, self.down, self.gelu = nn.Dense(width, 4*width), nn.Dense(4*width, width), nn.GELU()
        def split(self, x, n, t): return x.reshape(n, t, heads, width//heads).swapaxes(1, 2)
        def construct(self, x, mask):
            n, t, _ = x.shape; y = self.n1(x)
            q, k, v = self.split(self.q(y), n, t), self.split(self.k(y), n, t), self.split(self.v(y), n, t)
            a = ops.softmax(ops.matmul(q, k.swapaxes(2, 3))*(width//heads)**-.5+mask, -1)
            x = x+self.o(ops.matmul(a, v).swapaxes(1, 2).reshape(n, t, width))
            return x+self.down(self.gelu(self.up(self.n2(x))))
    class Decoder(nn.Cell):
        def __init__(self):
            super().__init__()
            self.table, self.blocks, self.norm, self.head = nn.Embedding(vocabulary, width), nn.CellList([Block() for _ in range(layers)]), nn.LayerNorm((width,)), nn.Dense(width, vocabulary, has_bias=False)
        def construct(self, ids):
            x, t = self.table(ids), ids.shape[1]
            mask = ops.triu(ops.ones((t, t), ms.float32)*-1e4, 1)
            for b in self.blocks: x = b(x, mask)
            return self.head(self.norm(x))
    ms.set_seed(0)
    return Decoder().set_train(False)


def task(name, folder):
    import numpy as np, mindspore as ms
    from quantnb.all import Targets, Task
    ms.set_context(mode=ms.GRAPH_MODE); rng = np.random.default_rng(0)
    if name == 'mobilenet':
        from nets import MobileNet
        net, draw, rows, batch = MobileNet().set_train(False), lambda n: rng.normal(size=(n, 1, 32, 32)).astype(np.float32), 512, 128
    else: net, draw, rows, batch = decoder(*LM[name]), lambda n: rng.integers(0, LM[name][2], (n, 64)).astype(np.int32), 8, 4
    x = draw(rows); ref = []
    def answers(m): return np.concatenate([m(ms.Tensor(x[k:k+batch])).asnumpy().argmax(-1) for k in range(0, rows, batch)])
    def evaluate(m):
        y = answers(m)
        if not ref: ref.append(y) # the first to be evaluated is the float network
        return 100*float((y == ref[0]).mean())
    return Task(net=net, inputs=ms.Tensor(x[:1]), calib=[ms.Tensor(x[k:k+batch]) for k in range(0, min(rows, 4*batch), batch)], evaluate=evaluate, targets=Targets(compress_ratio=70),
                bits=[4, 8], act_bits=[8], max_episode=3, local_base_path=folder)


def child(name, out):
    import numpy as np
    from quantnb.all import SearchPipeStep, report
    from quantnb.rows import expected_peak
    with tempfile.TemporaryDirectory() as d:
        t = task(name, d); size = 4*sum(int(np.prod(p.shape)) for p in t.net.get_parameters()); begun = time.time()
        s = SearchPipeStep(t, progress=False); s.run(); report(s.dir.root)
        b = json.loads(s.dir.best_file.read_text())
        Path(out).write_text(json.dumps(dict(weights_mb=round(size/1e6, 1), layers=len(s.graph.quantizable), engine=s.engine.name, peak_gb=b['peak_gb'], promised_gb=round(expected_peak(size)/1e9, 2),
            seconds=round(time.time()-begun, 1), float_seconds=round(s.float_seconds, 2), phases=b['phases'], memory=b['memory'], agreement={f: {k: p.get(k) for k in ('measure', 'agreement', 'rows', 'note')} for f, p in b['parity'].items()})))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0]); p.add_argument('networks', nargs='*', default=[]); p.add_argument('--again', action='store_true')
    p.add_argument('--out', type=Path, default=here/'memory.json'); p.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return child(*a.child)
    res = json.loads(a.out.read_text()) if a.out.exists() else {}
    for n in a.networks or ['mobilenet', *LM]:
        if n in res and not a.again: continue
        with tempfile.TemporaryDirectory() as d:
            r = subprocess.run([sys.executable, __file__, '--child', n, f'{d}/r.json'], capture_output=True, text=True)
            if r.returncode: print(f'{n}: failed\n{r.stderr[-2000:]}'); continue
            res[n] = json.loads(Path(f'{d}/r.json').read_text()); a.out.write_text(json.dumps(res, indent=1)+'\n'); print(n, {k: res[n][k] for k in ('weights_mb', 'peak_gb', 'promised_gb', 'seconds')}, flush=True)


if __name__ == '__main__': main()
