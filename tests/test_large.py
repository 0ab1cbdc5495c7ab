"Networks of gigabytes, made small: weights in a file that is mapped, files in two parts, weights that an export leaves where they are."
import hashlib, json, shutil
import numpy as np, pytest
import mindspore as ms # before onnx
import onnx, onnxruntime as ort
from mindspore import nn, ops
from quantnb.all import *
from quantnb.deploy import container
from quantnb.deploy.from_onnx import read_onnx
from quantnb.deploy.mindir import load
from quantnb.deploy.onnx_engine import OnnxFile
from quantnb.graph import ir

class Net(nn.Cell):
    def __init__(self):
        super().__init__(); self.a,self.b,self.c = nn.Dense(96, 512),nn.Dense(512, 192),nn.Dense(192, 10)
    def construct(self, x): return self.c(ops.relu(self.b(ops.relu(self.a(x)))))

rng = np.random.default_rng(0); batches = [rng.standard_normal((16,96)).astype(np.float32) for _ in range(4)]

def searched(folder, **kw):
    "A search of four episodes: the records and the folder of what is delivered."
    ms.set_seed(0); net = Net().set_train(False); ref = [net(ms.Tensor(b)).asnumpy().argmax(1) for b in batches]
    score = lambda n: 100*float(np.mean([(np.asarray(n(ms.Tensor(b)).asnumpy()).argmax(1)==r).mean() for b,r in zip(batches, ref)]))
    t = Task(net=net, inputs=(ms.Tensor(batches[0]),), calib=[(ms.Tensor(b),) for b in batches[:2]], evaluate=score, bits=(4,8), act_bits=(8,), targets=Targets(compress_ratio=80), max_episode=4, num_warmup=1, local_base_path=str(folder), task_id='t', **kw)
    s = SearchPipeStep(t, progress=False); s.run()
    return s,s.dir.best_file.parent/'best'

def test_weights_that_are_mapped_give_the_same_search(tmp_path, monkeypatch):
    a,_ = searched(tmp_path/'a'); monkeypatch.setattr('quantnb.deploy.container.MAPPED', 0)
    made,own = [],container._Weights.__init__; monkeypatch.setattr(container._Weights, '__init__', lambda w: (made.append(1), own(w))[1]); b,_ = searched(tmp_path/'b')
    assert b.exporter.float.mapped and not a.exporter.float.mapped
    for r,s in zip(a.history, b.history, strict=True): assert r.strategy==s.strategy and r.metrics['accuracy']==s.metrics['accuracy'] and np.isclose(r.metrics['divergence'], s.metrics['divergence'], rtol=1e-3)
    large = [v for v in b.exporter.float.init.values() if v.nbytes>2**14]; assert large and all(isinstance(v.base, np.memmap) for v in large)
    assert len(made)==1 # one file for the graph and all its sessions

def test_a_file_of_more_than_two_gigabytes_is_two(tmp_path, monkeypatch):
    whole,files = searched(tmp_path/'a', trainer=dict(float_file=True)); x = batches[0]; first = {f.name:f for f in files.iterdir()}
    for m in ('deploy.container','deploy.qdq','deploy.mindir'): monkeypatch.setattr(f'quantnb.{m}.MESSAGE', 2**13)
    s,files = searched(tmp_path/'b', trainer=dict(float_file=True)); b = json.loads(s.dir.best_file.read_text()); assert s.history[-1].strategy==whole.history[-1].strategy
    there = {f.name for f in files.iterdir()}; assert {'model.onnx','model.onnx.data','model.mindir','model.mindir.data','model.float.onnx','model.float.onnx.data'}<=there, there
    assert set(b['files'])=={'onnx','mindir','model.onnx.data','model.mindir.data','model.float.onnx','model.float.onnx.data'}
    for o in b['files'].values(): f = s.dir.best_file.parent/o['path']; assert o['bytes']==f.stat().st_size and o['sha256']==hashlib.sha256(f.read_bytes()).hexdigest()
    assert b['files']['onnx']['parity']['agreement']>=.99, b['files']['onnx']['parity']
    moved = tmp_path/'elsewhere'; shutil.move(files, moved) # together, wherever
    def answer(f): o = ort.InferenceSession(str(f), providers=['CPUExecutionProvider']); return o.run(None, {o.get_inputs()[0].name:x})[0]
    assert (answer(moved/'model.onnx')==answer(first['model.onnx'])).all() and np.allclose(answer(moved/'model.float.onnx'), answer(first['model.float.onnx']), rtol=1e-5, atol=1e-5)
    assert (load(moved/'model.mindir')(ms.Tensor(x)).asnumpy()==load(first['model.mindir'])(ms.Tensor(x)).asnumpy()).all()
    (moved/'model.onnx.data').unlink()
    with pytest.raises(Exception, match='model.onnx.data'): answer(moved/'model.onnx')

def test_an_onnx_file_with_its_weights_beside_it_is_mapped(tmp_path):
    _,files = searched(tmp_path/'a', trainer=dict(float_file=True)); one,two = files/'model.float.onnx',tmp_path/'two.onnx'
    onnx.save(onnx.load(one), two, save_as_external_data=True, location='two.bin', size_threshold=0)
    a,b = read_onnx(one),read_onnx(two); assert [l.path for l in a.graph.layers]==[l.path for l in b.graph.layers] and abs(a.graph.size-b.graph.size)<12_000
    for k,v in a.init.items(): assert (v==b.init[k]).all()
    assert any(isinstance(w.base, np.memmap) for w in b.params.values()) # where no transform has touched it
    f = OnnxFile(two); f.read((batches[0],)); assert (f.float.open().run(None, f.float.feed((batches[0],)))[0]==a.open().run(None, a.feed((batches[0],)))[0]).all()
    short = (tmp_path/'two.bin').read_bytes()[:-100]; (tmp_path/'two.bin').write_bytes(short)
    with pytest.raises(InputError, match='ends before the weight'): OnnxFile(two)

def test_an_export_leaves_the_weights_of_a_heavy_network_where_they_are(tmp_path, monkeypatch):
    _,files = searched(tmp_path/'a'); monkeypatch.setattr(ir, 'HEAVY_BLOB', 0); s,light = searched(tmp_path/'b')
    assert len(s.graph.blob)<20_000 and s.graph.size>4*(96+192)*512
    a,b = files/'model.mindir',light/'model.mindir'; assert a.stat().st_size==b.stat().st_size # names may differ
    assert (load(a)(ms.Tensor(batches[0])).asnumpy()==load(b)(ms.Tensor(batches[0])).asnumpy()).all()
