"""Every operator of the ONNX writer against MindSpore, at the batch size that was read and at another one."""
import importlib
import sys

import quantnb  # noqa: F401  before mindspore: it sets the log level
import mindspore as ms
import numpy as np
import pytest
from mindspore import mint, nn, ops  # noqa: F401  used by the expressions below

from quantnb.deploy.onnx import WRITERS, Unsupported, read_at_batch, session, to_onnx
from quantnb.deploy.session import OrtNet
from quantnb.graph.ir import read_graph

B = 2  # rows of the first reading; B+1 of the second
IMG, SEQ, VEC = (4, 6, 6), (5, 6), (6,)

# name: (expression of a, b, c, shapes without the batch). A shape that begins with 'pos' is positive, with 'int' holds integers below 5.
EXPRESSIONS = {
    'add': ('a+b', VEC, VEC), 'sub': ('a-b', VEC, VEC), 'mul': ('a*b', VEC, VEC), 'div': ('a/b', VEC, ('pos', 6)), 'broadcast': ('a*b', IMG, (4, 1, 1)),
    'scalar': ('2*a+1', VEC), 'rdiv': ('1/a', ('pos', 6)), 'pow': ('a**2', VEC), 'sqrt': ('ops.sqrt(a)', ('pos', 6)), 'rsqrt': ('ops.rsqrt(a)', ('pos', 6)), 'square': ('ops.square(a)', VEC),
    'exp': ('ops.exp(a)', VEC), 'log': ('ops.log(a)', ('pos', 6)), 'log1p': ('ops.log1p(a)', ('pos', 6)), 'expm1': ('ops.expm1(a)', VEC), 'neg abs': ('-ops.abs(a)', VEC),
    'maximum': ('ops.maximum(a, b)', VEC, VEC), 'minimum': ('ops.minimum(a, b)', VEC, VEC), 'floor ceil': ('ops.floor(a)+ops.ceil(a)', VEC), 'round': ('ops.round(a*4)', VEC), 'sign': ('ops.sign(a)', VEC),
    'sin cos': ('ops.sin(a)+ops.cos(a)', VEC), 'floordiv': ('a//2', VEC), 'reciprocal': ('ops.reciprocal(a)', ('pos', 6)), 'erf': ('ops.erf(a)', VEC), 'clamp': ('ops.clamp(a, -0.5, 1)', VEC),
    'relu': ('ops.relu(a)', VEC), 'sigmoid': ('ops.sigmoid(a)', VEC), 'tanh': ('ops.tanh(a)', VEC), 'gelu tanh': ("ops.gelu(a, approximate='tanh')", VEC), 'gelu exact': ('ops.gelu(a)', VEC),
    'gelu by hand': ('0.5*a*(1+ops.erf(a/1.4142135381698608))', VEC), 'softplus': ('ops.softplus(a)', VEC), 'mish': ('ops.mish(a)', VEC),
    'select': ('ops.select(a>0, a, b)', VEC, VEC), 'where': ('ops.where(a>=b, a, b)', VEC, VEC), 'masked fill': ('ops.masked_fill(a, a<0, -1.)', VEC),
    'comparisons': ('ops.cast(ops.logical_and(a>b, ops.logical_not(a<=0)), ms.float32) + ops.cast(ops.logical_or(a==b, a!=b), ms.float32)', VEC, VEC),
    'half precision': ('ops.cast(ops.cast(a, ms.float16)*2, ms.float32)', VEC), 'cast int': ('ops.cast(a, ms.int32)', VEC),
    'softmax': ('ops.softmax(a, 1)', SEQ), 'log softmax': ('ops.log_softmax(a, -1)', SEQ), 'l2 normalize': ('ops.L2Normalize(-1)(a)', SEQ), 'variance': ('a.var(-1)', SEQ), 'norm': ('ops.norm(a, dim=-1)', SEQ),
    'matmul': ('ops.matmul(a, b)', (5, 6), (6, 3)), 'matmul transposed': ('ops.BatchMatMul(transpose_a=True, transpose_b=True)(a, b)', (6, 5), (3, 6)), 'bmm': ('ops.bmm(a, b)', (5, 6), (6, 3)),
    'functional conv': ("ops.conv2d(a, ms.Tensor(np.ones((3,4,3,3), np.float32)), pad_mode='pad', padding=(1,0))", IMG),
    'reshape': ('a.reshape((a.shape[0], -1))', SEQ), 'merge rows': ('a.reshape((-1, 6))', SEQ), 'heads': ('a.reshape((a.shape[0], 5, 2, 3)).transpose(0,2,1,3).reshape((a.shape[0]*2, 5, 3))', SEQ),
    'flatten': ('ops.flatten(a)', IMG), 'mint flatten': ('mint.flatten(a, 1)', IMG), 'transpose': ('a.swapaxes(1, 2)', SEQ), 'mint permute': ('mint.permute(a, (0,2,1))', SEQ), 'mint transpose': ('mint.transpose(a, 1, 2)', SEQ),
    'expand squeeze': ('ops.squeeze(ops.expand_dims(a, 1)*2, 1)', VEC), 'mint unsqueeze': ('mint.unsqueeze(a, 1)', VEC), 'concat': ('ops.cat((a, b), 1)', VEC, VEC), 'stack': ('ops.stack((a, b), 1)', VEC, VEC),
    'split': ('ops.split(a, 3, 1)[1]', VEC), 'chunk': ('ops.chunk(a, 2, -1)[0]', SEQ), 'mint split': ('mint.split(a, 3, 1)[1]', VEC),
    'last row': ('a[:, -1]', SEQ), 'slice': ('a[:, 1:4]', SEQ), 'stride': ('a[:, :, ::2]', SEQ), 'ellipsis': ('a[..., 1:3]', IMG), 'new axis': ('a[:, None, 2]', SEQ), 'narrow': ('ops.narrow(a, 1, 1, 3)', SEQ),
    'flip': ('ops.flip(a, (1,))', SEQ), 'tril': ('ops.tril(a)', SEQ), 'pad': ('ops.pad(a, (1,2,0,1))', IMG), 'pad reflect': ("ops.pad(a, (1,2,2,1), mode='reflect')", IMG),
    'tile': ('ops.tile(a, (1,2))', VEC), 'tile to batch': ('ops.tile(ms.Tensor(np.ones((1,6), np.float32)), (a.shape[0],1))+a', VEC), 'broadcast to': ('ops.broadcast_to(ops.expand_dims(a, 1), (a.shape[0],3,6))', VEC),
    'zeros of the batch': ('ops.cat((ops.zeros((a.shape[0],2), ms.float32)+a[:, :2], a), 1)', VEC),
    'mean': ('a.mean(-1)', SEQ), 'global mean': ('ops.mean(a, (2,3))', IMG), 'global mean kept': ('ops.mean(a, (2,3), True)', IMG), 'mint mean': ('mint.mean(a, (2,3))', IMG), 'sum': ('a.sum(1)', SEQ), 'prod': ('ops.prod(a, 1)', SEQ),
    'amax amin': ('ops.amax(a, 1)+ops.amin(a, 1)', SEQ), 'max with index': ('a.max(axis=1, return_indices=True)[0]', SEQ), 'argmax': ('ops.argmax(a, 1)', SEQ), 'argmax int32': ('ops.Argmax(1)(a)', SEQ),
    'top k': ('ops.topk(a, 2)[0]', SEQ), 'cumsum': ('ops.cumsum(a, 1)', SEQ), 'one hot': ('ops.cast(ops.one_hot(a, 5), ms.float32)', ('int', 3)), 'gather': ('ops.gather(a, ms.Tensor([2,0], ms.int32), 1)', SEQ),
    'nearest': ("ops.interpolate(a, size=(12,12), mode='nearest')", IMG), 'bilinear': ("ops.interpolate(a, size=(12,9), mode='bilinear', align_corners=False)", IMG), 'bilinear corners': ("ops.interpolate(a, size=(11,9), mode='bilinear', align_corners=True)", IMG),
}

