"Tables that rows are looked up in are layers with a width: the same numbers in the simulation, the ONNX file and the MINDIR, bytes as promised."
import numpy as np, pytest
import mindspore as ms # before onnx
import onnx
from mindspore import nn, ops
from quantnb.types import *
from quantnb.graph.ir import read_graph, select
from quantnb.graph.cost import CostModel
from quantnb.quant.qnet import QuantNet
from quantnb.deploy.engine import OrtEngine
from quantnb.deploy.mindir import load, to_mindir
from quantnb.deploy.onnx_engine import FileEngine, OnnxFile
from quantnb.search.codec import QuantRLCodec
from quantnb.task import Task

class Words(nn.Cell):
    "Words and their places; `tied`: the scores are products with the table."
    def __init__(self, tied=False, n=1000, k=48):
        super().__init__()
        self.words,self.places,self.mix = nn.Embedding(n, k),nn.Embedding(16, k),nn.Dense(k, k)
        self.head = None if tied else nn.Dense(k, 10); self.at,self.product = ms.Tensor(np.arange(8), ms.int32),ops.MatMul(transpose_b=True)
    def construct(self, x):
        y = ops.relu(self.mix(self.words(x)*10+self.places(self.at))).mean(1)
        return self.product(y, self.words.embedding_table) if self.head is None else self.head(y)

rng = np.random.default_rng(0); batches = [rng.integers(0, 1000, (3,8)).astype(np.int32) for _ in range(6)]
def feed(net): return [net(ms.Tensor(b)) for b in batches]

def engines(tied):
    ms.set_seed(0); net = Words(tied).set_train(False); x = ms.Tensor(batches[0]); g = select(read_graph(net, x))
    e,q = OrtEngine(net, g, (x,)),QuantNet(net, g, (x,)); e.calibrate(feed); q.calibrate(feed)
    return net,g,e,q

@pytest.mark.parametrize('tied', [False,True])
def test_a_table_has_the_same_numbers_everywhere_and_the_size_that_was_promised(tied):
    net,g,e,q = engines(tied); by = {l.path:l for l in g.layers}; table = by['words.embedding_table']
    if tied: assert table.kind=='dense' and by['words.embedding_table:lookup'].reason.startswith('embedding: it reads the integers') and len(g.quantizable)==3
    else: assert table.kind=='embedding' and table.quantizable and table.macs==0 and (table.c_out, table.c_in)==(1000, 48)
    cost = CostModel(g.layers); floats = len(e.builder.build()); assert cost.params==sum(l.n+l.bias for l in g.quantizable)
    for w in (2, 3, 4, 5, 8, 16):
        s = Strategy.uniform(g.quantizable, w, 8); assert s['places.embedding_table']==Bits(w, 32) and (tied or s['words.embedding_table']==Bits(w, 32))
        a,m = e.answers(s)[0],q.answers(s)[0]; blob = e.builder.build(s)
        mindir = load(to_mindir(e.quantizer, s)); y = np.concatenate([mindir(ms.Tensor(b[0])).asnumpy() for b in e.quantizer.inputs])
        assert (abs(a-m)>1e-5*abs(m).max()).mean()<.01 and (abs(y-m)>1e-5*abs(m).max()).mean()<.01 and abs(a-e.answers(None)[0]).max()>0
        assert 0<len(blob)-cost.size(s)-(0 if tied else floats-cost.s0)<12_000 # names and the text of the graph, and tables of the packing
        held = {t.name:t for t in onnx.load_from_string(blob).graph.initializer}
        assert not any(t.data_type==onnx.TensorProto.FLOAT and np.prod(t.dims)>=1000*48 for t in held.values()), 'no float copy of the table'
        assert sum(np.prod(t.dims) for t in held.values())<1.2*sum(l.n for l in g.quantizable), 'the integers lie in the file once'

class Places(nn.Cell):
    "Positions up to a length, and one vector for all words."
    def __init__(self, n=64, k=48):
        super().__init__()
        self.places,self.kind,self.mix = nn.Embedding(n, k),nn.Embedding(2, k),nn.Dense(k, k)
    def construct(self, x): # [N,T,k]
        return self.mix(x+self.places(ops.arange(x.shape[1]).expand_dims(0))*10+self.kind(ops.zeros((x.shape[0],x.shape[1]), ms.int32)))

