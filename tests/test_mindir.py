"The MINDIR computes what the simulation computes, in networks as users bring them, and MindSpore alone runs it."
import subprocess, sys, textwrap
import numpy as np
import pytest
from nets import Linear16, make, t
from quantnb.graph.ir import read_graph, select
from quantnb.quant.qnet import QuantNet
from quantnb.deploy.mindir import MindirNet, any_batch, load, to_mindir
from quantnb.types import WIDTHS, Bits, Strategy
import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import mind_ir_pb2 as pb

class Large(nn.Cell):
    "Weights large enough to be packed, with lengths no word divides; batch norm with another epsilon."
    def __init__(self):
        super().__init__()
        self.a,self.bn,self.b = nn.Conv2d(8, 66, 3),nn.BatchNorm2d(66, eps=.05),nn.Conv2d(66, 67, 3, has_bias=True)
        self.fc,self.w = nn.Dense(67, 101),Parameter(t(101, 45)*.1, name='w')
    def construct(self, x): return ops.matmul(self.fc(ops.relu(self.b(ops.relu(self.bn(self.a(x))))).mean((2,3))), self.w)
class Loop(nn.Cell):
    def __init__(self): super().__init__(); self.a,self.b = nn.Dense(8, 8),nn.Dense(8, 8)
    def construct(self, x):
        i = ops.abs(x).sum()*0
        while i<3: x = ops.tanh(self.a(x)); i = i+1
        return self.b(x)
class Nested(nn.Cell):
    "A branch in a branch; a layer read in two of them; a folded batch norm outside."
    def __init__(self): super().__init__(); self.a,self.b,self.c,self.bn = nn.Dense(8, 8),nn.Dense(8, 8),nn.Conv2d(1, 4, 3),nn.BatchNorm2d(4)
    def construct(self, x):
        y = self.bn(self.c(x.reshape((-1,1,2,4)))).mean((1,2,3))
        if x.sum()>0:
            if x.max()>1: return self.a(x),y
            return self.b(self.a(x)),y
        return self.b(x),y
class Counter(nn.Cell):
    "Assigns to a Parameter, so order matters, and what calibration has counted must not be shipped."
    def __init__(self): super().__init__(); self.a,self.b,self.n = nn.Dense(8, 8),nn.Dense(8, 8),Parameter(Tensor(np.zeros(1, np.float32)), name='n', requires_grad=False)
    def construct(self, x):
        ops.assign_add(self.n, Tensor([1.], ms.float32))
        x = self.a(x)
        if x.sum()>0: x = self.b(x)
        return x+self.n
class Cross(nn.Cell):
    "Attention with keys and values of another width: three projections, the batch on axis 1."
    def __init__(self): super().__init__(); self.mha,self.o = nn.MultiheadAttention(16, 4, kdim=8, vdim=8),nn.Dense(16, 4)
    def construct(self, x, m): return self.o(self.mha(x, m, m)[0])
class Casts(nn.Cell):
    "fp16 inside the Cell's own construct."
    def __init__(self): super().__init__(); self.a,self.b = Linear16(16, 16),Linear16(16, 8)
    def construct(self, x): return self.b(ops.relu(self.a(x)))
class Mixed(nn.Cell):
    "MindSpore casts before the Cell: the simulation sees an activation that was rounded to fp16, the file one that was not."
    def __init__(self): super().__init__(); self.a = nn.Dense(16, 8).to_float(ms.float16)
    def construct(self, x): return self.a(x)

MORE = dict(large=(Large,lambda: (t(4,8,6,6),)), loop=(Loop,lambda: (t(4,8),)), nested=(Nested,lambda: (t(4,8),)), counter=(Counter,lambda: (t(4,8),)),
    cross=(Cross,lambda: (t(5,4,16),t(7,4,8,seed=1))), casts=(Casts,lambda: (t(4,16),)), mixed=(Mixed,lambda: (t(4,16),)))
NAMES = ['cnn','grouped','conv1d','mint','shared','attention','by_hand','recurrent','branch','tied','encoder',*MORE]

def network(name):
    "Network with uneven vectors, as after training, and its inputs."
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(1)
    net,x = make(name) if name not in MORE else (MORE[name][0](),MORE[name][1]())
    r = np.random.default_rng(5)
    for p in net.get_parameters():
        if p.ndim==1 and p.name!='n': p.set_data(Tensor(r.uniform(.3, 1.5, p.shape).astype(np.float32)))
    return net.set_train(False),x

