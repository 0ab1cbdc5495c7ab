"Networks, data and functions of kinds that users bring: each runs to its end with files that compute what the network computes, or ends with a sentence."
import json, os, sys, time
from pathlib import Path
import numpy as np, pytest
import quantnb, mindspore as ms
from mindspore import nn, ops, Tensor
import onnxruntime as ort
from quantnb.all import *
from mindspore import Parameter
from quantnb.compare import divergence
from quantnb.deploy.session import as_arrays, feed_of
from quantnb.run.cli import main

def rand(*shape, seed=0, scale=1.): return Tensor((np.random.default_rng(seed).normal(size=shape)*scale).astype(np.float32))

def seeded(net):
    for k,p in enumerate(net.get_parameters()):
        if p.ndim>1 and p.name.endswith('weight'): p.set_data(rand(*p.shape, seed=k, scale=float(np.prod(p.shape[1:]))**-.5))
        elif p.name.endswith('bias'): p.set_data(rand(*p.shape, seed=k, scale=.1))
    return net.set_train(False)

def flat(r): return np.concatenate([np.asarray(a, np.float64).ravel() for a in as_arrays(r)])
def error(a, b): a,b = flat(a),flat(b); return float(((a-b)**2).mean()/max(b.var(), 1e-3*(b**2).mean(), 1e-12)) # a single number has no variance

def search(net, x, tmp_path, calib=None, feed=None, **kw):
    "(search, error of the ONNX file, error of the MINDIR) after three episodes; None for a file that is not written."
    ms.set_context(mode=ms.GRAPH_MODE); x = x if isinstance(x, tuple) else (x,); feed = feed or x
    ref = net(*feed)
    def evaluate(m): return 1-error(m(*feed), ref)
    task = Task(**{**dict(net=net, inputs=x, calib=[x] if calib is None else calib, evaluate=evaluate, bits=[8], act_bits=[8], max_episode=2, local_base_path=str(tmp_path)), **kw})
    s = SearchPipeStep(task, progress=False); s.run(); res = {}
    for f in ('onnx','mindir'):
        p = s.dir.best_dir/f'model.{f}'
        if f not in s.result['files']: assert not p.exists(); res[f] = None; continue
        if f=='onnx': o = ort.InferenceSession(str(p)); out = o.run(None, feed_of(o, tuple(a.asnumpy() for a in feed)))
        else: out = nn.GraphCell(ms.load(str(p)))(*feed)
        res[f] = error(tuple(out) if isinstance(out, list) else out, ref)
    return s,res['onnx'],res['mindir']

def small(s, onnx, mindir, limit=.02):
    assert s.history.ok and onnx is not None and onnx<limit and (mindir is None or mindir<limit), (onnx, mindir, [r.reason for r in s.history])

class Added(nn.Cell):
    "A convolution, a Parameter of some shape added to what it returns, perhaps a batch norm, another convolution."
    def __init__(self, shape, norm=False):
        super().__init__()
        self.c,self.p,self.d = nn.Conv2d(8, 16, 3),Parameter(rand(*shape, seed=3, scale=3.), name='p'),nn.Conv2d(16, 8, 3)
        self.n = nn.BatchNorm2d(16, gamma_init=1.5) if norm else None
    def construct(self, x):
        y = self.c(x)+self.p
        return self.d(ops.relu(y if self.n is None else self.n(y)))

@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('shape', [(16,), (1,16,1,1), (1,16,16,16)], ids=str)
def test_a_parameter_that_is_added_is_a_bias_along_the_channels_only(shape, norm, tmp_path):
    small(*search(seeded(Added(shape, norm)), rand(4, 8, 16, 16), tmp_path))

class Dead(nn.Cell):
    def __init__(self, dense):
        super().__init__(); c = nn.Dense(24, 16) if dense else nn.Conv2d(3, 16, 3, has_bias=True); w = c.weight.asnumpy().copy(); w[:4] = 1e-9; c.weight.set_data(Tensor(w))
        c.bias.set_data(rand(16, seed=1)*2+1); self.a,self.b,self.dense = c,nn.Dense(16, 10) if dense else nn.Conv2d(16, 10, 3),dense
    def construct(self, x): return self.b(ops.relu(self.a(x)))

@pytest.mark.parametrize('dense,bits', [(False,8), (False,4), (True,8), (True,2)])
def test_a_channel_of_tiny_weights_and_a_large_bias(dense, bits, tmp_path):
    net = Dead(dense).set_train(False); x = rand(32, 24) if dense else rand(8, 3, 8, 8)
    s,onnx,mindir = search(net, x, tmp_path, bits=[bits]); assert abs(onnx-mindir)<.02 and onnx<{8:.01, 4:.2, 2:np.inf}[bits], (onnx, mindir)

