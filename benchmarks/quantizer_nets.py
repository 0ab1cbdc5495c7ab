"""Three small trained networks for `quantizer.py`: a ResNet-14, a MobileNet-like CNN (ReLU6, depthwise convolutions) and a vision transformer, for 28x28 images.

Their weights are committed in `quantizer/` (float16, a few hundred KB each), trained as the example's are: on the images of
Fashion-MNIST's training set that `examples/fashion` does not ship, so that calibration, search and test images are unseen.

    python benchmarks/quantizer_nets.py resnet14 mobilenet vit [--data FOLDER of the four idx files] [--epochs N]"""
import os
os.environ.setdefault('GLOG_v', '3')
import argparse, sys, time
from pathlib import Path
import numpy as np
import mindspore as ms
from mindspore import nn, ops

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent/'examples/fashion')]
import model as fashion
from nets import Block, Inverted, Layer, conv

class ResNet14(nn.Cell):
    "ResNet for small images (He et al., 2016, section 4.2) with n=2: 14 layers, widths 16, 32, 64; ReLU. The first convolution has stride 2, so that training takes minutes."
    def __init__(self, classes=10):
        super().__init__()
        self.stem,self.bn,self.relu = conv(1, 16, 3, 2),nn.BatchNorm2d(16),nn.ReLU()
        self.blocks = nn.SequentialCell(*[Block(*o) for o in ((16,16,1),(16,16,1),(16,32,2),(32,32,1),(32,64,2),(64,64,1))])
        self.head = nn.Dense(64, classes)
    def construct(self, x): return self.head(self.blocks(self.relu(self.bn(self.stem(x)))).mean((2,3)))

class MobileNet(nn.Cell):
    "Inverted residuals (Sandler et al., 2018) of expansion 4 with ReLU6, strides for 28x28."
    def __init__(self, classes=10):
        super().__init__()
        i,bs = 24,[]
        for t,c,n,s in ((1,16,1,1),(4,24,2,1),(4,40,2,2),(4,64,2,1)):
            for k in range(n): bs.append(Inverted(i, c, s if k==0 else 1, t)); i = c
        self.stem = nn.SequentialCell(conv(1, 24, 3, 2), nn.BatchNorm2d(24), nn.ReLU6()); self.blocks = nn.SequentialCell(*bs)
        self.last = nn.SequentialCell(conv(i, 128, 1), nn.BatchNorm2d(128), nn.ReLU6()); self.head = nn.Dense(128, classes)
    def construct(self, x): return self.head(self.last(self.blocks(self.stem(x))).mean((2,3)))

class ViT(nn.Cell):
    "Pre-norm transformer encoder on 7x7 patches (Dosovitskiy et al., 2021): 16 tokens of 64 numbers, 4 layers."
    def __init__(self, d=64, heads=4, ff=192, depth=4, classes=10):
        super().__init__()
        self.embed,self.pos = nn.Dense(49, d),ms.Parameter(ms.Tensor(np.random.default_rng(0).normal(0, .02, (1, 16, d)).astype(np.float32)), name='pos')
        self.layers = nn.SequentialCell(*[Layer(d, heads, ff) for _ in range(depth)]); self.norm,self.head = nn.LayerNorm((d,)),nn.Dense(d, classes)
    def construct(self, x):
        x = x.reshape(-1, 4, 7, 4, 7).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 49)
        return self.head(self.norm(self.layers(self.embed(x)+self.pos)).mean(1))

NETS = dict(resnet14=ResNet14, mobilenet=MobileNet, vit=ViT)

def load(name):
    "One of the networks with its committed weights, in evaluation mode; 'fashion' is the example's."
    if name=='fashion': return fashion.get_model({})
    net = NETS[name]()
    with np.load(HERE/'quantizer'/f'{name}.npz') as z:
        for p in net.get_parameters(): p.set_data(ms.Tensor(z[p.name].astype(np.float32)))
    return net.set_train(False)

def train(name, data, epochs, seed=0, bs=128):
    "The trained network; recipe of `examples/fashion/train.py`, AdamW for the transformer."
    from prepare import split
    from train import augment, one_cycle
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(seed); np.random.seed(seed)
    x,y = split(data)['train']; rng,net,n = np.random.default_rng(seed),NETS[name](),len(x)//bs
    decay,rest = ([p for p in net.trainable_params() if (p.ndim>1)==o] for o in (True, False))
    if name=='vit': opt = nn.AdamWeightDecay(net.trainable_params(), one_cycle(epochs*n, 2e-3), weight_decay=.02)
    else: opt = nn.SGD([dict(params=decay, weight_decay=5e-4), dict(params=rest, weight_decay=0.)], one_cycle(epochs*n, .15), momentum=.9, nesterov=True)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss(label_smoothing=.05)), opt).set_train()
    for e in range(epochs):
        start,total = time.perf_counter(),0.
        for i in np.split(rng.permutation(len(x))[:n*bs], n): total += float(step(ms.Tensor(fashion.normalise(augment(x[i], rng))), ms.Tensor(y[i].astype(np.int32))).asnumpy())
        print(f'{name} epoch {e+1}/{epochs}: loss {total/n:.4f}, {time.perf_counter()-start:.0f} s', flush=True)
    return net.set_train(False)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('names', nargs='*', default=list(NETS)); p.add_argument('--data', default='/usr/share/datasets/fashion-mnist'); p.add_argument('--epochs', type=int, default=6)
    a = p.parse_args(); (HERE/'quantizer').mkdir(exist_ok=True)
    for name in a.names:
        net = train(name, a.data, a.epochs)
        np.savez_compressed(HERE/'quantizer'/f'{name}.npz', **{p.name:p.asnumpy().astype(np.float16) for p in net.get_parameters()})
        net = load(name); print(name, sum(p.size for p in net.trainable_params()), 'parameters;', {part: fashion.accuracy(net, *fashion.images({}, part)) for part in ('calib','search','test')}, flush=True)
