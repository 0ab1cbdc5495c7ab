"Layers are found, named and simulated in networks as users bring them, in both modes."
import os
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from nets import make
from quantnb.deploy.onnx import read_at_batch
from quantnb.graph.ir import muted, read_graph, select
from quantnb.quant.qnet import QuantNet
from quantnb.types import Bits, InputError, Strategy

QUANTIZABLE = dict(cnn={'stem','res.0.c1','res.0.c2','res.1.c1','res.1.c2','ds.dw','ds.pw','head'}, grouped={'a'}, conv1d={'a','b','fc'}, mint={'a','b'},
    shared={'a','layers.0','layers.1'}, attention={'emb.embedding_table','mha.in_proj_weight','mha.out_proj','ff','out'}, by_hand={'q','k','v','w'}, recurrent={'fc'}, branch={'a','b'},
    tied={'fc','emb.embedding_table'}, encoder={f'e.layers.{i}.{p}' for i in (0,1) for p in ('self_attn.in_proj_weight','self_attn.out_proj','dense1','dense2')})
FLOAT = dict(cnn={'unused':'never called'}, grouped={'up':'transposed'}, attention={'mha:MatMulExt':'no weight'}, by_hand={'net:':'no weight'}, recurrent={'r':'recurrent'}, tied={'lookup':'embedding'})
CALLS = dict(shared={'a':3})
MACS = dict(attention={'mha.in_proj_weight':6*16*48, 'ff':6*16*32}, shared={'a':3*64}, cnn={'ds.dw':7*7*9*16, 'head':320}) # of one sample, however many operators the export makes of it

def outputs(net, x):
    r = net(*x)
    return [o.asnumpy() for o in (r if isinstance(r, tuple) else (r,))]

@pytest.mark.parametrize('mode', [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=['graph','pynative'])
@pytest.mark.parametrize('name', QUANTIZABLE)
def test_layers_and_simulation(name, mode):
    ms.set_context(mode=mode)
    net,x = make(name)
    want = outputs(net, x)
    qn = QuantNet(net, select(read_graph(net, x)), x); qn.calibrate(lambda m: [m(*x)] and None)
    g = qn.graph
    assert {l.path for l in g.quantizable}==QUANTIZABLE[name]
    for part,why in FLOAT.get(name, {}).items(): assert any(part in l.path and why in l.reason for l in g.layers), (part, [(l.path,l.reason) for l in g.layers])
    for path,n in CALLS.get(name, {}).items(): assert g.layer(path).calls==n
    for path,n in MACS.get(name, {}).items(): assert g.layer(path).macs==n
    assert all((l.macs>0)!=l.table for l in g.quantizable)
    # float stays float
    for a,b in zip(want, outputs(qn.net(None), x)): np.testing.assert_allclose(a, b, atol=1e-5)
    # each layer's weight and activation reach the output
    for l in g.quantizable:
        for b in (Bits(2,32), *[Bits(32,2)]*(not l.table)):
            if 'branch' in l.note: continue
            got = outputs(qn.net(Strategy({l.path:b})), x)
            assert max(np.abs(u-v).max() for u,v in zip(want, got))>0, f'{l.path} {b} changes nothing'
    # and float comes back to the bit
    first = outputs(qn.net(None), x); qn.net(Strategy.uniform([l.path for l in g.quantizable], 2, 4))
    for a,b in zip(first, outputs(qn.net(None), x)): np.testing.assert_array_equal(a, b)

def test_another_batch_size_and_original_untouched():
    ms.set_context(mode=ms.GRAPH_MODE)
    net,x = make('cnn', 4); before = outputs(net, x)
    qn = QuantNet(net, read_graph(net, x), x); qn.calibrate(lambda m: [m(*x)] and None)
    q = qn.net(Strategy.uniform([l.path for l in qn.graph.quantizable], 3, 8))
    whole,part = q(*x).asnumpy(),q(x[0][:3]).asnumpy()
    np.testing.assert_allclose(whole[:3], part, atol=1e-5)
    np.testing.assert_array_equal(before[0], outputs(net, x)[0])

def test_a_new_strategy_compiles_nothing():
    ms.set_context(mode=ms.GRAPH_MODE)
    net,x = make('cnn', 4)
    qn = QuantNet(net, read_graph(net, x), x); qn.calibrate(lambda m: [m(*x)] and None)
    paths = [l.path for l in qn.graph.quantizable]; graphs = set(qn.cell.compile_cache)
    assert graphs
    for w in (2,3,4,8,16,32): outputs(qn.net(Strategy.uniform(paths, w, min(w, 8))), x)
    assert set(qn.cell.compile_cache)==graphs

# ---- what is tried and may fail

class Fixed(nn.Cell):
    "A network that fixes its batch."
    def __init__(self): super().__init__(); self.a = nn.Dense(4, 3)
    def construct(self, x): return self.a(x.view(1, -1))

def test_a_trial_that_fails_is_silent(capfd):
    with muted(): os.write(2, b'lost')
    os.write(2, b'seen'); assert capfd.readouterr().err=='seen'
    net,x = Fixed().set_train(False),(ms.Tensor(np.ones((1,4), np.float32)),)
    assert len(read_graph(net, x).quantizable)==1
    capfd.readouterr(); assert read_at_batch(net, x) is None and not capfd.readouterr().err

def test_a_batch_that_the_network_does_not_take_is_named():
    net,x = Fixed().set_train(False),(ms.Tensor(np.ones((1,4), np.float32)),)
    q = QuantNet(net, read_graph(net, x), x)
    with pytest.raises(InputError, match=r'calibration batch Float32\[8, 4\]'): q.calibrate(lambda m: [np.ones((8,4), np.float32)])

def test_a_graph_in_a_terminal_says_why_not():
    net,x = make('cnn')
    said = str(select(read_graph(net, x), exclude=['head'])).splitlines()
    assert len(said)>8 and any('head' in o and 'excluded by the configuration' in o for o in said) and any('stem' in o and 'can be quantized' in o for o in said)

def test_products_in_repeated_blocks_are_called_by_their_block():
    class Block(nn.Cell):
        def __init__(self): super().__init__(); self.q,self.k = nn.Dense(8, 8),nn.Dense(8, 8)
        def construct(self, x): return x+ops.softmax(ops.matmul(self.q(x), self.k(x).transpose(0,2,1)))@x
    class Net(nn.Cell):
        def __init__(self): super().__init__(); self.blocks = nn.CellList([Block() for _ in range(3)])
        def construct(self, x):
            for b in self.blocks: x = b(x)
            return x
    g = read_graph(Net(), ms.Tensor(np.ones((2,5,8), np.float32)))
    assert [l.path.split(':')[0] for l in g.layers if l.kind=='matmul']==[f'blocks.{k}' for k in range(3) for _ in range(2)]
