"""A small residual CNN for Fashion-MNIST and the functions that quantnb calls by name.

Pixels travel as uint8 [N,28,28] in `fashion.npz`, as float32 [N,1,28,28] (mean 0, deviation 1) through the network.
For a quick try, the environment variable QUANTNB_EXAMPLE_SAMPLES is the largest number of images of each part.
"""
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import mindspore as ms
from mindspore import nn

HERE = Path(__file__).resolve().parent
MEAN, STD = 0.2860, 0.3530  # of the 60000 training images, pixels scaled to [0,1]
DEFAULTS = dict(ckpt_file='fashion.ckpt', data_file='fashion.npz', batch_size=250)


class ConvBN(nn.Cell):
    "Convolution without bias, batch norm, activation: [N,c_in,H,W] -> [N,c_out,H/stride,W/stride]."
    def __init__(self,
                 c_in,         # input channels
                 c_out,        # output channels
                 k=3,          # kernel size, odd
                 stride=1,
                 group=1,      # c_in: depthwise
                 act=nn.ReLU): # activation class, None: linear
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, stride, pad_mode='pad', padding=k//2, group=group, has_bias=False,
                              weight_init='HeNormal')
        self.bn = nn.BatchNorm2d(c_out)
        self.act = act() if act else None

    def construct(self, x):
        x = self.bn(self.conv(x))
        return x if self.act is None else self.act(x)


class Residual(nn.Cell):
    "Two 3x3 convolutions beside a shortcut (He et al., CVPR 2016); the shortcut is 1x1 where the shape changes."
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv1 = ConvBN(c_in, c_out, stride=stride)
        self.conv2 = ConvBN(c_out, c_out, act=None)
        self.short = ConvBN(c_in, c_out, 1, stride, act=None) if stride > 1 or c_in != c_out else None
        self.relu = nn.ReLU()

    def construct(self, x):
        short = x if self.short is None else self.short(x)
        return self.relu(self.conv2(self.conv1(x)) + short)


class Separable(nn.Cell):
    "Depthwise 3x3, then pointwise 1x1, both with ReLU6 (Howard et al., MobileNets, 2017)."
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.depth = ConvBN(c_in, c_in, stride=stride, group=c_in, act=nn.ReLU6)
        self.point = ConvBN(c_in, c_out, 1, act=nn.ReLU6)

    def construct(self, x): return self.point(self.depth(x))


class FashionNet(nn.Cell):
    "Images [N,1,28,28] -> logits [N,10]; 13 convolutions and a dense layer."
    def __init__(self):
        super().__init__()
        self.stem = ConvBN(1, 16)           # 28x28
        self.res1 = Residual(16, 32, 2)     # 14x14
        self.res2 = Residual(32, 64, 2)     # 7x7
        self.sep1 = Separable(64, 96)
        self.res3 = Residual(96, 96)
        self.sep2 = Separable(96, 128)
        self.head = nn.Dense(128, 10)

    def construct(self, x):
        x = self.sep2(self.res3(self.sep1(self.res2(self.res1(self.stem(x))))))
        return self.head(x.mean((2, 3)))


def option(config, name):
    "Value of `name` in `config` (attributes or mapping), else the default."
    val = config.get(name) if hasattr(config, 'get') else getattr(config, name, None)
    return DEFAULTS[name] if val is None else val


def normalise(x): # uint8 [N,28,28]
    "Pixels as the network wants them: float32 [N,1,28,28], mean 0, deviation 1 over the training set."
    return ((x[:, None].astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


@lru_cache(maxsize=8)
def _part(file, part, n): # n images from the first on; all if None
    with np.load(file) as z: return normalise(z[f'{part}_x'][:n]), z[f'{part}_y'][:n].astype(np.int32)


def images(config, part): # part: 'calib' (512), 'search', 'confirm' or 'test' (2000 each)
    "Normalised images float32 [N,1,28,28] and labels int32 [N] of one part of the shipped data."
    return _part(str(HERE/option(config, 'data_file')), part, int(os.environ.get('QUANTNB_EXAMPLE_SAMPLES') or 0) or None)


def batches(x, size):
    "Tensors of `size` images; the last one may be smaller."
    for i in range(0, len(x), size): yield ms.Tensor(x[i:i+size])


def accuracy(model, x, y, size=250):
    "Top-1 accuracy in percent."
    pred = np.concatenate([model(b).asnumpy().argmax(1) for b in batches(x, size)])
    return 100*int((pred == y).sum())/len(y)


# ---- called by quantnb, by parameter name ----

def get_model(config): # `ckpt_file`
    "The trained network with its weights loaded, in evaluation mode."
    net, file = FashionNet(), HERE/option(config, 'ckpt_file')
    missing, _ = ms.load_param_into_net(net, ms.load_checkpoint(str(file)), strict_load=True)
    if missing: raise ValueError(f'{file.name} lacks the parameters {missing}: train it again with train.py')
    return net.set_train(False)


def get_inputs(config): # `data_file`
    "One calibration image as the network's input, float32 [1,1,28,28]."
    return ms.Tensor(images(config, 'calib')[0][:1])


def calibrate(model, config): # `data_file`, `batch_size`
    "Run the 512 calibration images through `model` once, no gradients."
    for b in batches(images(config, 'calib')[0], option(config, 'batch_size')): model(b).asnumpy()  # asnumpy: wait for it


def _score(model, config, part): return accuracy(model, *images(config, part), option(config, 'batch_size'))

def evaluate(model, config):
    "Top-1 accuracy in percent on the 2000 search images."
    return _score(model, config, 'search')

def confirm(model, config):
    "Top-1 accuracy in percent on the 2000 confirmation images, which the search does not see."
    return _score(model, config, 'confirm')

def test(model, config):
    "Top-1 accuracy in percent on the 2000 test images, which nothing but the last report sees."
    return _score(model, config, 'test')
