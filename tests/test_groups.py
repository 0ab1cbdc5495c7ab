"Scales for groups of a dense weight's inputs: sizes, rounding, the simulation, both files, a file as input, and what does not divide."
import mindspore as ms, numpy as np # before onnx
import collections, onnx, pytest
from hypothesis import given, settings, strategies as st
from mindspore import nn, ops
from quantnb.all import *
from quantnb.deploy.engine import OrtEngine
from quantnb.deploy.mindir import load, to_mindir
from quantnb.deploy.qdq import optimized
from quantnb.graph.cost import CostModel, layer_bytes
from quantnb.graph.ir import read_graph, select
from quantnb.quant.gptq import Gptq, damped, descend, energy_scales, factor, gptq, output_error
from quantnb.quant.grid import quantize_weight
from quantnb.quant.recipe import Recipe

class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.up,self.down,self.norm,self.head,self.odd = nn.Dense(64, 256),nn.Dense(256, 64, has_bias=False),nn.LayerNorm((64,)),nn.Dense(64, 40),nn.Dense(40, 5)
    def construct(self, x): return self.odd(self.head(self.norm(self.down(ops.gelu(self.up(x)))+x).mean(1)))

@pytest.fixture(scope='module')
def data(): return np.random.default_rng(0).normal(size=(96,6,64)).astype(np.float32)

@pytest.fixture(scope='module')
def net(): ms.set_seed(3); return Block().set_train(False)

def engine(net, data, size, **recipe):
    x = ms.Tensor(data[:2]); e = OrtEngine(net, select(read_graph(net, x), group_size=size), (x,), recipe=Recipe(**recipe)); e.calibrate(lambda _: [ms.Tensor(data)]); return e

@pytest.fixture(scope='module')
def grouped(net, data): return engine(net, data, 32)

def test_layers_say_their_groups_and_why_not(grouped):
    by = {l.path:l for l in grouped.graph.layers}
    assert {p:l.group for p,l in by.items()}==dict(up=32, down=32, head=32, odd=0)
    assert by['up'].scales==256*2 and by['odd'].scales==5 and by['odd'].note=='a scale for each channel: 40 inputs do not divide into groups of 32' and by['up'].note=='groups of 32 inputs'
    assert Layer.from_json(by['up'].to_json())==by['up'] and Layer.from_json({k:v for k,v in by['up'].to_json().items() if k!='group'}).group==0 # a history from before

def test_inputs_that_do_not_divide_get_smaller_groups(net, data):
    g = read_graph(net, ms.Tensor(data[:2])); by = {l.path:l for l in select(g, group_size=128).layers}
    assert by['down'].group==128 and by['up'].group==32 and by['up'].note=='groups of 32 inputs: its 64 inputs do not divide into groups of 128'

class Tied(nn.Cell):
    def __init__(self): super().__init__(); self.words,self.mix,self.product = nn.Embedding(200, 64),nn.Dense(64, 64),ops.MatMul(transpose_b=True)
    def construct(self, x): return self.product(ops.relu(self.mix(self.words(x))).mean(1), self.words.embedding_table)

@pytest.mark.parametrize('w', [3,4,8])
def test_a_head_that_is_a_table_has_groups_in_both_its_places(w):
    ms.set_seed(0); rng = np.random.default_rng(0); net = Tied().set_train(False); ids = rng.integers(0, 200, (64,5)).astype(np.int32); x = ms.Tensor(ids[:2]); e = OrtEngine(net, select(read_graph(net, x), group_size=32), (x,)); e.calibrate(lambda _: [ms.Tensor(ids)])
    assert {l.param:l.group for l in e.graph.quantizable}=={'words.embedding_table':32, 'mix.weight':32}
    s = Strategy.uniform(e.graph.quantizable, w, 32); e.simulation.net(s); want = e.simulation.cell(ms.Tensor(ids[:8])).asnumpy(); reach = np.abs(want).max(); blob = e.builder.build(s); m = onnx.load_from_string(blob)
    y, = session_of(blob).run(None, {m.graph.input[0].name:ids[:8]}); assert np.abs(y-want).max()<.03*reach and collections.Counter(n.op_type for n in optimized(blob).graph.node)['MatMulNBits']==2
    assert not any(t.data_type==onnx.TensorProto.FLOAT and np.prod(t.dims)>=200*64 for t in m.graph.initializer) # the integers lie in the file once, and no float copy
    b = e.builder; opset = b.opset
    try: b.opset = 17; old = b.build(s)
    finally: b.opset = opset
    np.testing.assert_allclose(session_of(old).run(None, {m.graph.input[0].name:ids[:8]})[0], want, rtol=1e-3, atol=1e-5*reach)
    np.testing.assert_allclose(load(to_mindir(e.quantizer, s))(ms.Tensor(ids[:2])).asnumpy(), want[:2], rtol=1e-3, atol=1e-5*reach)

def test_the_size_counts_every_scale(grouped):
    l = next(l for l in grouped.graph.layers if l.path=='down')
    assert layer_bytes(l, Bits(4,32))==64*256//2+4*64*8 and layer_bytes(l, Bits(8,8))==64*256+4*64*8+8 and layer_bytes(l, Bits(16,32))==2*64*256