class Heads(nn.Cell):
    "Outputs of many kinds."
    def __init__(self, kind): super().__init__(); self.kind,self.a,self.b,self.t = kind,nn.Dense(16, 32),nn.Dense(32, 10),Parameter(rand(3, 4, seed=5), name='table')
    def construct(self, x):
        h = ops.relu(self.a(x)); y = self.b(h)
        if self.kind=='scalar': return y,(h*h).mean()
        if self.kind=='only scalar': return (y*y).mean()
        if self.kind=='nested': return y,(h,(y+1,))
        if self.kind=='constant': return y,self.t*2
        if self.kind=='labels': return y,y.argmax(1)
        return y

@pytest.mark.parametrize('kind', ['scalar','only scalar','nested','constant','labels'])
def test_outputs_that_are_not_rows_of_numbers(kind, tmp_path):
    net = seeded(Heads(kind)); x = rand(32, 16)
    small(*search(net, x, tmp_path, bits=[4,8] if kind!='only scalar' else [8], feed=(rand(32, 16, seed=2),), max_episode=3), limit=.1)

class Gated(nn.Cell):
    def __init__(self): super().__init__(); self.a,self.b = nn.Dense(16, 32),nn.Dense(32, 10)
    def construct(self, x, s): return self.b(ops.relu(self.a(x))*s)

def test_a_scalar_input(tmp_path):
    s,onnx,mindir = search(seeded(Gated()), (rand(32, 16), Tensor(np.float32(.7))), tmp_path); small(s, onnx, mindir)

class Flat1(nn.Cell):
    def __init__(self): super().__init__(); self.c,self.d = nn.Conv2d(3, 8, 3),nn.Dense(8*36, 10)
    def construct(self, x): return self.d(ops.relu(self.c(x)).view(1, -1))

def test_a_batch_of_one_that_the_network_fixes(tmp_path):
    x = rand(1, 3, 6, 6); s,onnx,mindir = search(seeded(Flat1()), x, tmp_path, calib=[(rand(1, 3, 6, 6, seed=k),) for k in range(3)]); small(s, onnx, mindir)

class Attend(nn.Cell):
    def __init__(self):
        super().__init__(); self.e,self.n,self.h = nn.Embedding(50, 32),nn.LayerNorm((32,)),nn.Dense(32, 8)
        self.q,self.k,self.v,self.o = (nn.Dense(32, 32) for _ in range(4)); self.pos = Parameter(rand(64, 32, seed=9, scale=.3), name='pos')
    def construct(self, ids):
        t = ids.shape[1]; x = self.e(ids)+self.pos[:t]
        a = ops.matmul(self.q(x), self.k(x).swapaxes(1, 2))*.18
        a = ops.softmax(a+ops.triu(ops.ones((t, t), ms.float32)*-1e4, 1), -1)
        return self.h(self.n(x+self.o(ops.matmul(a, self.v(x)))).mean(1))

def test_lengths_that_differ_between_example_calibration_and_evaluation(tmp_path):
    ids = lambda n,t,seed: Tensor(np.random.default_rng(seed).integers(0, 50, (n,t)).astype(np.int32)); net = seeded(Attend())
    s,onnx,mindir = search(net, ids(1, 24, 0), tmp_path, calib=[(ids(8, 24, 1),)], feed=(ids(4, 6, 2),)); small(s, onnx, mindir)
    o = ort.InferenceSession(str(s.dir.best_dir/'model.onnx')); assert [type(d) for d in o.get_inputs()[0].shape]==[str, str]
    for t in (3, 17, 40): assert error(o.run(None, {o.get_inputs()[0].name: ids(2, t, 3).asnumpy()})[0], net(ids(2, t, 3)))<.02, t

def test_half_precision(tmp_path):
    net = seeded(Heads('')); x = Tensor(rand(32, 16).asnumpy().astype(np.float16))
    for p in net.get_parameters(): p.set_dtype(ms.float16)
    small(*search(net, x, tmp_path))

class Shared(nn.Cell):
    def __init__(self, dense3):
        super().__init__(); self.a,self.c,self.b,self.three = nn.Dense(32, 32, has_bias=False),nn.Dense(32, 32, has_bias=False),Parameter(rand(32, seed=5), name='b'),dense3
    def construct(self, x): return self.c(ops.relu(self.a(x)+self.b))+self.b