def calibrated(name):
    net,x = network(name)
    qn = QuantNet(net, select(read_graph(net, x)), x); qn.calibrate(lambda m: [m(*x)] and None)
    return qn,x

def fresh(x, seed=9):
    "Other values than those of calibration, some beyond its range."
    r = np.random.default_rng(seed)
    return tuple(Tensor((r.normal(size=a.shape)*1.3).astype(np.float32)) if a.dtype==ms.float32 else a for a in x)

def arrays(r): return [o for i in r for o in arrays(i)] if isinstance(r, (tuple,list)) else [r.asnumpy().astype(np.float32)]

def strategies(paths):
    yield Strategy.uniform(paths, 8)
    yield Strategy.uniform(paths, 32, 32)
    for seed in (1,2):
        r = np.random.default_rng(seed)
        yield Strategy({p:Bits(*r.choice(WIDTHS, 2).tolist()) for p in paths})

def simulate(qn, s, y):
    if 'n' in qn.params: np.copyto(qn.params['n'].asnumpy(), 0) # the state it was trained with
    qn.net(s)
    return [o.astype(np.float32) for o in qn.forward(*y)]

@pytest.mark.parametrize('name', NAMES)
def test_equals_simulation(name):
    qn,x = calibrated(name); y = fresh(x); changed = 0
    for s in strategies([l.path for l in qn.graph.quantizable]):
        want,plain = simulate(qn, s, y),simulate(qn, None, y)
        blob = to_mindir(qn.quantizer, s); got = arrays(load(blob)(*y))
        assert [g.shape for g in got]==[w.shape for w in want]
        worst = max(np.abs(g-w).max() for g,w in zip(got, want))
        assert worst<=(.02 if name=='mixed' else 0), (s, worst)
        assert len(blob)<len(qn.graph.blob)
        changed = max(changed, max(np.abs(w-p).max() for w,p in zip(want, plain)))
    assert changed>1e-3 # the strategies did something

def test_activation_ties():
    "An identity in the place of the weight shows the grid itself, ties and both ends included."
    net = nn.Dense(8, 8, has_bias=False, weight_init='zeros').set_train(False)
    np.copyto(net.weight.asnumpy(), np.eye(8, dtype=np.float32))
    x = t(64, 8)*3
    class Outer(nn.Cell):
        def __init__(self): super().__init__(); self.fc = net
        def construct(self, x): return self.fc(x)
    ms.set_context(mode=ms.GRAPH_MODE)
    qn = QuantNet(Outer(), read_graph(Outer(), (x,)), (x,)); qn.calibrate(lambda m: [m(x)] and None)
    for bits in range(2, 9):
        g = qn.quantizer.act('fc', bits); s = np.float32(g.scale)
        v = np.resize((np.arange(-2*g.n, 2*g.n)+.5).astype(np.float32)*s, (64,8)).astype(np.float32)
        q = np.clip(np.rint(v/s)+np.float32(g.zero_point), 0, 2**bits-1).astype(int)
        got = load(to_mindir(qn.quantizer, Strategy({'fc':(32,bits)})))(Tensor(v)).asnumpy()
        assert np.array_equal(got, ((q-g.zero_point)*s).astype(np.float32))
        assert len(np.unique(q))>1

