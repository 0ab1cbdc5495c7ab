"Transforms that need statistics, from the network to its files."
import json, numpy as np, pytest, tempfile
import mindspore as ms
from quantnb.all import *
from quantnb.deploy.onnx import to_onnx
import nets
from mindspore import nn
from quantnb.deploy.engine import OrtEngine
from quantnb.quant.recipe import Recipe

def hostile(net, pairs, rng, low=32, high=256):
    "Scale a quarter of the channels of (batch norm or convolution, reader, depthwise), without changing the function."
    ps = {p.name:p for p in net.get_parameters()}
    for owners,reader in pairs:
        w = ps[reader].asnumpy(); c = ps[owners[0]].shape[0]; s = np.ones(c, np.float32); at = rng.choice(c, c//4, replace=False); s[at] = np.exp(rng.uniform(np.log(low), np.log(high), c//4))
        for o in owners: v = ps[o].asnumpy(); ps[o].set_data(ms.Tensor(v*s.reshape(-1, *[1]*(v.ndim-1))))
        ps[reader].set_data(ms.Tensor(w/s.reshape(1, -1, *[1]*(w.ndim-2))))

@pytest.fixture(scope='module')
def cnn():
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = nets.CNN().set_train(False); x = nets.t(64, 1, 12, 12); y = net(x).asnumpy()
    hostile(net, [(('res.0.b1.gamma','res.0.b1.beta'), 'res.0.c2.weight'), (('res.1.b1.gamma','res.1.b1.beta'), 'res.1.c2.weight')], np.random.default_rng(0))
    np.testing.assert_allclose(net(x).asnumpy(), y, rtol=1e-4, atol=1e-5*np.abs(y).max())
    return net,x,y

def prepared(net, x, transforms, **kw):
    return Prepared(Task(net=net, inputs=x[:2], calib=[x], evaluate=lambda m: float(np.abs(m(x).asnumpy()).mean()), bits=[8], act_bits=[8], quant=dict(transforms=list(transforms)), local_base_path=tempfile.mkdtemp(), **kw)).open_network()

@pytest.mark.parametrize('engine', ['onnxruntime','mindspore'])
def test_equalization_reaches_both_engines_and_all_files(cnn, engine):
    net,x,y = cnn; plain,equal = (prepared(net, x, t, engine=engine) for t in (('fold',),('fold','equalize')))
    s = Strategy.uniform([l.path for l in plain.graph.quantizable], 8, 8); out = lambda p, s: p.engine.net(s)(x).asnumpy()
    for p in (plain,equal): np.testing.assert_allclose(out(p, None), y, atol=1e-5*np.abs(y).max())
    error = [float(((out(p, s)-y)**2).mean()) for p in (plain,equal)]
    assert error[1]<error[0]/4, error
    assert any(r['kept'] for r in equal.engine.quantizer.scaled[0].report) and not equal.engine.quantizer.waiting
    files = equal.exporter.check(s, dict(onnx=equal.exporter.onnx(s), mindir=equal.exporter.mindir(s)), [(x[:8].asnumpy(),)], (1,8))
    assert files['onnx']['agreement']==files['mindir']['agreement']==1, files

def test_equalization_of_an_onnx_file(cnn, tmp_path):
    net,x,y = cnn; g = read_graph(net, (x[:2],)); (tmp_path/'net.onnx').write_bytes(to_onnx(g, {p.name:p.asnumpy() for p in net.get_parameters()}).bytes())
    ps = [Prepared(Task(net=str(tmp_path/'net.onnx'), calib=[x[k:k+2].asnumpy() for k in range(0, 64, 2)], evaluate=lambda m: 0., bits=[8], act_bits=[8], quant=dict(transforms=t), local_base_path=tempfile.mkdtemp())).open_network() for t in (['fold'],['fold','equalize'])]
    s = Strategy.uniform([l.path for l in ps[0].graph.quantizable], 8, 8); out = lambda p, s: np.concatenate([p.engine.net(s)(x[k:k+2].asnumpy()) for k in range(0, 64, 2)])
    for p in ps: np.testing.assert_allclose(out(p, None), y, atol=1e-5*np.abs(y).max())
    error = [float(((out(p, s)-y)**2).mean()) for p in ps]
    assert error[1]<error[0]/4, error

def test_smoothing_of_a_transformer():
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); rng = np.random.default_rng(0)
    net = nets.Attention().set_train(False); x = nets.ids(4, 7)
    v = np.ones(16, np.float32); v[[2,9]] = 64; net.ln.gamma.set_data(ms.Tensor(v)); y = net(x).asnumpy()
    plain,smooth = (prepared(net, x, t) for t in (('fold',),('fold','smooth'))); s = Strategy.uniform([l.path for l in plain.graph.quantizable], 8, 8)
    np.testing.assert_allclose(*(p.engine.net(None)(x).asnumpy() for p in (smooth,plain)), atol=1e-5*np.abs(y).max())
    error = [float(((p.engine.net(s)(x).asnumpy()-y)**2).mean()) for p in (plain,smooth)]
    assert error[1]<error[0], error