def test_positions_are_looked_up_as_integers_and_only_those_that_a_file_can_reach():
    ms.set_seed(0); net = Places().set_train(False); xs = [rng.normal(size=(3,8,48)).astype(np.float32) for _ in range(4)]; x = ms.Tensor(xs[0])
    g = select(read_graph(net, x)); by = {l.path:l for l in g.layers}; assert [l.path for l in g.quantizable]==['places.embedding_table','mix']
    assert by['kind.embedding_table'].reason=='embedding: its index is a constant' and not by['kind.embedding_table'].counts
    e,q = OrtEngine(net, g, (x,)),QuantNet(net, g, (x,)); run = lambda n: [n(ms.Tensor(b)) for b in xs]; e.calibrate(run); q.calibrate(run)
    held = lambda s: {t.name:(tuple(t.dims), t.data_type) for t in onnx.load_from_string(e.builder.build(s)).graph.initializer if t.name.startswith(('places','n')) and len(t.dims)==2 and 48 in t.dims and t.dims!=[48,48]}
    long = rng.normal(size=(2,20,48)).astype(np.float32); near = lambda a,b: np.testing.assert_allclose(a, b, atol=1e-4*abs(b).max())
    for rows in (8, 64): # the calibrated length alone, then any
        for w in (4, 8, 16):
            s = Strategy.uniform(g.quantizable, w, 8); net8,sim = e.net(s),q.net(s); near(net8(x).asnumpy(), sim(x).asnumpy())
            tables = held(s); assert onnx.TensorProto.FLOAT not in {t for _,t in tables.values()} and (w!=8 or [d for d,_ in tables.values()]==[(rows,48)]), tables
            if rows==64: near(net8(ms.Tensor(long)).asnumpy(), sim(ms.Tensor(long)).asnumpy())
            near(load(to_mindir(e.quantizer, s))(x).asnumpy(), sim(x).asnumpy())
        near(e.net(None)(ms.Tensor(long)).asnumpy(), net(ms.Tensor(long)).asnumpy()) # from here on its graph takes any length

def test_a_table_in_an_onnx_file(tmp_path):
    net,g,e,_ = engines(False); f = tmp_path/'net.onnx'; f.write_bytes(e.builder.build()); file = OnnxFile(f); file.read((batches[0],))
    ls = select(file.float.graph); t = next(l for l in ls.quantizable if l.table); assert (t.c_out, t.c_in, t.n)==(1000, 48, 48000)
    own = FileEngine(file, ls, (batches[0],)); own.calibrate(lambda n: [n(b) for b in batches])
    s = Strategy.uniform(ls.quantizable, 4, 8); a,b = own.answers(s)[0],e.answers(Strategy.uniform(g.quantizable, 4, 8))[0]
    assert abs(a-b).max()<=.02*abs(b).max() and len(own.builder.build(s))<.3*f.stat().st_size
    assert not any(l.table for l in select(file.float.graph, embeddings=False).quantizable) and not any(l.table for l in select(file.float.graph, 'reference').quantizable)

def test_a_table_takes_one_step_and_counts_only_where_it_takes_part():
    _,g,_,_ = engines(False); a,b = QuantRLCodec(g.layers, [2,4,8], [4,8]),QuantRLCodec(g.layers, [2,4,8]); table = 'words.embedding_table'
    assert [s.what for s in a.steps if s.path==table]==[s.what for s in b.steps if s.path==table]==['w'] and len(a)==2+2*2 and len(b)==4
    assert all(s[table].a==32 for c in (a,b) for s in c.strategies()) and QuantRLCodec(g.layers, [2,4,8], pin={table: 4}).decode([0]*3)[table]==Bits(4, 32)
    without = select(g, embeddings=False); assert CostModel(without.layers).params==CostModel(g.layers).params-48000-16*48 and 'read by index' in without.layer(table).reason

@pytest.mark.parametrize('engine', ['onnxruntime','mindspore'])
def test_a_search_gives_a_table_a_width(tmp_path, engine):
    from quantnb.run.pipeline import SearchPipeStep
    ms.set_seed(0); net = Words(); labels = [net(ms.Tensor(b)).asnumpy().argmax(1) for b in batches]
    def accuracy(n): return 100*float(np.mean([n(ms.Tensor(b)).asnumpy().argmax(1)==y for b,y in zip(batches, labels)]))
    t = Task(net, (ms.Tensor(batches[0]),), accuracy, calib=feed, bits=[2,4,8], act_bits=[8], max_episode=8, compress_threshold=70, local_base_path=str(tmp_path), engine=engine)
    h = SearchPipeStep(t, progress=False).run()
    assert all(r.strategy['words.embedding_table'].a==32 and r.metrics['compress_ratio']>=70-1e-9 for r in h) and len({r.strategy['words.embedding_table'].w for r in h})>1
