"""An OPT-like decoder with random weights through all stages: where memory and time go when a network is large.

    python benchmarks/large.py [--width 2048] [--blocks 20] [--vocab 50272] [--tokens 32] [--episodes 3] [--out benchmarks/large.json]

Weights alone, 4 and 8 bits in groups of 128 inputs, rounded to nearest or as `--preset` says. The default is 1.1 billion weights. The score is the agreement of the likeliest token with
the float network's own. Prints and keeps seconds and resident memory of each phase and the peak of the process."""
import argparse, json, os, tempfile, time
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1'); os.environ.setdefault('GLOG_v', '3')
import numpy as np, mindspore as ms
from mindspore import nn, ops
from quantnb.all import *
from quantnb.rows import peak
from quantnb.run.history import environment

here = Path(__file__).resolve().parent


class Block(nn.Cell):
    def __init__(self, d, heads):
        super().__init__(); self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm((d,)), nn.LayerNorm((d,)); self.q, self.k, self.v, self.out = (nn.Dense(d, d, weight_init='zeros', bias_init='zeros') for _ in range(4))
        self.up, self.down = nn.Dense(d, 4*d, weight_init='zeros', bias_init='zeros'), nn.Dense(4*d, d, weight_init='zeros', bias_init='zeros')

    def construct(self, x, mask):
        n, t, d = x.shape; y = self.norm1(x); cut = lambda a: a.reshape(n, t, self.heads, d//self.heads).transpose(0, 2, 1, 3)
        q, k, v = cut(self.q(y)), cut(self.k(y)), cut(self.v(y))
        a = ops.softmax(ops.matmul(q, k.transpose(0, 1, 3, 2))*((d//self.heads)**-.5)+mask, axis=-1)
        x = x+self.out(ops.matmul(a, v).transpose(0, 2, 1, 3).reshape(n, t, d))
        return x+self.down(ops.relu(self.up(self.norm2(x))))


class Decoder(nn.Cell):
    def __init__(self, vocab, d, blocks, heads, positions=512):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, d, embedding_table='zeros'), nn.Embedding(positions, d, embedding_table='zeros')
        self.blocks = nn.CellList([Block(d, heads) for _ in range(blocks)]); self.norm, self.product = nn.LayerNorm((d,)), ops.MatMul(transpose_b=True)

    def construct(self, ids):
        n, t = ids.shape; at = ops.arange(t); mask = (at.expand_dims(0) > at.expand_dims(1)).astype(ms.float32)*-10000.0
        x = self.tokens(ids)+self.places(at)
        for b in self.blocks: x = b(x, mask)
        return self.product(self.norm(x).reshape(n*t, -1), self.tokens.embedding_table).reshape(n, t, -1)


def network(a):
    "Weights of a variance that keeps the residual stream alive, a few channels larger, as in trained networks."
    net = Decoder(a.vocab, a.width, a.blocks, a.width//64).set_train(False); rng = np.random.default_rng(0)
    for p in net.get_parameters():
        if p.ndim == 2 and 'places' not in p.name: w = rng.standard_normal(p.shape, np.float32); w *= (1/np.sqrt(p.shape[1]) if 'tokens' not in p.name else .5); w[rng.integers(0, len(w), max(1, len(w)//256))] *= 4; p.set_data(ms.Tensor(w))
    return net


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--width', type=int, default=2048); p.add_argument('--blocks', type=int, default=20); p.add_argument('--vocab', type=int, default=50272); p.add_argument('--tokens', type=int, default=32)
    p.add_argument('--episodes', type=int, default=3); p.add_argument('--preset', default='fast'); p.add_argument('--out', type=Path, default=here/'large.json'); a = p.parse_args()
    begun = time.time(); net = network(a); n = sum(int(np.prod(q.shape)) for q in net.get_parameters()); rng = np.random.default_rng(1); ids = [rng.integers(0, a.vocab, (1, a.tokens)).astype(np.int32) for _ in range(8)]
    print(f'{n/1e6:.0f} million weights, {4*n/1e9:.2f} GB in float, made in {time.time()-begun:.0f} s, {peak()/1e9:.2f} GB', flush=True)
    ref = [net(ms.Tensor(i)).asnumpy().argmax(-1) for i in ids[4:]]
    agree = lambda m: 100*float(np.mean([(np.asarray(m(ms.Tensor(i))).argmax(-1) == r).mean() for i, r in zip(ids[4:], ref)]))
    with tempfile.TemporaryDirectory() as d:
        t = Task(net=net, inputs=(ms.Tensor(ids[0]),), calib=[(ms.Tensor(i),) for i in ids[:4]], evaluate=agree, bits=(4, 8), act_bits=(32,), group_size=128, targets=Targets(compress_ratio=80), objectives=('accuracy', 'compress_ratio', 'latency'), max_episode=a.episodes, num_warmup=1, quant=dict(preset=a.preset), local_base_path=d, task_id='t')
        s = SearchPipeStep(t, progress=False); s.run(); b = json.loads(s.dir.best_file.read_text()); sizes = {k: (s.dir.best_file.parent/o['path']).stat().st_size/1e6 for k, o in b['files'].items()}
        key = f'{n/1e6:.0f} M'; results = json.loads(a.out.read_text()) if a.out.is_file() else {}
        results[key] = dict(weights=n, settings={k: v for k, v in vars(a).items() if k != 'out'}, seconds=time.time()-begun, peak_gb=peak()/1e9, phases=b['phases'], memory=b['memory'], table=b['table'], files_mb=sizes, layers=len(s.graph.quantizable), left_out=b['left_out'], episodes=len(s.history), environment=environment())
        write_atomic(a.out, json.dumps(clean(results), indent=1)+'\n'); r = results[key]; print({k: r[k] for k in ('seconds', 'peak_gb', 'phases', 'memory', 'files_mb', 'left_out')}, *r['table'], sep='\n', flush=True)


if __name__ == '__main__': main()