@pytest.mark.parametrize('three', [False, True])
def test_a_bias_that_two_layers_read(three, tmp_path):
    x = Tensor(rand(64, *((5,) if three else ()), 32).asnumpy()+2); s,onnx,mindir = search(seeded(Shared(three)), x, tmp_path, bits=[2])
    assert onnx<.1 and abs(onnx-mindir)<.01, (onnx, mindir)

class Odd(nn.Cell):
    def __init__(self):
        super().__init__(); self.a,self.b = nn.Dense(16, 32),nn.Dense(32, 10)
        for c,n in ((self.a,'dense'),(self.b,'网络 1')): c.weight.name,c.bias.name = f'{n}/kernel:0',f'{n}/bias.x:0'
    def construct(self, x): return self.b(ops.relu(self.a(x)))

def test_names_with_colons_slashes_spaces_and_other_letters(tmp_path):
    net = Odd()
    for p in net.get_parameters(): p.set_data(rand(*p.shape, seed=p.size, scale=.2))
    small(*search(net.set_train(False), rand(32, 16), tmp_path))

@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('at', [0, 1])
def test_nan_in_calibration_names_input_row_and_forward(bad, at, tmp_path):
    xs = [rand(8, 16, seed=k).asnumpy() for k in range(2)]; xs[at][3,3] = bad
    with pytest.raises(InputError, match=f'NaN or infinite activations.*row 3 of forward {at+1}'): search(seeded(Heads('')), rand(8, 16), tmp_path, calib=[(Tensor(x),) for x in xs])

def test_nan_in_weights_names_the_parameter(tmp_path):
    net = seeded(Heads('')); w = net.b.weight.asnumpy().copy(); w[0,0] = np.nan; net.b.weight.set_data(Tensor(w))
    with pytest.raises(InputError, match='b.weight'): search(net, rand(8, 16), tmp_path)

def test_calibration_of_zeros_and_one_far_outside_are_reported(tmp_path, caplog):
    search(seeded(Heads('')), rand(8, 16), tmp_path/'a', calib=[(Tensor(np.zeros((8,16), np.float32)),)]); assert 'is 0 everywhere' in caplog.text and 'saw fewer rows in calibration' in caplog.text
    x = rand(512, 16).asnumpy(); x[77,3] = 1e4; search(seeded(Heads('')), rand(8, 16), tmp_path/'b', calib=[(Tensor(x),)]); assert 'sample 77 reaches' in caplog.text

class Two(nn.Cell):
    def __init__(self): super().__init__(); self.a,self.b = nn.Dense(16, 8),nn.Dense(16, 8)
    def construct(self, x): return self.a(x)+self.b(x)

def test_layers_that_calibration_did_not_reach_or_hardly_saw_are_counted_and_named(caplog):
    net = seeded(Two()); x = rand(8, 16); e = OrtEngine(net, select(read_graph(net, (x,))), (x,), recipe=Recipe()); e.calibrate(lambda m: m(x)); q = e.quantizer
    look_at_layers(q); assert '2 layers (a: 8 of 16, b: 8 of 16) saw fewer rows' in caplog.text; caplog.clear()
    q.observers['a'].late = True; q.observers['b'] = Observer(-1); look_at_layers(q) # as an engine leaves them
    assert '1 layer (a) did not run in calibration: their ranges come from the example inputs' in caplog.text and '1 layer (b) never ran: their activations stay float' in caplog.text
    assert q.act('b', 8) is None and np.isfinite(q.weight('b', 4).dequantized).all()
    for nothing in (lambda m: None, lambda m: []):
        with pytest.raises(InputError, match='the calibration function never ran the network'): e.calibrate(nothing)

def test_a_random_evaluation_is_reported_with_its_size(tmp_path, caplog):
    net = seeded(Heads('')); x = rand(32, 16); rng = np.random.default_rng(0)
    s,_,_ = search(net, x, tmp_path, evaluate=lambda m: float(m(x).asnumpy().mean())*0+rng.random())
    assert s.noise>0 and 'the evaluation is random' in caplog.text and json.loads(s.dir.best_file.read_text())['noise']==s.noise

class OneTime:
    "An evaluation that does something once, at its third call, when the first candidate is tried."
    def __init__(self, what): self.what,self.calls = what,0
    def __call__(self, m):
        self.calls += 1; y = float(m(rand(32, 16)).asnumpy().std())
        if self.calls==3: self.what(m)
        return y

def exits(m): sys.exit(3)
def swallows(m):
    while True:
        try: m(rand(4, 16)); time.sleep(.01)
        except Exception: pass

