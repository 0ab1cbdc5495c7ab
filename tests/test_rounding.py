"Rounding against the layer's output, and in sequence: what it may and may not change."
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
import mindspore as ms
from mindspore import Tensor, nn
from types import SimpleNamespace
from quantnb.config import QuantSettings
from quantnb.all import *
from quantnb.quant.gptq import damped, descend, energy_scales, factor, gptq
from quantnb.quant.recipe import Recipe

def correlated(seed, k, n=500):
    rng = np.random.default_rng(seed); x = np.maximum(rng.normal(size=(n,k))@(np.eye(k)+.4*rng.normal(size=(k,k))), 0).astype(np.float32)
    return x,(x.T@x/n)[None]

@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 8))
def test_never_worse_than_nearest_on_the_same_scale_after_the_sweeps(seed, k, bits):
    x,H = correlated(seed, k); w = np.random.default_rng(seed+1).normal(size=(1,6,k)).astype(np.float32); D = damped(H)
    s = np.stack([energy_scales(w[0], np.diagonal(D[0]), bits)]); near = np.clip(np.rint(w/s), -2**(bits-1), 2**(bits-1)-1).astype(np.float32)
    q = gptq(w, *factor(D), s, bits); more,t = descend(w, q, s, D, bits, 10); best,u = descend(w, near, s, D, bits, 10); e = lambda q,s: output_error(w, q*s, D)
    assert np.abs(q).max()<=2**(bits-1) and np.isfinite(t).all() and (t>0).all()
    assert e(more, t)<=e(q, s)*(1+1e-4)+1e-9 and e(best, u)<=e(near, s)*(1+1e-4)+1e-9

def test_uncorrelated_inputs_are_rounded_to_nearest():
    w = np.random.default_rng(0).normal(size=(1,5,30)).astype(np.float32); H = np.diag(np.random.default_rng(1).uniform(.1, 9, 30))[None]; s = np.full((1,5,1), .3, np.float32)
    np.testing.assert_array_equal(gptq(w, *factor(damped(H)), s, 4), np.clip(np.rint(w/s), -8, 7))

@pytest.mark.parametrize('x', [np.zeros((50,12), np.float32), np.eye(12, dtype=np.float32)[:1], np.ones((3,12), np.float32)], ids=['zeros','one_row','constant'])
def test_degenerate_inputs_give_finite_weights(x):
    layer = Layer('fc', 'dense', 'MatMul', 'w', (4,12)); seen = Observer(-1, (Moments,Rows), layer); seen(x); w = np.random.default_rng(0).normal(size=(4,12)).astype(np.float32)
    for bits in (2,4,8):
        g = Gptq()(w, bits, 0, seen); assert np.isfinite(g.dequantized).all() and (g.scale>0).all()

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        conv = lambda i,o,k,g=1,b=True: nn.Conv2d(i, o, k, pad_mode='pad', padding=k//2, group=g, has_bias=b, weight_init='HeNormal')
        self.a,self.b,self.c,self.d = conv(3, 8, 3),conv(8, 8, 3, 8, False),conv(8, 12, 1),conv(8, 12, 1, b=False); self.norm,self.relu,self.fc,self.head = nn.BatchNorm2d(8),nn.ReLU(),nn.Dense(12, 12),nn.Dense(12, 5)
    def construct(self, x):
        x = self.relu(self.a(x)); y = self.relu(self.c(self.relu(self.norm(self.b(x)))))+self.d(x); y = y.mean((2,3))
        return self.head(self.relu(self.fc(self.relu(self.fc(y))))) # fc is called twice

@pytest.fixture(scope='module')
def engine():
    ms.set_seed(1); net = Net().set_train(False); x = np.random.default_rng(0).normal(size=(80,3,8,8)).astype(np.float32); x = x+np.roll(x, 1, 2)+np.roll(x, 1, 3)
    e = OrtEngine(net, select(read_graph(net, (Tensor(x[:1]),))), (Tensor(x[:1]),), recipe=Recipe()); e.calibrate(lambda m: m(Tensor(x))); e.x = Tensor(x)
    return e

def out(e, s): return e.forward(e.net(s), e.x)[0]

def test_other_strategies_keep_their_weights(engine):
    e = engine; s = Strategy.uniform([l.path for l in e.graph.quantizable], 3, 4); before = out(e, s); own = sequential(e.builder, s)
    assert own!=s and own.plain==s and own.own and own.to_json()==s.to_json() and Strategy.from_json(own.to_json())==s
    e.deployed.sessions.clear(); np.testing.assert_array_equal(out(e, s), before)
    assert own['fc'].w==3 and not isinstance(own['fc'].w, OwnWidth), 'called twice: it has no one input to be rounded for'
    target = out(e, None); err = lambda s: ((out(e, s)-target)**2).mean(); assert err(own)<err(s)

def test_files_and_simulation_have_the_weights_of_the_strategy(engine, tmp_path):
    e = engine; own = sequential(e.builder, Strategy.uniform([l.path for l in e.graph.quantizable], 2, 8)); want = out(e, own)
    (tmp_path/'m.onnx').write_bytes(e.builder.build(own)); import onnxruntime as ort
    s = ort.InferenceSession(str(tmp_path/'m.onnx')); np.testing.assert_allclose(s.run(None, {s.get_inputs()[0].name:e.x.asnumpy()})[0], want, atol=1e-5)
    sim = e.sim.net(own)(e.x).asnumpy(); assert np.abs(sim-want).mean()<.05*np.abs(want).std()
    from quantnb.deploy.mindir import load, to_mindir
    (tmp_path/'m.mindir').write_bytes(to_mindir(e.quantizer, own)); n = e.graph.batch
    np.testing.assert_allclose(load(tmp_path/'m.mindir')(e.x[:n]).asnumpy(), sim[:n], atol=2e-2)
    e.builder.drop(own.own); e.quantizer.drop(own.own)
    with pytest.raises(KeyError): e.quantizer.weight('a', own['a'].w)
    assert not [k for k in [*e.builder.inits, *e.builder.makers] if f'~{own.own}' in k]

def test_float_layers_stay(engine):
    e = engine; s = Strategy.uniform([l.path for l in e.graph.quantizable], 32, 32)
    assert sequential(e.builder, s)==s

def test_a_preset_stands_for_what_is_not_given():
    rounding = lambda **q: Recipe.from_settings(SimpleNamespace(quant=QuantSettings(**q), observer='mse', bias_correction=True)).rounding
    assert rounding()=='gptq' and rounding(preset='fast')=='nearest' and rounding(preset='fast', rounding='gptq')=='gptq' and rounding(preset='best')['sweeps']>3

def test_a_preset_scales_no_channels_for_activations_that_stay_float():
    made = lambda act_bits, **q: Recipe.from_settings(SimpleNamespace(quant=QuantSettings(**q), observer='mse', bias_correction=True), act_bits).transforms
    assert made(None)==made([8])==made([8,32])==('fold','equalize','smooth') and made([16,32])==made([32])==('fold',)==made([32], preset='best')
    assert made([32], transforms=['fold','smooth'])==('fold','smooth') # whoever says so gets it