def test_fresh_process(tmp_path):
    "MindSpore alone, without quantnb."
    qn,x = calibrated('cnn'); s = Strategy.uniform([l.path for l in qn.graph.quantizable], 4, 8)
    (tmp_path/'net.mindir').write_bytes(to_mindir(qn.quantizer, s)); np.save(tmp_path/'x.npy', x[0].asnumpy())
    (tmp_path/'run.py').write_text(textwrap.dedent('''
        import sys
        import numpy as np, mindspore as ms
        from mindspore import nn
        y = nn.GraphCell(ms.load('net.mindir'))(ms.Tensor(np.load('x.npy')))
        assert not any(m.split('.')[0] in ('quantnb','numba') for m in sys.modules)
        np.save('y.npy', y.asnumpy())'''))
    subprocess.run([sys.executable, 'run.py'], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    qn.net(s)
    assert np.array_equal(np.load(tmp_path/'y.npy'), qn.forward(*x)[0])

def test_what_the_file_holds():
    "Integers as Parameters under their own names, no operator of quantnb's own, no folded batch norm."
    qn,_ = calibrated('large'); m = pb.ModelProto()
    m.ParseFromString(to_mindir(qn.quantizer, Strategy({'a':(2,8), 'b':(8,8), 'fc':(16,32), 'w':(5,32)})))
    p = {o.name:o for o in m.graph.parameter}; T = pb.TensorProto
    assert {k:p[k].data_type for k in ('a.weight','b.weight','fc.weight','w')}=={'a.weight':T.INT8, 'b.weight':T.INT8, 'fc.weight':T.FLOAT16, 'w':T.INT16}
    assert tuple(p['a.weight'].dims)==(17,8,3,3) and tuple(p['w'].dims)==(34,45)
    assert not {'Custom','BatchNorm','Load'}&{o.op_type for o in m.primitives}
    assert not any('gamma' in k or 'moving' in k for k in p)

def test_batches():
    "A network with its batch in a Reshape goes in chunks or is exported again; one without takes any batch. References run at the same batch: rounding in a product depends on it, and a tie may tip."
    qn,x = calibrated('cnn'); s = Strategy.uniform([l.path for l in qn.graph.quantizable], 4, 8)
    blob = to_mindir(qn.quantizer, s); net = MindirNet(blob); assert any_batch(blob, x)
    for n in (1,8,64,65,250):
        b = Tensor(np.random.default_rng(n).normal(size=(n,*x[0].shape[1:])).astype(np.float32))
        qn.net(s); assert np.array_equal(net(b).asnumpy(), qn.forward(b)[0])
    qn,x = calibrated('attention'); s = Strategy.uniform([l.path for l in qn.graph.quantizable], 4, 8)
    five = np.concatenate([x[0].asnumpy()]*3)[:5]; six = np.concatenate([five, five[-1:]])
    qn.net(s); whole = qn.forward(Tensor(five))[0]; chunks = np.concatenate([qn.forward(Tensor(six[k:k+2]))[0] for k in (0,2,4)])[:5]
    blob = to_mindir(qn.quantizer, s); assert not any_batch(blob, x)
    assert np.array_equal(MindirNet(blob, batch=2)(Tensor(five)).asnumpy(), chunks)
    again = read_graph(network('attention')[0], (Tensor(five),))
    assert np.array_equal(load(to_mindir(qn.quantizer, s, graph=again))(Tensor(five)).asnumpy(), whole)

def test_rows_of_chunks():
    "Two outputs, one of them with several rows a sample; the padding leaves no row behind."
    class Rows(nn.Cell):
        def __init__(self): super().__init__(); self.a,self.b = nn.Dense(4, 3),nn.Dense(12, 5)
        def construct(self, x): return self.a(x.reshape((-1,4))), self.b(x)
    ms.set_context(mode=ms.GRAPH_MODE); x = t(2, 12)
    qn = QuantNet(Rows(), read_graph(Rows(), (x,)), (x,)); qn.calibrate(lambda m: [m(x)] and None); s = Strategy.uniform(['a','b'], 8)
    y = t(7, 12, seed=3); r,o = MindirNet(to_mindir(qn.quantizer, s), batch=2)(y)
    qn.net(s); assert [r.shape,o.shape]==[(21,3),(7,5)]
    for got,want in zip((r,o), qn.forward(y)): assert np.allclose(got.asnumpy(), want, atol=1e-5)

def test_small_enough():
    "At uniform 8 bits the example's file is at least 3.5 times smaller than MindSpore's own export."
    sys.path.insert(0, str(__import__('pathlib').Path(__file__).parent.parent/'examples'/'fashion'))
    import model
    sys.path.pop(0)
    ms.set_context(mode=ms.GRAPH_MODE)
    net,x = model.get_model({}),(model.get_inputs({}),)
    qn = QuantNet(net, read_graph(net, x), x); qn.calibrate(lambda m: [m(*x)] and None)
    paths = [l.path for l in qn.graph.quantizable]; size = lambda w: len(qn.graph.blob)/len(to_mindir(qn.quantizer, Strategy.uniform(paths, w, 8)))
    assert size(8)>=3.5 and size(4)>6 and size(2)>9