CELLS = {
    'conv same': ('nn.Conv2d(4,8,3)', IMG), 'conv same stride': ('nn.Conv2d(4,8,3,2,has_bias=True)', IMG), 'conv valid': ("nn.Conv2d(4,8,3,pad_mode='valid')", IMG), 'conv pads differ': ("nn.Conv2d(4,8,3,pad_mode='pad',padding=(2,0,1,3))", IMG),
    'conv kernel not square': ('nn.Conv2d(4,8,(1,5))', IMG), 'conv dilated': ('nn.Conv2d(4,4,3,dilation=2)', IMG), 'conv grouped': ('nn.Conv2d(4,8,3,group=2,has_bias=True)', IMG), 'conv depthwise': ('nn.Conv2d(4,4,3,2,group=4)', IMG),
    'conv1d': ('nn.Conv1d(5,4,3,has_bias=True)', SEQ), 'conv1d stride': ('nn.SequentialCell(nn.Conv1d(5,4,3), nn.ReLU(), nn.Conv1d(4,3,3,2))', SEQ), 'conv transpose': ('nn.Conv2dTranspose(4,3,3,2)', IMG),
    'conv transpose pad': ("nn.Conv2dTranspose(4,3,3,2,pad_mode='pad',padding=1)", IMG), 'dense': ('nn.Dense(6,3)', VEC), 'dense sequence': ('nn.Dense(6,3)', SEQ), 'dense no bias': ('nn.Dense(6,3,has_bias=False)', VEC), 'dense relu': ("nn.Dense(6,3,activation='relu')", SEQ),
    'mint linear': ('mint.nn.Linear(6,3)', SEQ), 'mint linear 2d': ('mint.nn.Linear(6,3)', VEC), 'batch norm': ('nn.BatchNorm2d(4)', IMG), 'batch norm 1d': ('nn.BatchNorm1d(6)', VEC), 'layer norm': ('nn.LayerNorm((6,))', SEQ), 'group norm': ('nn.GroupNorm(2,4)', IMG),
    'layer norm two axes': ('nn.LayerNorm((5,6),1,1)', SEQ), 'relu6': ('nn.ReLU6()', IMG), 'hswish': ('nn.HSwish()', IMG), 'hsigmoid': ('nn.HSigmoid()', IMG), 'silu': ('nn.SiLU()', IMG), 'gelu': ('nn.GELU()', IMG), 'gelu cell exact': ('nn.GELU(approximate=False)', IMG),
    'elu': ('nn.ELU()', IMG), 'leaky relu': ('nn.LeakyReLU(0.1)', IMG), 'prelu': ('nn.PReLU(4)', IMG), 'dropout': ('nn.Dropout(p=.3)', IMG),
    'max pool': ('nn.MaxPool2d(2,2)', IMG), 'max pool same': ("nn.MaxPool2d(3,2,pad_mode='same')", IMG), 'max pool pad': ("nn.MaxPool2d(3,2,pad_mode='pad',padding=1)", IMG), 'avg pool': ('nn.AvgPool2d(2,2)', IMG), 'avg pool same': ("nn.AvgPool2d(3,2,pad_mode='same')", IMG),
    'avg pool pad': ("nn.AvgPool2d(3,2,pad_mode='pad',padding=1,count_include_pad=False)", IMG), 'avg pool pad counted': ("nn.AvgPool2d(3,2,pad_mode='pad',padding=1)", IMG), 'adaptive 1': ('nn.AdaptiveAvgPool2d(1)', IMG), 'adaptive': ('nn.AdaptiveAvgPool2d((2,4))', IMG),
    'embedding': ('nn.Embedding(5,4)', ('int', 3)), 'attention': ('nn.TransformerEncoderLayer(6,2,8,batch_first=True,dropout=0.)', SEQ),
}