def test_smoothing_of_an_onnx_file(tmp_path):
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = nets.Attention().set_train(False); x = nets.ids(4, 7)
    v = np.ones(16, np.float32); v[[2,9]] = 64; net.ln.gamma.set_data(ms.Tensor(v)); y = net(x).asnumpy()
    (tmp_path/'net.onnx').write_bytes(to_onnx(read_graph(net, (x,)), {p.name:p.asnumpy() for p in net.get_parameters()}).bytes())
    ps = [Prepared(Task(net=str(tmp_path/'net.onnx'), calib=[x.asnumpy()], evaluate=lambda m: float(m(x.asnumpy()).mean()), bits=[8], act_bits=[8], quant=dict(transforms=t), local_base_path=tempfile.mkdtemp())).open_network() for t in (['fold'],['fold','smooth'])]
    s = Strategy.uniform([l.path for l in ps[0].graph.quantizable], 8, 8); out = lambda p, s: p.engine.net(s)(x.asnumpy())
    np.testing.assert_allclose(out(ps[1], None), out(ps[0], None), atol=1e-5*np.abs(y).max()) # the writer's GELU is not MindSpore's to the last digit
    error = [float(((out(p, s)-y)**2).mean()) for p in ps]
    assert error[1]<error[0] and any(o['kept'] for o in ps[1].engine.quantizer.scaled[0].report), error

def test_equalization_through_a_gate_keeps_the_function_and_repairs_an_activation():
    from mindspore import ops
    class Gated(nn.Cell):
        def __init__(self): super().__init__(); self.gate,self.up,self.down,self.head = nn.Dense(16, 64, has_bias=False),nn.Dense(16, 64),nn.Dense(64, 16, has_bias=False),nn.Dense(16, 4)
        def construct(self, x): return self.head(x+self.down(ops.silu(self.gate(x))*self.up(x))).mean(1)
    ms.set_seed(0); rng = np.random.default_rng(0); net = Gated().set_train(False); w = {p.name:p for p in net.get_parameters()}; some = [3,17]
    for k,f in (('up.weight',128.),('up.bias',128.)): a = w[k].asnumpy().copy(); a[some] *= f; w[k].set_data(ms.Tensor(a))
    a = w['down.weight'].asnumpy().copy(); a[:,some] /= 128; w['down.weight'].set_data(ms.Tensor(a)) # the same function, an activation that 8 bits cannot hold
    x = rng.normal(size=(128,5,16)).astype(np.float32); t = ms.Tensor(x[:2]); g = read_graph(net, t); error = {}
    for transforms in (('fold',),('fold','equalize')):
        e = OrtEngine(net, g, (t,), recipe=Recipe(transforms=transforms, rounding='nearest')); e.calibrate(lambda _: [ms.Tensor(x)])
        f,q = e.answers(None)[0],e.answers(Strategy({l.path:Bits(16,8) for l in g.quantizable}))[0]; error[transforms] = float(((q-f)**2).mean()/f.var()); np.testing.assert_allclose(f, np.concatenate([net(ms.Tensor(b[0])).asnumpy() for b in e.quantizer.inputs])[:len(f)], atol=1e-4)
    assert error['fold','equalize']<.1*error['fold',], error

