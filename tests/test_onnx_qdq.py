"""Q/DQ files compute what the simulation computes, run on integer kernels, and do so at every batch size."""
import quantnb  # noqa: F401  before mindspore: it sets the log level
import mindspore as ms
import numpy as np
import onnx
import pytest
from mindspore import Parameter, Tensor, nn, ops
from nets import make, t

from quantnb.deploy.onnx import read_at_batch, session, to_onnx
from quantnb.deploy.packing import Packing
from quantnb.deploy.qdq import QdqBuilder, integer_macs, optimized
from quantnb.deploy.session import parity
from quantnb.graph.ir import read_graph
from quantnb.quant.qnet import QuantNet
from quantnb.types import Strategy


class Left(nn.Cell):
    "The weight is the first operand."
    def __init__(self): super().__init__(); self.fc, self.w = nn.Dense(6, 6), Parameter(t(7, 5), name='w')
    def construct(self, x): return ops.matmul(self.w, self.fc(x))


class Inception(nn.Cell):
    "One tensor feeds four readers; pooling, concatenation, a convolution whose output leaves the network."
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = nn.Conv2d(2, 8, 3, has_bias=True), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)
        self.pool, self.end, self.act = nn.MaxPool2d(3, 1, pad_mode='same'), nn.Conv2d(32, 4, 1), nn.ReLU6()
    def construct(self, x):
        x = self.act(self.stem(x)*3)
        y = ops.cat((self.a(x), self.act(self.b(x)), self.c(self.pool(x)), x), 1)
        return self.end(y), y.mean((2, 3))


class PreActivation(nn.Cell):
    "Batch norm and ReLU before the convolution; the input itself is added; HSwish and a squeeze-and-excite product."
    def __init__(self):
        super().__init__()
        self.n1, self.c1, self.n2, self.c2 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
        self.gate, self.pool, self.head, self.act = nn.Conv2d(8, 8, 1, has_bias=True), nn.AvgPool2d(2, 2), nn.Dense(8, 4), nn.HSwish()
    def construct(self, x):
        y = self.c1(ops.relu(self.n1(x)))
        y = x + self.c2(self.act(self.n2(y)))
        y = y*ops.sigmoid(self.gate(y.mean((2, 3), True)))
        return self.head(self.pool(ops.relu(self.c2(y))).reshape((y.shape[0], 8, -1)).mean(2))


class Twice(nn.Cell):
    "A Dense followed by a batch norm, called once, and a convolution called twice at different ranges."
    def __init__(self): super().__init__(); self.c, self.fc, self.bn = nn.Conv2d(4, 4, 3, has_bias=True), nn.Dense(4, 8), nn.BatchNorm1d(8)
    def construct(self, x): return self.bn(self.fc(ops.relu(self.c(ops.relu(self.c(x))*4)).mean((2, 3))))


OWN = dict(left=(Left, (5, 6)), inception=(Inception, (2, 9, 9)), pre_activation=(PreActivation, (8, 8, 8)), twice=(Twice, (4, 7, 7)))
NAMES = ['cnn', 'grouped', 'conv1d', 'mint', 'shared', 'attention', 'by_hand', 'tied', 'encoder', *OWN]
_made = {}


def inputs(name, rows): return (t(rows, *OWN[name][1]),) if name in OWN else make(name, rows)[1]


def network(name):
    "(simulation, builder, float graph) of a calibrated network with uneven batch norms."
    if name not in _made:
        ms.set_seed(1); net = OWN[name][0]().set_train(False) if name in OWN else make(name)[0]
        rng = np.random.default_rng(0)
        for p in net.get_parameters():
            if any(k in p.name for k in ('gamma', 'moving_variance')): p.set_data(Tensor(rng.uniform(.5, 2, p.shape).astype(np.float32)))
            if any(k in p.name for k in ('beta', 'moving_mean', 'bias')): p.set_data(Tensor(rng.normal(size=p.shape).astype(np.float32)*.1))
        x = inputs(name, 2); sim = QuantNet(net, read_graph(net, x), x)
        sim.calibrate(lambda m: [inputs(name, 32)])
        o = to_onnx(sim.graph, sim.quantizer.params, read_at_batch(net, x))
        _made[name] = sim, QdqBuilder(o, sim.quantizer), o
    return _made[name]


def outputs(sim, strategy, xs):
    net = sim.net(strategy); r = net(*xs)
    return [v.asnumpy() for v in (r if isinstance(r, tuple) else (r,))]


def distance(got, want): return max(float(np.abs(a-b).max()/max(b.std(), 1e-6)) for a, b in zip(got, want))


def run(model, xs, **kw):
    s = session(model, **kw)
    return s.run(None, {i.name: x.asnumpy() for i, x in zip(s.get_inputs(), xs)})


@pytest.mark.parametrize('name', NAMES)
def test_exact_where_nothing_is_added(name):
    sim, b, o = network(name); ps = list(b.q.layers); xs = inputs(name, 5)
    half = 6e-3 if name == 'attention' else 2e-4  # the fp16 Linear is float32 in the file
    assert o.dynamic
    for s in (None, *(Strategy.uniform(ps, *bits) for bits in ((8, 32), (3, 32), (16, 16)))):
        assert distance(run(b.build(s), xs), outputs(sim, s, xs)) < half, s
    s = Strategy.uniform(ps, 32, 8)  # fake-quantized activations in float arithmetic: a tie may fall to the other side
    assert distance(run(b.build(s), xs), outputs(sim, s, xs)) < .05


