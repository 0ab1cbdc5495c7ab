"Sensitivities of a network of many blocks, of which some are measured."
import mindspore as ms, numpy as np # before onnx
import logging, pytest, tempfile
from mindspore import nn, ops
from scipy.stats import spearmanr
from quantnb.all import *
from quantnb.run import prepare

class Block(nn.Cell):
    def __init__(self, d, gain):
        super().__init__(); self.up,self.down,self.norm,self.gain = nn.Dense(d, 2*d),nn.Dense(2*d, d),nn.LayerNorm((d,)),gain
    def construct(self, x): return x+self.gain*self.down(ops.relu(self.up(self.norm(x))))

class Deep(nn.Cell):
    "Eight blocks, of which the later ones matter more, and a head that matters most."
    def __init__(self, d=32): super().__init__(); self.blocks,self.head = nn.SequentialCell(*[Block(d, .05*1.5**k) for k in range(8)]),nn.Dense(d, 10)
    def construct(self, x): return self.head(self.blocks(x))*4

@pytest.fixture(scope='module')
def prepared():
    ms.set_seed(1); net = Deep().set_train(False); rng = np.random.default_rng(0); x = rng.normal(size=(256,32)).astype(np.float32)
    task = Task(net=net, inputs=ms.Tensor(x[:2]), calib=[ms.Tensor(x)], evaluate=lambda m: float(m(ms.Tensor(x)).asnumpy().argmax(1).mean()), bits=[2,3,4,6,8], act_bits=[32], targets=Targets(compress_ratio=80), local_base_path=tempfile.mkdtemp())
    return Prepared(task).open_network()

def test_a_sample_of_blocks_ranks_the_layers_as_all_do(prepared, monkeypatch, caplog):
    key = lambda rows: {(r['path'],r['w']):r['divergence']-r['base'] for r in rows}
    full = key(prepared.measure_sensitivity()); assert len(full)==17*5
    monkeypatch.setattr(Prepared, 'measurable', lambda self: 9) # four of each kind of layer and the head
    with caplog.at_level(logging.WARNING): some = prepared.measure_sensitivity()
    assert 'sensitivities: 9 of 17 layers at 4 bits on' in caplog.text
    some = key(some); assert set(some)==set(full) and all(v>=0 for v in some.values())
    narrow = [k for k in full if k[1]<8]; r = spearmanr([full[k] for k in narrow], [some[k] for k in narrow]).statistic; assert r>.95, r
    own = [k for k in narrow if k[0] in ('head','blocks.0.up','blocks.7.down') and k[1]==4]; np.testing.assert_allclose([some[k] for k in own], [full[k] for k in own], rtol=.2) # what was measured is as measured, on the samples it was
    errors = {(l.path,w): prepare.weight_loss(prepared.engine.quantizer, l, w) for l in prepared.graph.quantizable for w in (2,3,4,6)}
    assert spearmanr([full[k] for k in narrow], [errors[k] for k in narrow]).statistic<r-.02 # errors alone do not know that later blocks matter more

def test_too_many_kinds_of_layers_are_not_measured(prepared, monkeypatch, caplog):
    monkeypatch.setattr(prepare, 'SENSITIVITY_NODES', 10)
    with caplog.at_level(logging.WARNING): assert prepared.measure_sensitivity()==[]
    assert 'would take minutes to measure' in caplog.text

def test_activations_have_a_sample_of_their_own(prepared, monkeypatch):
    probes = []
    class Measured: base,rows = .1,4
    def measure(widths, rows, paths):
        probes.append((widths, paths)); m = Measured(); m.table = {(p,b):.1+(.5 if b.a==4 else .01)*(1+int(p.split('.')[1]) if '.' in p else 10) for p in paths for b in widths}; return m
    monkeypatch.setattr(Prepared, 'measurable', lambda self: 2*7)
    rows = prepared.sampled_sensitivity([Bits(2,8),Bits(4,8),Bits(8,8)], [Bits(8,4)], 64, measure)
    (widths,paths), = probes; assert widths==[Bits(4,8),Bits(8,4)] and [p for p in paths if 'up' in p]==['blocks.0.up','blocks.4.up','blocks.7.up']
    rise = {(r['path'],r['w'],r['a']):r['divergence']-.1 for r in rows}; assert rise['blocks.4.up',8,4]==pytest.approx(2.5) and 2.5<rise['blocks.5.up',8,4]<rise['blocks.6.up',8,4]<4. and rise['head',4,8]==pytest.approx(.1)
    for l in prepared.graph.quantizable: assert rise[l.path,2,8]>rise[l.path,4,8]>rise[l.path,8,8]>0
    rows = prepared.sampled_sensitivity([Bits(4,32),Bits(8,32)], [Bits(8,8)], 64, measure); rise = {(r['path'],r['w'],r['a']):r['divergence']-.1 for r in rows}
    assert rise['blocks.7.up',8,8]==pytest.approx(.08) # an activation of 8 bits beside a weight of 8 is what was measured of it, and no width of the weight