@pytest.mark.parametrize('what,reason,kw', [(exits, r'sys.exit\(3\)', {}), (swallows, 'worker.timeout', dict(timeout=2))], ids=['exit','swallow'])
def test_what_a_function_does_to_the_process_is_a_failed_trial(what, reason, kw, tmp_path):
    import re
    s,_,_ = search(seeded(Heads('')), rand(32, 16), tmp_path, evaluate=OneTime(what), bits=[4,8], max_episode=3, **kw)
    bad = [r for r in s.history if r.status=='failed']; assert len(bad)==1 and re.search(reason, bad[0].reason), [r.reason for r in s.history]
    assert s.history.ok

def test_the_working_folder_and_outputs_are_given_back(tmp_path, capsys):
    here = os.getcwd()
    def moves(m): os.chdir(tmp_path); return float(m(rand(32, 16)).asnumpy().std())
    s,_,_ = search(seeded(Heads('')), rand(32, 16), tmp_path, evaluate=moves); assert os.getcwd()==here and s.history.ok

def test_a_candidate_that_kills_the_process_twice_is_a_failed_row(tmp_path):
    s,_,_ = search(seeded(Heads('')), rand(32, 16), tmp_path); t = TaskDir.at(s.dir.root)
    st = Strategy.uniform(['a','b'], 4, 8); t.trying(st); t.trying(st)
    with pytest.raises(TrialError, match='each time'): t.trying(st)

@pytest.mark.parametrize('name', ['/tmp/elsewhere', '../../x', 'a/b'])
def test_a_step_name_is_no_path(name, tmp_path, capsys):
    f = tmp_path/'q.yml'; f.write_text(json.dumps({'pipeline':[name], name:{'search_space':{'hyperparameters':[{'key':'network.bit_candidates','range':[8]}]}}}))
    assert main(['check', str(f)])==2 and 'becomes a folder' in capsys.readouterr().err

def test_a_run_that_would_not_fit_is_refused_before_it_starts(tmp_path):
    with pytest.raises(InputError, match=r'general.memory allows 1.0 GB'): search(seeded(Heads('')), rand(8, 16), tmp_path, memory=1)

def test_embeddings_are_compared_by_direction(tmp_path):
    class Unit(nn.Cell):
        def __init__(self): super().__init__(); self.a,self.b = nn.Dense(16, 64),nn.Dense(64, 32)
        def construct(self, x): y = self.b(ops.relu(self.a(x))); return y/ops.sqrt((y*y).sum(1, keepdims=True))
    s,_,_ = search(seeded(Unit()), rand(64, 16), tmp_path); p = json.loads(s.dir.best_file.read_text())['parity']['onnx']
    assert p['measure']=='cosine' and p['agreement']>.99 and s.history[0].metrics['divergence']>1e-5 # a softmax over a unit vector would be blind

def test_a_time_limit_holds_before_the_first_trial(tmp_path):
    ended = []
    def slow(m): time.sleep(60); ended.append(m)
    with pytest.raises(InputError, match='worker.timeout'): search(seeded(Heads('')), rand(8, 16), tmp_path, evaluate=slow, timeout=1)
    assert not ended, 'the limit ended the function'

def test_a_report_never_executes_what_it_shows(tmp_path):
    bad = '<script>alert(1)</script>|x'
    def fails(m):
        if fails.n>2: raise ValueError(bad)
        fails.n += 1; return float(m(rand(32, 16)).asnumpy().std())
    fails.n = 0
    s,_,_ = search(seeded(Heads('')), rand(32, 16), tmp_path, evaluate=fails, bits=[4,8], max_episode=3)
    assert any(bad in r.reason for r in s.history) and '<script>' not in Table([dict(reason=bad)])._repr_markdown_()
    page = report(s.dir.root).read_text(); assert 'alert(1)' in page and '<script>alert(1)' not in page

class Standardised(nn.Conv2d):
    def construct(self, x):
        w = self.weight; m = w.mean((1,2,3), keep_dims=True)
        return self.conv2d(x, (w-m)/ops.sqrt(((w-m)**2).mean((1,2,3), keep_dims=True)+1e-6))

def test_weights_that_are_computed_from_parameters(tmp_path):
    class Net(nn.Cell):
        def __init__(self): super().__init__(); self.a,self.b,self.c = Standardised(3, 16, 3),Standardised(16, 16, 3),nn.Dense(16, 5)
        def construct(self, x): return self.c(ops.relu(self.b(ops.relu(self.a(x)))).mean((2,3)))
    s,onnx,mindir = search(seeded(Net()), rand(8, 3, 8, 8), tmp_path); small(s, onnx, mindir)
    assert [l.path for l in s.graph.quantizable]==['a','b','c']
