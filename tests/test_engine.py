"The engine on the deployed graph: when it serves, when it does not, and what it says."
import json
import numpy as np, pytest
import quantnb, mindspore as ms
from mindspore import nn, ops
from quantnb.all import *
from quantnb.task import lesson_task
import nets

def images(n=64, seed=0): return np.random.default_rng(seed).normal(size=(n,1,12,12)).astype(np.float32)

def cnn_task(**kw):
    ms.set_context(mode=ms.GRAPH_MODE); ms.set_seed(0)
    net = nets.CNN().set_train(False); x = images(256); y = net(ms.Tensor(x)).asnumpy().argmax(1)
    acc = lambda m: float((m(ms.Tensor(x)).asnumpy().argmax(1)==y).mean()*100)
    return Task(**{**dict(net=net, inputs=ms.Tensor(x[:2]), calib=[ms.Tensor(x[:64])], evaluate=acc, act_bits=[8], max_episode=4), **kw})

def test_auto_takes_the_graphs_and_agrees():
    t = cnn_task(); e = open_engine(t); assert (e.name,e.why)==('onnxruntime','')
    assert e.start['accuracy']==t.run('evaluate', t.net) and e.start['compared_rows']>0
    x = images(200, 1); rng = np.random.default_rng(0); ps = [l.path for l in e.graph.quantizable]; ex = Exporter(t, e)
    for k in range(4):
        s = Strategy({p:(int(rng.choice([2,3,4,6,8])),int(rng.choice([4,8]))) for p in ps})
        r = ex.check(s, dict(onnx=ex.onnx(s)), [(x,)], (1,64,65))['onnx']
        assert r['agreement']>=.985, (k,r) # of an untrained network, whose answers lie close together
        def simulated(*xs): return e.reference.forward(*map(ms.Tensor, xs)) # in MindSpore, rounded where the file rounds
        e.reference.net(s); r = parity(ex.onnx(s), simulated, [(x,)], (1,64,65))
        assert r['agreement']>=.985, (k,r)
    assert e.reference.unmatched==set()

def test_without_convolutions_the_reference_is_the_simulation():
    x = nets.t(8, 8); m = nets.Shared().set_train(False)
    g = select(read_graph(m, (x[:2],))); e = OrtEngine(m, g, (x[:2],)); e.calibrate(lambda n: n(x))
    assert e.reference is e.sim

class Branch(nn.Cell):
    def __init__(self): super().__init__(); self.a,self.b = nn.Dense(8, 8),nn.Dense(8, 4)
    def construct(self, x):
        if x.sum()>0: x = self.a(x)
        return self.b(x)

def test_no_onnx_form_falls_back_with_the_reason():
    x = nets.t(32, 8); m = Branch().set_train(False); acc = lambda n: float(n(x).asnumpy().mean())
    kw = dict(net=m, inputs=x[:2], calib=[x], evaluate=acc, act_bits=[8], max_episode=3)
    e = open_engine(Task(**kw)); assert e.name=='mindspore' and 'control flow' in e.why
    with pytest.raises(InputError, match='engine: mindspore'): open_engine(Task(**kw, engine='onnxruntime'))

def test_an_evaluation_that_reads_weights_falls_back():
    t = cnn_task(); plain = t.fns['evaluate']
    def nosy(m): m.head.weight.asnumpy(); return plain(m)
    e = open_engine(cnn_task(evaluate=nosy)); assert e.name=='mindspore' and 'weight of a quantized layer' in e.why
    with pytest.raises(InputError, match='engine: mindspore'): open_engine(cnn_task(evaluate=nosy, engine='onnxruntime'))

def test_a_history_says_what_it_ran_on(tmp_path):
    t = cnn_task(local_base_path=str(tmp_path), objectives=('accuracy','compress_ratio'), targets=Targets(accuracy=50, mode='drop', compress_ratio=60)); s = SearchPipeStep(t, progress=False); s.run()
    head = s.dir.read()[0]; assert head['engine']['name']=='onnxruntime' and len(head['engine']['parity'])==3 and min(p['agreement'] for p in head['engine']['parity'])>=.97
    assert {d['path'] for d in head['sensitivity']}=={l.path for l in s.graph.quantizable}
    best = json.loads(s.dir.best_file.read_text()); assert best['files']['onnx']['parity']['agreement']>=.97
    again = Exporter(t, s.engine).score(s.chosen.strategy, folder=s.dir.best_dir)
    assert again['accuracy']==best['files']['onnx']['accuracy']==s.chosen.metrics['accuracy'] # searched, written and scored are one thing

def test_outputs_that_calibration_returns_are_no_batches():
    t = cnn_task(calib=None); x = ms.Tensor(images(16))
    t.fns['calib'] = lambda m: [m(x).asnumpy()]
    assert open_engine(t).quantizer.inputs[0][0].shape==(16,1,12,12)

class Encode(nn.Cell):
    def __init__(self): super().__init__(); self.a,self.b = nn.Dense(8, 16),nn.Dense(16, 4)
    def encode(self, x): return ops.relu(self.a(x))
    def construct(self, x): return self.b(self.encode(x))

