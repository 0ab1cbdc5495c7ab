"""Train the caption network on scenes made of what `prepare.split` leaves of Fashion-MNIST's training set.

Every step makes new scenes: kinds, cells and items are drawn by a generator seeded with (seed, step), so a run that
goes on from its last state does what an uninterrupted one does. Beside the caption, every patch is asked for the kind of its
item during training; that small head is not kept.
"""
import os
os.environ.setdefault('GLOG_v', '3')
import argparse, json, time
from pathlib import Path

import numpy as np
import mindspore as ms
from mindspore import nn, ops

from prepare import DATA, kinds, split
from src.data.grammar import END, LANGUAGES, MAX_LENGTH, captions, encode, start
from src.data.scenes import inputs, layout, render
from src.model_mindspore.caption_ms import CaptionNet, dense
from src.scripts.pretrain_three_caption_endtoend_eval import build

HERE = Path(__file__).resolve().parent
STYLE = (.6, .1, .1, .1, .1)  # how often each of the five captions is the one to learn; the first is what greedy search will say


class Batches:
    """Batches of new scenes: the four inputs, ids that go in [N,T], ids that should come out [N,T], kinds of patches [N,P].

    In turn, `size` scenes of 3 or 4 items and twice as many of 1 or 2, whose patches and pieces are half as many at most."""
    def __init__(self, items, labels, size, seed):
        self.items, self.labels, self.size, self.seed = items, labels, size, seed
        self.at = [np.flatnonzero(labels == k) for k in range(10)]

    def __call__(self, step):
        rng, few = np.random.default_rng((self.seed, step)), step % 2 == 1
        size, most, length = (2*self.size, 9, MAX_LENGTH//2) if few else (self.size, 17, MAX_LENGTH)
        cells = layout(size, rng, (1, 2) if few else (3, 4))
        ks = kinds(cells, rng)
        x = self.items[[self.at[k][int(rng.random()*len(self.at[k]))] for k in ks]]
        feat, pos, mask, index = inputs(render(x, cells))
        four = feat, pos, mask[:, :most], index[:, :most]
        at = np.full(cells.shape, 10)
        at[cells] = ks
        patch = np.concatenate([np.full((size, 1), 10), at.reshape(-1, 2, 2).repeat(2, 1).repeat(2, 2).reshape(-1, 16)], 1)
        patch = np.where(four[2] > 0, np.take_along_axis(patch, four[3], 1), 10)  # 10: nothing to tell
        said, heard = np.zeros((2, size, length), np.int32)
        for n, row in enumerate(at):
            lang = LANGUAGES[rng.integers(2)]
            ids = encode(captions({c: int(k) for c, k in enumerate(row) if k < 10}, lang)[rng.choice(5, p=STYLE)])
            said[n, :len(ids)] = ids
            heard[n, :len(ids)] = [start(lang), *ids[:-1]]
        count = (np.arange(length) <= (said != END).sum(1)[:, None]).astype(np.float32)  # the pieces and the end
        return (*four, heard, said, count, patch.astype(np.int32))


class Loss(nn.Cell):
    "Cross-entropy of the caption's pieces and of the patches' kinds."
    def __init__(self, net, width):
        super().__init__()
        self.net, self.kind = net, dense(width, 10)

    def construct(self, img_feat, img_pos_feat, attention_mask, gather_index, heard, said, count, patch):
        e = self.net.encoder
        x = e.uniter(img_feat, img_pos_feat, attention_mask, gather_index)
        k, v = e.memory(x, attention_mask)
        p = ops.log_softmax(self.net.decoder.all(heard, k, v, attention_mask), -1)
        text = -(ops.gather_elements(p, 2, said.expand_dims(2)).squeeze(2)*count).sum()/count.sum()
        q, there = ops.log_softmax(self.kind(x), -1), ops.cast(ops.less(patch, 10), ms.float32)
        kind = -(ops.gather_elements(q, 2, ops.minimum(patch, 9).expand_dims(2)).squeeze(2)*there).sum()/there.sum()
        return text, kind


def rates(steps, peak, warm=.05):
    "Learning rate of every step: linear climb, then half a cosine down to 0."
    t = (np.arange(steps) + 1)/steps
    return np.where(t < warm, peak*t/warm, peak*(1 + np.cos(np.pi*(t - warm)/(1 - warm)))/2).astype(np.float32).tolist()


def train(c, parts, steps, batch, seed, peak, work, every=50):
    "The trained network. The state is kept in `work`, and gone on from if there is one."
    ms.set_seed(seed)
    net = build(c, compute_type=ms.float32)
    loss = Loss(net, c.model.hidden_size).set_train()
    ps = loss.trainable_params()
    groups = [dict(params=[p for p in ps if p.ndim > 1], weight_decay=.01), dict(params=[p for p in ps if p.ndim == 1], weight_decay=0.)]
    opt = nn.AdamWeightDecay(groups, rates(steps, peak), beta2=.98)

    def forward(*b):
        text, kind = loss(*b)
        return text + .5*kind, text, kind

    grad = ms.value_and_grad(forward, None, opt.parameters, has_aux=True)

    @ms.jit
    def update(*b):
        (_, text, kind), g = grad(*b)
        return text, kind, opt(ops.clip_by_global_norm(g, 1.))

    state, first, data = work/'state.ckpt', 0, Batches(*parts['train'], batch, seed)
    mine, file = json.loads(json.dumps(dict(network=c.model, steps=steps, batch=batch, seed=seed, peak=peak))), work/'settings.json'
    if state.exists():
        if not file.exists() or json.loads(file.read_text()) != mine:
            raise SystemExit(f'{work} holds the state of a training with other settings: delete it, or name another folder with --work')
        d = ms.load_checkpoint(str(state))
        first = int(d.pop('done').asnumpy())
        ms.load_param_into_net(loss, d)
        ms.load_param_into_net(opt, d)
        print(f'going on after step {first}', flush=True)
    else: file.write_text(json.dumps(mine))
    t, sums = time.perf_counter(), np.zeros(2)
    for i in range(first, steps):
        text, kind, _ = update(*(ms.Tensor(o) for o in data(i)))
        sums += float(text.asnumpy()), float(kind.asnumpy())
        if (i + 1) % every == 0 or i + 1 == steps:
            n = (i % every) + 1
            print(f'step {i + 1:5}/{steps}  caption {sums[0]/n:.4f}  kind {sums[1]/n:.4f}  {(time.perf_counter() - t)/n:.2f} s a step', flush=True)
            keep = {p.name: p for p in (*loss.get_parameters(), *opt.get_parameters()) if 'learning_rate' not in p.name}
            ms.save_checkpoint([dict(name=k, data=p) for k, p in keep.items()] + [dict(name='done', data=ms.Tensor(i + 1))], str(work/'next.ckpt'))
            (work/'next.ckpt').replace(state)
            t, sums = time.perf_counter(), np.zeros(2)
    return net.set_train(False)


def save(net, file):
    "Weights of the network in half precision."
    file.unlink(missing_ok=True)
    ms.save_checkpoint([dict(name=k, data=p.astype(ms.float16)) for k, p in net.parameters_and_names()], str(file))
    file.chmod(0o644)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--steps', type=int, default=1500)
    p.add_argument('--batch', type=int, default=64, help='scenes of 3 or 4 items a step; of 1 or 2 twice as many')
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--lr', type=float, default=1e-3, help='peak learning rate')
    p.add_argument('--config', default=HERE/'config'/'ftcap_quant.json', type=Path, help='the network')
    p.add_argument('--data', default=DATA, help='folder of the four idx files')
    p.add_argument('--work', default=Path('tasks')/'caption_training', type=Path, help='folder for the state')
    p.add_argument('--out', default=HERE/'ckpt'/'opt_end2end_baseline.ckpt', type=Path)
    args = p.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    from src.tools.misc import read_config
    net = train(read_config(args.config), split(args.data), args.steps, args.batch, args.seed, args.lr, args.work)
    save(net, args.out)
    print(f'{sum(q.size for q in net.get_parameters())} parameters, {args.out.stat().st_size} bytes')