class Shifted(nn.Cell):
    "High biases behind a ReLU, and a layer norm with shifts of very different size."
    def __init__(self):
        super().__init__(); conv = lambda i, o: nn.Conv2d(i, o, 1, has_bias=True)
        self.a,self.b,self.norm,self.q,self.k = conv(3, 8),conv(8, 12),nn.LayerNorm((12,)),nn.Dense(12, 6),nn.Dense(12, 6)
        self.a.bias.set_data(ms.Tensor(np.linspace(20, 40, 8).astype(np.float32))); self.norm.beta.set_data(ms.Tensor(np.linspace(-40, 40, 12).astype(np.float32)))
    def construct(self, x):
        h = self.norm(self.b(ms.ops.relu(self.a(x))).mean((2,3)))
        return ms.ops.tanh(self.q(h))+self.k(h)

@pytest.mark.parametrize('engine', ['onnxruntime','mindspore'])
def test_absorbed_shifts_reach_both_engines_and_all_files(engine):
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = Shifted().set_train(False); x = nets.t(64, 3, 5, 5); y = net(x).asnumpy()
    plain,absorbed = (prepared(net, x, t, engine=engine) for t in (('fold',),('absorb','fold','equalize'))); s = Strategy.uniform([l.path for l in plain.graph.quantizable], 8, 8); out = lambda p, s: p.engine.net(s)(x).asnumpy()
    np.testing.assert_allclose(out(absorbed, None), y, atol=1e-5*np.abs(y).max())
    done = absorbed.engine.quantizer.scaled; assert type(done[-1]).__name__=='Absorb' and {o['source']:o['kept'] for o in done[-1].report}=={'a.bias':True, 'norm.beta':True} # last, wherever it stands in the recipe
    error = [float(((out(p, s)-y)**2).mean()) for p in (plain,absorbed)]
    assert error[1]<.7*error[0], error # the file stores what no layer reads, the map before the mean, in 8 bits as well
    files = absorbed.exporter.check(s, dict(onnx=absorbed.exporter.onnx(s), mindir=absorbed.exporter.mindir(s)), [(x[:8].asnumpy(),)], (1,8))
    assert files['onnx']['agreement']>.99 and files['mindir']['agreement']>.99, files

def test_absorbed_shifts_of_an_onnx_file(tmp_path):
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = Shifted().set_train(False); x = nets.t(64, 3, 5, 5); y = net(x).asnumpy()
    (tmp_path/'net.onnx').write_bytes(to_onnx(read_graph(net, (x[:2],)), {p.name:p.asnumpy() for p in net.get_parameters()}).bytes())
    p = Prepared(Task(net=str(tmp_path/'net.onnx'), calib=[x[k:k+2].asnumpy() for k in range(0, 64, 2)], evaluate=lambda m: 0., bits=[8], act_bits=[8], quant=dict(transforms=['fold','absorb']), local_base_path=tempfile.mkdtemp())).open_network()
    assert sum(o['kept'] for o in p.engine.quantizer.scaled[-1].report)==2
    np.testing.assert_allclose(np.concatenate([p.engine.net(None)(x[k:k+2].asnumpy()) for k in range(0, 64, 2)]), y, atol=1e-5*np.abs(y).max())

class PostNorm(nn.Cell):
    "Norms whose outputs go into the next sum as well, so that no layer alone can make up for them; with and without a batch norm that cannot be folded."
    def __init__(self):
        super().__init__(); self.a,self.b,self.n1,self.c,self.d,self.n2,self.head = nn.Dense(16, 32),nn.Dense(32, 16),nn.LayerNorm((16,)),nn.Dense(16, 32),nn.Dense(32, 16),nn.BatchNorm1d(16),nn.Dense(16, 4)
        for l in (self.b,self.d): l.weight.set_data(l.weight*8) # what is added is as large as what it is added to
    def construct(self, x):
        x = self.n1(x+self.b(ms.ops.relu(self.a(x)))); x = self.n2(x+self.d(ms.ops.relu(self.c(x))))
        return self.head(ms.ops.relu(x))

