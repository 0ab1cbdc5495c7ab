"""Train `FashionNet` on what `prepare.split` leaves of the training set and write `fashion.ckpt`."""
import os
os.environ.setdefault('GLOG_v', '3')
import argparse, time
from pathlib import Path

import numpy as np
import mindspore as ms
from mindspore import nn

from model import FashionNet, accuracy, normalise
from prepare import DATA, split


def augment(x, rng): # uint8 [N,28,28]
    "Shift every image by up to 2 pixels either way and mirror half of them."
    wins = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (2, 2), (2, 2))), (28, 28), (1, 2))
    i, j = rng.integers(0, 5, (2, len(x)))
    x = wins[np.arange(len(x)), i, j]
    return np.where(rng.random(len(x))[:, None, None] < .5, x[:, :, ::-1], x)


def one_cycle(steps, # of the whole training
              peak,  # highest learning rate
              warm=.2): # part of the steps that climb
    "Learning rate of every step: linear climb, then half a cosine down to 0 (Smith & Topin, 2017)."
    t = (np.arange(steps) + 1)/steps
    return np.where(t < warm, peak*t/warm, peak*(1 + np.cos(np.pi*(t - warm)/(1 - warm)))/2).tolist()


def train(x, y, epochs, seed, peak, bs=128):
    "The trained network, in evaluation mode."
    ms.set_seed(seed)
    rng, net, n = np.random.default_rng(seed), FashionNet(), len(x)//bs
    decay = [p for p in net.trainable_params() if p.ndim > 1]  # batch norm and bias: no weight decay
    rest = [p for p in net.trainable_params() if p.ndim == 1]
    groups = [dict(params=decay, weight_decay=5e-4), dict(params=rest, weight_decay=0.)]
    opt = nn.SGD(groups, one_cycle(epochs*n, peak), momentum=.9, nesterov=True)
    loss = nn.CrossEntropyLoss(label_smoothing=.05)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss), opt).set_train()
    for e in range(epochs):
        start, total = time.perf_counter(), 0.
        for i in np.split(rng.permutation(len(x))[:n*bs], n):
            total += float(step(ms.Tensor(normalise(augment(x[i], rng))), ms.Tensor(y[i].astype(np.int32))).asnumpy())
        print(f'epoch {e + 1:2}/{epochs}  loss {total/n:.4f}  {time.perf_counter() - start:.0f} s', flush=True)
    return net.set_train(False)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--epochs', type=int, default=13)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--lr', type=float, default=.15, help='peak learning rate')
    p.add_argument('--data', default=DATA, help='folder of the four idx files')
    p.add_argument('--out', default=Path(__file__).resolve().parent, type=Path, help='folder for fashion.ckpt')
    args = p.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    parts, start = split(args.data), time.perf_counter()
    net = train(*parts['train'], args.epochs, args.seed, args.lr)
    print(f'{sum(p.size for p in net.trainable_params())} parameters, {time.perf_counter() - start:.0f} s')
    args.out.mkdir(parents=True, exist_ok=True)
    ms.save_checkpoint(net, str(args.out/'fashion.ckpt'))
    for part in ('calib', 'search', 'confirm', 'test', 'official'):
        x, y = parts[part]
        print(f'{part:8} {len(x):5} images  {accuracy(net, normalise(x), y):.2f} %')