# mint operators without a kernel on this CPU: the same parameters in the operator that has one
TWINS = {
    'mint conv': ('mint.nn.Conv2d(4,8,3,2,padding=1)', "nn.Conv2d(4,8,3,2,pad_mode='pad',padding=1,has_bias=True)", IMG),
    'mint conv grouped': ('mint.nn.Conv2d(4,8,3,groups=2)', "nn.Conv2d(4,8,3,group=2,pad_mode='valid',has_bias=True)", IMG),
    'mint layer norm': ('mint.nn.LayerNorm((6,))', 'nn.LayerNorm((6,),epsilon=1e-5)', SEQ),
    'mint batch norm': ('mint.nn.BatchNorm2d(4)', 'nn.BatchNorm2d(4)', IMG),
    'mint max pool': ('mint.nn.MaxPool2d(2)', 'nn.MaxPool2d(2,2)', IMG),
    'mint avg pool': ('mint.nn.AvgPool2d(2)', 'nn.AvgPool2d(2,2)', IMG),
    'mint roll': ('Along(mint.roll, 2, 1)', 'Along(np.roll, 2, 1)', SEQ),
    'mint adaptive': ('mint.nn.AdaptiveAvgPool2d(1)', 'nn.AdaptiveAvgPool2d(1)', IMG),
}