def test_fitted_norms_reach_both_engines_and_all_files():
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = PostNorm().set_train(False); x = ms.Tensor(np.random.default_rng(0).normal(size=(512,16)).astype(np.float32)); y = net(x).asnumpy()
    p = Prepared(Task(net=net, inputs=x[:2], calib=[x], evaluate=lambda m: float(np.abs(m(x).asnumpy()).mean()), bits=[8], act_bits=[8], quant=dict(preset='fast'), local_base_path=tempfile.mkdtemp())).open_network()
    e,q = p.engine,p.engine.quantizer; plain = Strategy.uniform([l.path for l in p.graph.quantizable], 2, 8); own = with_norms(p.exporter.builder, plain, gain=1.); fitted = q.refitted(own)
    assert set(fitted)=={'n1.gamma','n1.beta','n2.gamma','n2.beta'} and not q.refitted(plain) and fitted.items()<=q.at(own).items()
    error = [float(((e.net(o)(x).asnumpy()-y)**2).mean()) for o in (plain,own)]; assert error[1]<error[0], error
    a,b,c = e.net(own)(x).asnumpy(),e.simulation.net(own)(x).asnumpy(),e.simulation.net(plain)(x).asnumpy()
    assert np.abs(a-b).max()<.05*np.abs(y).max() and np.abs(b-c).max()>.05*np.abs(y).max() # the simulation has them, and gives them back
    np.testing.assert_array_equal(c, e.simulation.net(plain)(x).asnumpy())
    files = p.exporter.check(own, dict(onnx=p.exporter.onnx(own), mindir=p.exporter.mindir(own)), [(x[:64].asnumpy(),)], (1,8))
    assert files['onnx']['agreement']>.99 and files['mindir']['agreement']>.99, files
    p.exporter.drop(own); assert not q.refitted(own)

def test_a_search_may_fit_the_norms_of_its_finalists(tmp_path):
    from quantnb.run.pipeline import round_in_sequence
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0); net = PostNorm().set_train(False); x = ms.Tensor(np.random.default_rng(0).normal(size=(256,16)).astype(np.float32)); y = net(x).asnumpy().argmax(1)
    task = Task(net=net, inputs=x[:2], calib=[x], evaluate=lambda m: float((m(x).asnumpy().argmax(1)==y).mean()), bits=[2,4], act_bits=[8], quant=dict(preset='fast', finalists='norms refitted'), local_base_path=str(tmp_path), max_episode=3, num_warmup=2)
    tune(task); best = json.loads(next(tmp_path.rglob('best.json')).read_text()); assert best['rounding'] in ('norms refitted','as searched') # whichever answers better
    p = Prepared(task).open_network(); assert how_rounded(round_in_sequence(p.exporter, Strategy.uniform([l.path for l in p.graph.quantizable], 2, 8)))=='norms refitted'

@pytest.mark.parametrize('engine', ['onnxruntime','mindspore'])
def test_either_engine_rounds_in_sequence(tmp_path, engine):
    "The nearer to float of two dampings is found on what the evaluation feeds; a failure there would leave the weights of the search."
    from quantnb.run.pipeline import round_in_sequence
    ms.set_seed(0); net = PostNorm().set_train(False); x = ms.Tensor(np.random.default_rng(0).normal(size=(128,16)).astype(np.float32)); y = net(x).asnumpy().argmax(1)
    task = Task(net=net, inputs=x[:2], calib=[x], evaluate=lambda m: float((m(x).asnumpy().argmax(1)==y).mean()), bits=[2,4], act_bits=[8], engine=engine, local_base_path=str(tmp_path), max_episode=3, num_warmup=2)
    p = Prepared(task).open_network(); p.float_reference(); s = Strategy.uniform([l.path for l in p.graph.quantizable], 2, 8); own = round_in_sequence(p.exporter, s); off = p.engine.divergence_on(p.exporter.fed)
    assert p.engine.name==engine and how_rounded(own)=='in sequence' and off(own)<off(s)

def test_ranges_by_the_error_at_the_output(cnn):
    net,x,y = cnn; s = None
    for name in ('auto','trimmed','percentile','kl','ifmr','ema'):
        e = open_engine(Task(net=net, inputs=x[:2], calib=[x], evaluate=lambda m: 0., bits=[8], act_bits=[4,8], quant=dict(ranges=name, transforms=['fold','equalize']), local_base_path=tempfile.mkdtemp())); s = s or Strategy.uniform([l.path for l in e.graph.quantizable], 8, 8)
        assert np.corrcoef(e.net(s)(x).asnumpy().ravel(), y.ravel())[0,1]>.98, name