def test_parts_have_files_of_their_own(tmp_path):
    x = nets.t(64, 8); m = Encode().set_train(False); y = m(x).asnumpy().argmax(1)
    acc = lambda n: float((n.b(n.encode(x)).asnumpy().argmax(1)==y).mean())
    t = Task(net=m, inputs=x[:2], calib=[x], evaluate=acc, act_bits=[8], max_episode=3); e = open_engine(t); assert e.name=='onnxruntime', e.why
    ex = Exporter(t, e); s = Strategy.uniform(['a','b'], 4, 8); files = ex.write(s, tmp_path)
    assert {'model.onnx','model.a.onnx','model.b.onnx','model.mindir'}<={p.name for p in tmp_path.iterdir()} and 'model.a.onnx' in files
    assert ex.score(s, folder=tmp_path)['accuracy']==QuantTrainer(t, e)(s)['accuracy']

def test_a_part_with_ever_new_shapes_is_refused():
    m = nn.Dense(4, 4).set_train(False); x = nets.t(4, 4); g = select(read_graph(m, (x,)))
    e = OrtEngine(m, g, (x,)); e.calibrate(lambda n: n(x)); e.deployed.shapes = 3; net = e.net(None)
    net(nets.t(2, 4)); net(nets.t(2, 3, 4)); net(nets.t(2, 3, 2, 4)) # a row, a table, a block: three graphs
    with pytest.raises(Unsupported, match='pad its inputs'): net(nets.t(1, 2, 3, 2, 4))

class Encoder(nn.Cell):
    def __init__(self): super().__init__(); self.a,self.b = nn.Dense(8, 16),nn.Dense(16, 16)
    def construct(self, x): return self.b(ops.relu(self.a(x)))
class Decoder(nn.Cell):
    def __init__(self): super().__init__(); self.emb,self.q,self.out = nn.Embedding(12, 16),nn.Dense(16, 16),nn.Dense(16, 12)
    def construct(self, token, memory, cache, scale=1.):
        h = self.emb(token)+memory*scale; s = cache[0]+self.q(h)
        return self.out(s+cache[1]),(s, cache[1]+h)
class Speaker(nn.Cell):
    "What calling it does is written in Python: a loop over a decoder with a cache. `construct` is only for an export."
    def __init__(self): super().__init__(); self.encoder,self.decoder,self.layers = Encoder(),Decoder(),nn.CellList([nn.Dense(12, 12) for _ in range(2)])
    def construct(self, x, token):
        m = self.encoder(x); z = ops.zeros_like(m); y,_ = self.decoder(token, m, (z,z))
        for l in self.layers: y = l(y)
        return y
    def __call__(self, x, token):
        m = self.encoder(x); z = ops.zeros_like(m); cache,token,res = (z,z),ms.Tensor(np.zeros(len(x)), ms.int32),[]
        for _ in range(5):
            y,cache = self.decoder(token, m, cache, scale=1.)
            for l in self.layers: y = l(y)
            token = y.argmax(-1).astype(ms.int32); res.append(token.asnumpy())
        return ms.Tensor(np.stack(res, 1))

def test_a_call_written_in_python_runs_its_parts():
    "Encoder, decoder with cache and a list of layers as graphs of their own: the network's tokens, and quantized the simulation's."
    ms.set_context(mode=ms.PYNATIVE_MODE); ms.set_seed(0); net = Speaker().set_train(False); x,token = nets.t(64, 8),ms.Tensor((np.arange(64)%12).astype(np.int32)); ins = x[:2],token[:2]
    e = OrtEngine(net, select(read_graph(net, ins)), ins); e.calibrate(lambda m: m(x, token)); d,calls,samples = e.deployed,e.meter.calls,e.meter.samples
    said = e.net(None)(x, token).asnumpy(); assert (e.meter.calls-calls, e.meter.samples-samples, said.shape)==(1,64,(64,5)) and d.called=={'encoder','decoder','layers.0','layers.1'}
    np.testing.assert_array_equal(said, net(x, token).asnumpy())
    s = Strategy.uniform([l.path for l in e.graph.quantizable], 4, 8); some = e.net(s)(x, token).asnumpy(); assert (some==e.simulation.net(s)(x, token).asnumpy()).mean()>.99
    np.testing.assert_array_equal(e.net(s)(x[:7], token[:7]).asnumpy(), some[:7]) # a shorter batch is the same entry
    assert {k:len(v) for k,v in d.entries.items()}==dict.fromkeys(d.entries, 1)

@pytest.mark.parametrize('by_parts', [False,True])
def test_nothing_is_scaled_across_the_ends_of_parts_that_are_called_by_themselves(by_parts):
    "Of channels that `equalize` would scale; calibration runs the whole network, and only the evaluation shows what is called."
    ms.set_seed(0); m = Encode().set_train(False); f = np.ones(16, np.float32); f[[2,5]] = 200
    for p,v in ((m.a.weight, f[:,None]), (m.a.bias, f), (m.b.weight, 1/f[None])): p.set_data(ms.Tensor(p.asnumpy()*v))
    x = nets.t(64, 8); y = m(x).asnumpy().argmax(1); acc = lambda n: float(((n.b(n.encode(x)) if by_parts else n(x)).asnumpy().argmax(1)==y).mean()*100)
    e = open_engine(Task(net=m, inputs=x[:2], calib=[x], evaluate=acc, act_bits=[8])); assert e.name=='onnxruntime', e.why
    assert e.start['accuracy']==100 and e.quantizer.rescaled!=by_parts and (e.deployed.called=={'a','b'})==by_parts
    e = open_engine(Task(net=m, inputs=x[:2], calib=[x], evaluate=acc, act_bits=[8], engine='mindspore')); assert not e.quantizer.rescaled # it does not see what is called