class Along(nn.Cell):
    "A function of an array, a number and an axis; numpy's as a reference."
    def __init__(self, f, k, axis): super().__init__(); self.f, self.k, self.axis = f, k, axis
    def construct(self, x): return self.f(x, self.k, self.axis)
    def __call__(self, x): return ms.Tensor(self.f(x.asnumpy(), self.k, self.axis))


def draw(shape, rows, seed=0):
    rng = np.random.default_rng(seed)
    kind, shape = (shape[0], shape[1:]) if isinstance(shape[0], str) else ('', shape)
    if kind == 'int': return rng.integers(0, 5, (rows, *shape)).astype(np.int32)
    a = rng.normal(size=(rows, *shape)).astype(np.float32)
    return np.abs(a)+np.float32(.1) if kind == 'pos' else a


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
    "MindSpore compiles `construct` from its source file, so the expressions are written into one."
    f = tmp_path_factory.mktemp('ops')/'ops_under_test.py'
    src = ['import numpy as np', 'import mindspore as ms', 'from mindspore import mint, nn, ops']
    for k, (name, (expr, *shapes)) in enumerate(EXPRESSIONS.items()):
        src += [f'class C{k}(nn.Cell):', f'    def construct(self, {", ".join("abc"[:len(shapes)])}): return {expr}', f'C{k}.title = {name!r}']
    f.write_text('\n'.join(src))
    sys.path.insert(0, str(f.parent))
    yield {c.title: c for c in vars(importlib.import_module(f.stem)).values() if isinstance(c, type) and issubclass(c, nn.Cell)}
    sys.path.remove(str(f.parent))


def uneven(net):
    "Parameters as training would leave them; ones and zeros would hide a swapped gamma and beta."
    rng = np.random.default_rng(7)
    for p in net.get_parameters(): p.set_data(ms.Tensor((rng.uniform(.2, 1, p.shape)*(1 if 'var' in p.name else rng.choice([-1, 1], p.shape))).astype(np.float32)))
    return net.set_train(False)