@pytest.mark.parametrize('name', NAMES)
def test_integers_are_close(name):
    sim, b, o = network(name); ps = list(b.q.layers); rng = np.random.default_rng(3); xs = inputs(name, 5)
    for bits in ((8, 8), (4, 8)):
        s = Strategy.uniform(ps, *bits); m = b.build(s)
        onnx.checker.check_model(onnx.load_from_string(m), full_check=True)
        assert distance(run(m, xs), outputs(sim, s, xs)) < .15, s
    for _ in range(4):
        s = Strategy({p: (int(rng.choice([2, 3, 4, 6, 8, 16, 32])), int(rng.choice([4, 6, 8, 32]))) for p in ps}); m = b.build(s)
        onnx.checker.check_model(onnx.load_from_string(m), full_check=True)
        assert distance(run(m, xs), run(m, xs, optimized=False)) < .1  # the runtime's fusions change nothing
        assert distance(run(m, xs), outputs(sim, s, xs)) < 1, s


@pytest.mark.parametrize('name', [n for n in NAMES if n != 'left'])
def test_all_on_integer_kernels(name):
    sim, b, o = network(name)
    r = integer_macs(b.build(Strategy.uniform(list(b.q.layers), 8)), o)
    assert r['share'] == 1 and r['float_layers'] == {} and (r['share_of_all'] < 1) == any(l.kind == 'matmul' for l in sim.graph.layers), r


def test_weight_on_the_left_stays_float():
    sim, b, o = network('left')
    r = integer_macs(b.build(Strategy.uniform(list(b.q.layers), 8)), o)
    assert list(r['float_layers']) == ['w'] and 0 < r['share'] < 1


@pytest.mark.parametrize('name', ['cnn', 'encoder', 'inception'])
def test_parity_at_batch_sizes(name):
    sim, b, o = network(name); m = b.build(Strategy.uniform(list(b.q.layers), 4, 8))
    r = parity(m, lambda *xs: tuple(np.concatenate(v) for v in zip(*[run(m, [Tensor(x[k:k+1]) for x in xs]) for k in range(len(xs[0]))])), [tuple(x.asnumpy() for x in inputs(name, 70))], seconds=600)
    assert set(r['batches']) == {1, 8, 64, 65, 250} and r['agreement'] == 1 and r['max_diff'] < 1e-5


def test_float_layers_keep_their_weights():
    "A float convolution between two integer ones is not quantized by the runtime."
    sim, b, o = network('cnn'); ps = list(b.q.layers)
    for k, p in enumerate(ps):
        s = Strategy({q: (32, 32) if q == p else (8, 8) for q in ps}); m = b.build(s)
        assert list(integer_macs(m, o)['float_layers']) == [p]
        assert sum(n.op_type in ('QLinearConv', 'QGemm') for n in optimized(m).graph.node) == len(ps)-1


@pytest.mark.parametrize('name', NAMES)
def test_packed_weights_are_the_same(name, monkeypatch):
    "Whatever a weight is read through: transposed, split, shared, tied; also with constants that are handed over next to the model."
    monkeypatch.setattr('quantnb.deploy.packing.which_pay', lambda saved, cost: list(saved)); monkeypatch.setattr('quantnb.deploy.qdq.LARGE', 64)
    sim, b, o = network(name); ps = list(b.q.layers); xs = inputs(name, 5); rng = np.random.default_rng(5); packing = QdqBuilder(o, b.q, Packing())
    for s in (Strategy.uniform(ps, 3, 8), Strategy.uniform(ps, 4, 32), Strategy({p: (int(rng.choice([2, 4, 5, 6, 7])), 8) for p in ps})):
        m = packing.build(s); g = onnx.load_from_string(m).graph; onnx.checker.check_model(onnx.load_from_string(m), full_check=True)
        assert len(m) == packing.size(s) and packing.narrow and not set(packing.narrow) & {i.name for i in g.initializer} and 'Gather' in {n.op_type for n in g.node}
        for got, want in zip(run(m, xs), run(b.build(s), xs)): np.testing.assert_array_equal(got, want)


def test_a_further_strategy_leaves_memory_alone():
    sim, b, o = network('cnn'); ps = list(b.q.layers); rng = np.random.default_rng(0)
    draw = lambda: Strategy({p: (int(rng.choice([2, 4, 8])), int(rng.choice([4, 8]))) for p in ps})
    for _ in range(300): b.build(draw())
    n = sum(map(len, b.inits.values()))
    for _ in range(200): b.build(draw())
    assert sum(map(len, b.inits.values())) < 1.05*n


@pytest.mark.parametrize('name', ['inception', 'encoder', 'left'])
def test_constants_that_are_made_again(name, monkeypatch):
    "A file, its size and its outputs are the same where nothing that can be made again is kept."
    sim, b, o = network(name); ps = list(b.q.layers); xs = inputs(name, 5)
    cases = [Strategy.uniform(ps, *bits) for bits in ((8, 8), (4, 8), (4, 32), (2, 4), (16, 32), (32, 32))]
    rich = QdqBuilder(o, b.q); files = [rich.build(s) for s in cases]; float_file = o.bytes()
    monkeypatch.setattr('quantnb.deploy.qdq.LARGE', 64); monkeypatch.setattr('quantnb.deploy.container.LARGE', 64)
    poor = QdqBuilder(o, b.q); poor.kept.limit = b.q._w.limit = 1
    for _ in range(2):
        for s, m in zip(cases, files):
            assert poor.size(s) == len(m) == len(poor.build(s))
            for x, y in zip(run(m, xs), poor.open(s).run(None, {i.name: x.asnumpy() for i, x in zip(o.inputs, xs)})): np.testing.assert_array_equal(x, y)
    assert len(poor.kept) <= 1 and len(poor.makers) > 3
    assert len(o.bytes()) == len(float_file) == sum(map(len, o.parts()))
    for x, y in zip(run(float_file, xs), run(o.bytes(), xs)): np.testing.assert_array_equal(x, y)
