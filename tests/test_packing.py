"Packed weights: what is packed is unpacked, files are as small as promised, and everything that reads files reads packed ones."
import math
import numpy as np, pytest
from hypothesis import given, strategies as st
import quantnb, mindspore as ms
import onnx # after MindSpore
from onnx import numpy_helper as onp
from mindspore import nn
from quantnb.all import *
from quantnb.deploy.packing import PARTS, Packing, pack, unpack, which_pay
from quantnb.deploy.onnx import session
from quantnb.deploy.onnx_engine import OnnxFile
from quantnb.deploy.qdq import QdqBuilder, integer_macs
from quantnb.device.worker import run_job
from quantnb.run.trial import storage_of
from test_from_onnx import N, cnn, engine, io, save, w, x
import nets

shapes = st.lists(st.integers(1, 9), min_size=0, max_size=4).map(tuple)

@given(st.sampled_from(sorted(PARTS)), shapes, st.booleans(), st.integers(0, 2**32-1))
def test_what_is_packed_is_unpacked(bits, shape, turned, seed):
    q = np.random.default_rng(seed).integers(-2**(bits-1), 2**(bits-1), shape).astype(np.int8).T if turned else np.random.default_rng(seed).integers(-2**(bits-1), 2**(bits-1), shape).astype(np.int8)
    packed = pack(q, bits); n = q.size; np.testing.assert_array_equal(unpack(packed, bits, q.shape), q)
    assert all(p.dtype==np.uint8 for p in packed) and n*bits/8<=sum(p.nbytes for p in packed)<n*bits/8+bits+1 # no byte more than the last group needs
    if bits<7: np.testing.assert_array_equal(unpack(packed, bits, q.shape, 2**(7-bits)), q*np.int8(2**(7-bits)))

@given(st.dictionaries(st.text('abcd', min_size=1, max_size=2), st.tuples(st.sampled_from([2,3,4,7]), st.integers(-500, 3000))), st.randoms(use_true_random=False))
def test_what_pays_saves_more_than_its_tables(rows, rnd):
    tables = {2:('b',), 3:('b','c'), 4:('a',), 7:('a','d','e')}; cost = dict(zip('abcde', (512, 1024, 2048, 1024, 2048))); saved = {k:(b, n, tables[b]) for k,(b,n) in rows.items()}
    pay = which_pay(saved, cost); spent = sum(cost[t] for t in {t for k in pay for t in saved[k][2]})
    assert all(saved[k][1]>0 for k in pay) and (not pay or sum(saved[k][1] for k in pay)>spent)
    for b in {saved[k][0] for k in saved}: # a width that is left out alone would not pay for its tables
        rest = [k for k in saved if saved[k][0]==b and k not in pay and saved[k][1]>0]
        assert sum(saved[k][1] for k in rest)<=sum(cost[t] for t in set(tables[b])) if rest else True

class Wide(nn.Cell):
    "51,000 weights, and a first layer too small to pack."
    def __init__(self): super().__init__(); self.a,self.b,self.c,self.d = nn.Dense(8, 8),nn.Dense(8, 150),nn.Dense(150, 300),nn.Dense(300, 10)
    def construct(self, x): return self.d(ms.ops.relu(self.c(ms.ops.relu(self.b(self.a(x))))))

def wide_task(**kw):
    ms.set_seed(0); m = Wide().set_train(False); v = nets.t(256, 8); y = m(v).asnumpy().argmax(1)
    return Task(net=m, inputs=v[:2], calib=[v[:64]], evaluate=lambda n: float((n(v).asnumpy().argmax(1)==y).mean()*100), act_bits=[8], **kw)