def check(net, shapes, reference=None):
    params = {p.name: p.asnumpy() for p in net.get_parameters()}
    xs = tuple(ms.Tensor(draw(s, B)) for s in shapes)
    o = to_onnx(read_graph(net, xs), params, read_at_batch(net, xs, b=B+1))
    assert o.dynamic and not [n for n in o.notes if 'fixed' in n]
    s = session(o.bytes())
    for rows in (B, 5, 1):
        a = [draw(k, rows, 1) for k in shapes]
        want = (reference or net)(*map(ms.Tensor, a)); want = want if isinstance(want, tuple) else (want,)
        got = s.run(None, dict(zip([i.name for i in s.get_inputs()], a)))
        for g, w in zip(got, want):
            w = w.asnumpy()
            assert g.shape == w.shape and g.dtype == w.dtype
            np.testing.assert_allclose(g, w, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize('name', EXPRESSIONS)
def test_expression(name, cells): check(cells[name]().set_train(False), EXPRESSIONS[name][1:])


@pytest.mark.parametrize('name', CELLS)
def test_cell(name): check(uneven(eval(CELLS[name][0])), CELLS[name][1:])


@pytest.mark.parametrize('name', TWINS)
def test_twin(name):
    a, b, shape = TWINS[name]
    net, ref = uneven(eval(a)), uneven(eval(b))
    other = {q.name: q for q in ref.get_parameters()}
    for p in net.get_parameters():
        n = p.name if p.name in other else {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'mean', 'running_var': 'variance'}.get(p.name)
        if n in other: other[n].set_data(ms.Tensor(p.asnumpy().reshape(other[n].shape)))
    check(net, (shape,), ref)


def test_unsupported_names_operator_and_cell():
    class Two(nn.Cell):
        def __init__(self): super().__init__(); self.rec, self.head = nn.LSTM(4, 4), nn.Dense(4, 2)
        def construct(self, x): return self.head(self.rec(x)[0])
    net = Two().set_train(False)
    g = read_graph(net, (ms.Tensor(np.ones((2, 3, 4), np.float32)),))
    with pytest.raises(Unsupported) as e: to_onnx(g, {p.name: p.asnumpy() for p in net.get_parameters()})
    assert 'LSTM (rec' in e.value.what and 'engine: mindspore' in e.value.remedy and e.value.exit_code == 2


def test_missing_parameter():
    net = nn.Dense(4, 2); g = read_graph(net, (ms.Tensor(np.ones((2, 4), np.float32)),))
    with pytest.raises(Exception, match="value of Parameter 'bias' is missing"): to_onnx(g, dict(weight=np.ones((2, 4))))


def test_the_batch_in_a_number_fixes_the_batch():
    class Mean(nn.Cell):
        def construct(self, x): return x/x.shape[0]
    net = Mean(); x = (ms.Tensor(np.ones((2, 4), np.float32)),)
    o = to_onnx(read_graph(net, x), {}, read_at_batch(net, x, b=3))
    assert not o.dynamic and 'fixed batch of 2' in o.notes[0]
    assert session(o.bytes()).run(None, {o.inputs[0].name: np.ones((2, 4), np.float32)})[0].max() == .5


def test_inputs_by_keyword():
    class Named(nn.Cell):
        def __init__(self): super().__init__(); self.fc = nn.Dense(4, 2)
        def construct(self, image, scale): return self.fc(image)*scale
    net = Named().set_train(False); xs = (ms.Tensor(draw((4,), 2)), ms.Tensor(draw((2,), 2)))
    names = ('scale', 'image'); o = to_onnx(read_graph(net, xs[::-1], names), {p.name: p.asnumpy() for p in net.get_parameters()}, read_at_batch(net, xs[::-1], names))
    assert [i.name for i in o.inputs] == list(names) and o.dynamic
    image, scale = draw((4,), 40, 3), draw((2,), 40, 4)
    got = OrtNet(o.bytes(), like=net)(image=image, scale=ms.Tensor(scale)).asnumpy()
    np.testing.assert_allclose(got, net(ms.Tensor(image), ms.Tensor(scale)).asnumpy(), rtol=1e-4, atol=1e-5)


def test_every_writer_is_registered_once(): assert len(WRITERS) == len(set(WRITERS)) > 100