@pytest.mark.parametrize('w,a', [(2,32),(3,8),(4,32),(4,8),(5,16),(8,8),(8,32)])
def test_simulation_and_both_files_are_the_same_network(grouped, data, w, a):
    s = Strategy.uniform(grouped.graph.quantizable, w, a); q = grouped.quantizer; x = data[:8]
    grouped.simulation.net(s); want = grouped.simulation.cell(ms.Tensor(x)).asnumpy(); reach = np.abs(want).max()
    for l in grouped.graph.quantizable: assert q.weight(l.path, w).scale.shape==((l.c_out, l.c_in//32) if l.group else (l.c_out,))
    blob = grouped.builder.build(s); m = onnx.load_from_string(blob); onnx.checker.check_model(m, full_check=True)
    y, = session_of(blob).run(None, {m.graph.input[0].name:x})
    assert np.abs(y-want).max()<.03*reach # the runtime rounds what enters its blocks to 8 bits
    assert collections.Counter(n.op_type for n in optimized(blob).graph.node)['MatMulNBits']==3
    z = load(to_mindir(q, s, graph=None))(ms.Tensor(x[:2])).asnumpy(); np.testing.assert_allclose(z, want[:2], rtol=1e-4, atol=1e-5*reach)

def session_of(blob):
    from quantnb.deploy.session import session
    return session(blob)

def test_before_opset_21_the_file_is_exact(grouped, data):
    b = grouped.builder; s = Strategy.uniform(grouped.graph.quantizable, 4, 32); grouped.simulation.net(s); want = grouped.simulation.cell(ms.Tensor(data[:8])).asnumpy(); now = len(b.build(s)); opset = b.opset
    try: b.opset = 17; blob = b.build(s)
    finally: b.opset = opset
    np.testing.assert_allclose(session_of(blob).run(None, {b.o.inputs[0].name:data[:8]})[0], want, rtol=1e-3, atol=1e-5); assert abs(len(blob)-now)<3000

def test_the_file_is_as_small_as_the_table_says(grouped):
    s4,s8 = (Strategy.uniform(grouped.graph.quantizable, w, 32) for w in (4,8)); cm = CostModel(grouped.graph.layers)
    grouped.builder.storage = grouped.storage
    try: sizes = [grouped.builder.size(s) for s in (s4,s8)]
    finally: grouped.builder.storage = None
    assert abs((sizes[1]-sizes[0])-(cm.size(s8)-cm.size(s4)))<4000 # but for names and a table of 256 rows

def test_groups_make_the_output_closer(net, data, grouped):
    per = engine(net, data, None); worst = lambda e: [float(np.abs(a-f).mean()) for w in (3,4) for f,a in [(e.answers(None)[0], e.simulation.answers(Strategy.uniform(e.graph.quantizable, w, 32))[0])]]
    assert sum(worst(grouped))<sum(worst(per))

def test_nearest_and_sequence_take_groups(net, data):
    from quantnb.deploy.sequential import sequential
    e = engine(net, data, 64, rounding='nearest'); q = e.quantizer
    np.testing.assert_array_equal(q.weight('down', 4).q, quantize_weight(q.params[q.layers['down'].param], 4, group=64).q)
    q.weight('down', 4); q._w.clear(); np.testing.assert_array_equal(q.weight('down', 4).q, quantize_weight(q.params[q.layers['down'].param], 4, group=64).q) # again from its scales
    s = sequential(e.builder, Strategy.uniform(e.graph.quantizable, 3, 8)); g = q.weight('down', s['down'].w)
    assert s.own and g.scale.shape==(64,4) and np.isfinite(g.dequantized).all()

def test_a_rounding_that_knows_no_groups_is_refused(net, data):
    class Plain:
        needs,rescales = (),True
        def __call__(self, w, bits, axis=0, statistics=None, scale=None): return quantize_weight(w, bits, axis, scale=scale)
    roundings.register('plain for groups')(Plain)
    with pytest.raises(InputError, match='takes no groups'): engine(net, data, 32, rounding='plain for groups').quantizer.weight('up', 4)

@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.sampled_from([(32,64),(32,96),(64,128)]), st.integers(2, 8))
def test_sweeps_never_raise_the_error(seed, shape, bits):
    group,k = shape; rng = np.random.default_rng(seed); x = np.maximum(rng.normal(size=(400,k))@(np.eye(k)+.3*rng.normal(size=(k,k))), 0).astype(np.float32); D = damped((x.T@x/400)[None]); w = rng.normal(size=(1,5,k)).astype(np.float32)
    s = energy_scales(w[0], np.diagonal(D[0]), bits, group=group)[None]; q = gptq(w, *factor(D), s, bits); more,t = descend(w, q, s, D, bits, 10)
    e = lambda q,s: output_error(w, q*np.repeat(s, group, -1), D)
    assert np.abs(q).max()<=2**(bits-1) and (t>0).all() and np.isfinite(t).all() and e(more, t)<=e(q, s)*(1+1e-4)+1e-9

def test_a_group_is_rounded_by_its_own_scale():
    w = np.random.default_rng(0).normal(size=(1,5,64)).astype(np.float32); H = np.diag(np.random.default_rng(1).uniform(.1, 9, 64))[None]; s = np.stack([np.full((1,5), .3), np.full((1,5), .7)], -1).astype(np.float32)
    np.testing.assert_array_equal(gptq(w, *factor(damped(H)), s, 4), np.clip(np.rint(w/np.repeat(s, 32, -1)), -8, 7)) # inputs that do not occur together