def test_files_are_of_the_promised_size_and_the_same_network(tmp_path):
    t = wide_task(); e = open_engine(t); ex = Exporter(t, e); ps = [l.path for l in e.graph.quantizable]; b = e.builder; xs = nets.t(70, 8, seed=1).asnumpy()
    assert storage_of(t.config) is b.storage is not None; cost = CostModel(e.graph.layers); whole = QdqBuilder(b.o, b.q)
    for bits in ((2,8), (4,8), (3,4), (7,8), (5,32)):
        s = Strategy.uniform(ps, *bits); a = ex.write(s, tmp_path)['onnx']; m = (tmp_path/'model.onnx').read_bytes(); onnx.checker.check_model(onnx.load_from_string(m), full_check=True)
        assert a.bytes==ex.onnx_size(s)==len(m)<whole.size(s) and 0<a.bytes-1e3*cost.metrics(s)['size_kb']<14_000 # text, tables, scales of biases
        assert ex.score(s, folder=tmp_path)['accuracy']==QuantTrainer(t, e)(s)['accuracy'] # what was searched
        plain,packed = (session(f).run(None, {b.o.inputs[0].name:xs})[0] for f in (whole.build(s), tmp_path/'model.onnx')); np.testing.assert_array_equal(plain, packed)
        assert integer_macs(tmp_path/'model.onnx', b.o)==integer_macs(whole.build(s), b.o)
        held = [math.prod(b.narrow[i.name][1]) for i in onnx.load_from_string(m).graph.initializer if i.name in b.narrow]; assert 64 in held and max(held)<5000, held # not worth their operators
    job = run_job(dict(hardware='CPU', threads=1, repeat=2, models=dict(m=dict(path=str(tmp_path/'model.onnx'), format='onnx')), outputs=True)); assert job['results']['m'] and not job['failed'] and job['outputs'][0]['shape']==[1,10] # as the service does
    r = ex.check(s, dict(onnx=tmp_path/'model.onnx'), [(xs,)])['onnx']; assert r['agreement']==1., r
    np.testing.assert_array_equal(b.open(s).run(None, {b.o.inputs[0].name:xs})[0], packed)
    off = wide_task(weight_storage='int8'); assert storage_of(off.config) is None; assert open_engine(off).builder.size(s)==whole.size(s)

def test_a_file_holds_no_scale_that_is_a_product_of_two_it_has():
    e = open_engine(wide_task()); ps = [l.path for l in e.graph.quantizable]; b = e.builder; whole = QdqBuilder(b.o, b.q); s = Strategy.uniform(ps, 8, 8); feed = {b.o.inputs[0].name:nets.t(70, 8, seed=1).asnumpy()}
    m,plain = b.build(s),whole.build(s); g = onnx.load_from_string(m).graph; made = [n for n in g.node if n.op_type=='Mul' and n.output[0] in b.products]
    every = {i.name:onp.to_array(i) for i in onnx.load_from_string(plain).graph.initializer}; assert {every[n.output[0]].size for n in made}=={150, 300} and len(m)==b.size(s) and 1200<len(plain)-len(m)<4*450
    np.testing.assert_array_equal(session(m).run(None, feed)[0], session(plain).run(None, feed)[0]); assert integer_macs(m, b.o)==integer_macs(plain, b.o)
    for n in made: np.testing.assert_array_equal(every[n.input[0]]*every[n.input[1]], every[n.output[0]])

def test_openvino_gives_the_same_answers():
    pytest.importorskip('openvino')
    from quantnb.device.openvino import OpenVinoRunner
    t = wide_task(); e = open_engine(t); ps = [l.path for l in e.graph.quantizable]; b = e.builder; whole = QdqBuilder(b.o, b.q); feed = {b.o.inputs[0].name:nets.t(9, 8, seed=1).asnumpy()}
    for bits in (*PARTS, 8): s = Strategy.uniform(ps, bits, 8); np.testing.assert_array_equal(*[OpenVinoRunner().open(m).run(None, feed)[0] for m in (whole.build(s), b.build(s))])

def test_an_ascend_gets_whole_bytes():
    t = lambda **kw: wide_task(hardware='Davinci', **kw).config
    assert storage_of(t(remote_host='http://host:8080')) is None and storage_of(t(remote_host='http://x.x.x.x:x')) is not None

def test_a_file_of_an_older_opset(tmp_path, monkeypatch):
    "Parts are added as int8, which opset 13 has not: only widths of a single part are packed."
    monkeypatch.setattr('quantnb.deploy.packing.which_pay', lambda saved, cost: list(saved))
    for opset,packs in ((13, {2,4}), (14, {2,3,4,6})):
        e = engine(OnnxFile(cnn(tmp_path/f'{opset}.onnx', opset)), (x(8,1,12,12),)); ps = [l.path for l in e.graph.quantizable]; whole = QdqBuilder(e.float, e.quantizer)
        for bits in (2,3,4,6,8):
            s = Strategy.uniform(ps, bits, 8); m = e.builder.build(s); onnx.checker.check_model(onnx.load_from_string(m)); assert len(m)==e.builder.size(s)
            assert ('Gather' in {n.op_type for n in onnx.load_from_string(m).graph.node})==(bits in packs)
            np.testing.assert_array_equal(*[session(f).run(None, dict(image=x(5,1,12,12)))[0] for f in (m, whole.build(s))])
            np.testing.assert_array_equal(e.net(s)(x(5,1,12,12)), e.deployed.net(s, {'model.onnx':m})(x(5,1,12,12))) # the facade of a file
