"The quantizer's methods by themselves, against formulas in numpy: grids, folding, biases, the mean shift. No quantized network runs."
import mindspore as ms
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from mindspore import nn
from quantnb.types import InputError, Strategy
from quantnb.graph.ir import read_graph
from quantnb.quant.grid import ActGrid, quantize_weight
from quantnb.quant.observe import NotFinite, Observer, expected_error, minmax_range, mse_range
from quantnb.quant.recipe import Recipe
from quantnb.quant.quantizer import Quantizer

properties = settings(deadline=None, max_examples=100, derandomize=True, database=None) # the same examples in every run
rng = np.random.default_rng(0)

# ---- grids of activations

ends = st.floats(-1e4, 1e4, width=32)

@properties
@given(ends, ends, st.integers(2, 8), st.lists(st.floats(-2e4, 2e4, width=32), min_size=1, max_size=30))
def test_an_activation_grid(a, b, bits, xs):
    "Zero is on it, what it covers is off by half a step at most, and what is on it stays."
    lo,hi = min(a, b, 0),max(a, b, 0); g = ActGrid.of(lo, hi, bits); x = np.float32(xs); y = g(x); q = g.quantize(x)
    assert g(np.float32([0]))[0]==0 and 0<=g.zero_point<=2**bits-1
    assert q.dtype==np.uint8 and q.max()<2**bits
    np.testing.assert_array_equal(y, (q.astype(np.float32)-g.zero_point)*g.scale)
    np.testing.assert_array_equal(g(y), y)
    low,high = g.range; inside = (x>=low)&(x<=high)
    assert np.all(np.abs(y-x)[inside]<=g.scale*.501)
    assert np.all(y[x<low]==np.float32(low)) and np.all(y[x>high]==np.float32(high))
    if hi-lo>1e-3: assert abs(low-lo)<=g.scale*.501 and abs(high-hi)<=g.scale*.501

def test_a_range_without_values_and_one_that_is_infinite():
    assert ActGrid.of(0, 0, 8)(np.zeros(3, np.float32)).tolist()==[0,0,0]
    with pytest.raises(ValueError, match='not finite'): ActGrid.of(0, np.inf, 8)

# ---- grids of weights

def error(g, w): return float(((g.dequantized.astype(np.float64)-w)**2).sum())

@pytest.mark.parametrize('bits', range(2, 9))
@pytest.mark.parametrize('axis', [0, 1])
def test_a_weight_grid(bits, axis):
    w = (rng.standard_t(3, (6,200)) * np.geomspace(.01, 10, 6)[:,None]).astype(np.float32); w = w if axis==0 else w.T.copy()
    g,wide = quantize_weight(w, bits, axis),quantize_weight(w, bits, axis, clip='max')
    assert g.q.dtype==np.int8 and g.q.shape==w.shape and g.scale.shape==(6,)
    assert -2**(bits-1)<=g.q.min() and g.q.max()<=2**(bits-1)-1
    ratio = error(g, w)/error(wide, w) # the best of 40 scales; the one that covers everything is between two of them
    assert ratio<=1.05 and (bits>4 or ratio<.9), ratio
    for c in range(6): # a channel's grid depends on this channel only
        alone = quantize_weight(w.take([c], axis), bits, axis)
        np.testing.assert_array_equal(alone.q, g.q.take([c], axis)); assert alone.scale[0]==g.scale[c]

def test_more_bits_are_closer_and_16_are_half_precision():
    w = rng.normal(size=(4,64)).astype(np.float32)
    e = [error(quantize_weight(w, b), w) for b in range(2, 9)]
    assert all(a>b for a,b in zip(e, e[1:])), e
    half = quantize_weight(w, 16)
    np.testing.assert_array_equal(half.dequantized, w.astype(np.float16).astype(np.float32))

def test_a_known_scale_gives_the_same_integers_again():
    w = rng.normal(size=(4,64)).astype(np.float32); g = quantize_weight(w, 4)
    np.testing.assert_array_equal(quantize_weight(w, 4, scale=g.scale).q, g.q)

def test_weights_that_have_no_grid():
    assert quantize_weight(np.zeros((2,3), np.float32), 4).dequantized.tolist()==[[0]*3]*2
    with pytest.raises(InputError, match='NaN or infinite'): quantize_weight(np.float32([[1,np.nan]]), 4)
    with pytest.raises(ValueError, match='2 to 8 bits or 16, not 1'): quantize_weight(np.ones((2,2)), 1)

def test_a_wider_scale_in_some_channels():
    w = rng.normal(size=(3,50)).astype(np.float32); g = quantize_weight(w, 8); few = np.array([False,True,False])
    h = g.widened(few, g.scale*4)
    assert h.scale.tolist()==np.where(few, g.scale*4, g.scale).tolist()
    np.testing.assert_array_equal(h.q[[0,2]], g.q[[0,2]])
    assert np.abs(h.dequantized[1]-g.dequantized[1]).max()<=h.scale[1]*.501

# ---- ranges

def test_what_an_observer_has_seen():
    o = Observer(channel_axis=1); parts = [rng.normal(size=(n,3,5)).astype(np.float32)*s for n,s in ((4,1),(7,9),(1,.1))]
    for p in parts: o(p)
    x = np.concatenate(parts)
    assert (o.lo,o.hi,o.count,int(o.h.sum()))==(x.min(),x.max(),x.size,x.size)
    np.testing.assert_allclose(o.mean, x.mean((0,2)), rtol=1e-5, atol=1e-6)
    inside = lambda a,b: int(((x>=a)&(x<b)).sum()) # the histogram against the values, on blocks of its bins
    for k in range(0, o.bins, 256): assert abs(int(o.h[k:k+256].sum())-inside(o.edges[k], o.edges[k+256]))<=2
    with pytest.raises(NotFinite): o(np.float32([np.nan]))

@pytest.mark.parametrize('bits', [2, 4, 8])
def test_the_mse_range_has_the_least_error_of_those_that_clip(bits):
    o = Observer(); x = np.append(rng.normal(size=20000), [30.]).astype(np.float32); o(x)
    assert minmax_range(o, bits)==(x.min(),x.max())
    mse = lambda r: float(((ActGrid.of(*r, bits)(x)-x)**2).mean())
    best,wide = mse_range(o, bits),minmax_range(o, bits)
    assert mse(best)<=mse(wide)*1.01 and (bits==8 or mse(best)<.5*mse(wide)), (mse(best), mse(wide))
    assert abs(expected_error(o, *wide, bits)/mse(wide)-1)<.1

# ---- a network's quantizer

class Net(nn.Cell):
    "A bias of its own before a batch norm, a grouped 1x1 convolution with an addition as its bias, a dense layer with a bias operand, one without a place for a bias."
    def __init__(self):
        super().__init__()
        self.conv,self.bn = nn.Conv2d(4, 8, 3, has_bias=True),nn.BatchNorm2d(8)
        self.one,self.fc,self.out = nn.Conv2d(8, 6, 1, group=2, has_bias=True),nn.Dense(6, 5),nn.Dense(5, 3, has_bias=False)
    def construct(self, x): return self.out(ms.ops.relu(self.fc(self.one(ms.ops.relu(self.bn(self.conv(x)))).mean((2,3)))))

@pytest.fixture(scope='module')
def net():
    ms.set_seed(0); net = Net().set_train(False)
    for p in net.get_parameters():
        if 'bn' in p.name or 'bias' in p.name: p.set_data(ms.Tensor(rng.uniform(.2, 2, p.shape).astype(np.float32)))
    params = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    return read_graph(net, (ms.Tensor(rng.normal(size=(2,4,6,6)).astype(np.float32)),)),params

INPUTS = dict(conv=(rng.normal(size=(16,4,6,6))+1).astype(np.float32), one=np.abs(rng.normal(size=(16,8,6,6))).astype(np.float32),
              fc=(rng.normal(size=(64,6))-2).astype(np.float32), out=np.abs(rng.normal(size=(64,5))).astype(np.float32))

@pytest.fixture
def make(net):
    "A quantizer that has seen `INPUTS`."
    def f(seen=tuple(INPUTS), **kw):
        graph,params = net; q = Quantizer(graph, {k: v.copy() for k,v in params.items()}, **kw); os = {}
        for k in seen: os[k] = Observer(channel_axis=1 if INPUTS[k].ndim==4 else -1); os[k](INPUTS[k])
        q.calibrated(os, []); return q
    return f

def test_a_batch_norm_is_folded_into_weight_and_bias(make, net):
    q,(_,p) = make(),net; k = p['bn.gamma']/np.sqrt(p['bn.moving_variance']+1e-5)
    np.testing.assert_allclose(q.params['conv.weight'], p['conv.weight']*k[:,None,None,None], rtol=1e-5)
    np.testing.assert_allclose(q.bias('conv', 32), p['bn.beta']+(p['conv.bias']-p['bn.moving_mean'])*k, rtol=1e-5)
    assert not q.params['conv.bias'].any(), 'the convolution\'s own bias is in the batch norm\'s shift, and must not count twice'
    np.testing.assert_allclose(q.params['bn.gamma']/np.sqrt(q.params['bn.moving_variance']+1e-5), 1, rtol=1e-6)
    for name in ('one.weight','fc.weight','fc.bias','out.weight'): np.testing.assert_array_equal(q.params[name], p[name])

def test_where_a_bias_is(make):
    q = make()
    assert q.bias_param==dict(conv='bn.beta', one='one.bias', fc='fc.bias', out=None)
    assert q.bias('out', 4) is None and q.bias('out', 4, 8) is None

def einsum(path, w, x):
    "What a layer computes without its bias; for the 3x3 convolution the mean over positions, as if all saw the channel's mean."
    if x.ndim==2: return x@w.T
    if w.shape[2:]==(1,1): return np.einsum('goi,ngihw->ngohw', w.reshape(2, -1, w.shape[1]), x.reshape(len(x), 2, -1, *x.shape[2:])).reshape(len(x), -1, *x.shape[2:])
    return np.einsum('oi,nihw->nohw', w.sum((2,3)), x)

@pytest.mark.parametrize('path', list(INPUTS))
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_the_shift_is_the_mean_error_of_the_output(make, path, bits):
    q = make(); l,x = q.layers[path],INPUTS[path].astype(np.float64); w = q.params[l.param].astype(np.float64)
    d = einsum(path, q.weight(path, bits).dequantized.astype(np.float64)-w, x); mean = d.mean((0,2,3) if d.ndim==4 else 0)
    assert np.abs(mean).max()>1e-5
    np.testing.assert_allclose(q.shift(path, bits), mean, rtol=1e-3, atol=1e-5)

@pytest.mark.parametrize('path', ['conv','one','fc'])
def test_a_corrected_bias_is_the_bias_less_the_shift(make, path):
    q,plain = make(),make(recipe=Recipe(bias='none'))
    for bits in (2, 4, 8):
        np.testing.assert_allclose(q.bias(path, bits), q.bias(path, 32)-q.shift(path, bits), rtol=1e-6)
        assert not np.array_equal(q.bias(path, bits), q.bias(path, 32))
        np.testing.assert_array_equal(plain.bias(path, bits), plain.bias(path, 32))
    assert q.shift(path, 32) is None

@pytest.mark.parametrize('bits,act', [(8,8), (4,8), (4,4), (2,8)])
def test_with_integer_activations_a_bias_is_rounded_to_the_step_of_the_sum(make, bits, act):
    q = make(); step = q.bias_step('fc', bits, act)
    np.testing.assert_allclose(step, np.float64(q.act('fc', act).scale)*q.weight('fc', bits).scale/2**max(0, 7-bits))
    rounded,exact = q.bias('fc', bits, act),q.bias('fc', bits)
    assert not np.array_equal(rounded, exact), 'rounding to the int32 step changes the bias'
    assert np.all(np.abs(rounded-exact)<=step*.501+1e-6*np.abs(exact))
    np.testing.assert_allclose(rounded/step, np.rint(rounded/step), atol=.05)
    assert q.bias_step('fc', 16, act) is None and q.bias_step('fc', bits, 16) is None

def test_a_bias_that_would_overflow_gets_a_coarser_weight(net):
    "A channel that training has switched off: weights of 1e-9 and a bias of 1."
    graph,params = net; params = {k: v.copy() for k,v in params.items()}; params['fc.weight'][2] *= 1e-9; params['fc.bias'][2] = 1
    q = Quantizer(graph, params); plain = quantize_weight(params['fc.weight'], 8).scale
    o = Observer(-1); o(INPUTS['fc']); q.calibrated(dict(fc=o), [])
    g = q.weight('fc', 8); others = [0,1,3,4]
    assert not g.q[2].any() and g.scale[2]>plain[2]
    assert g.scale[others].tolist()==plain[others].tolist()
    assert np.all(np.abs(q.bias('fc', 8, 8))/q.bias_step('fc', 8, 8)<=2.**30*1.01), 'all biases are int32 numbers'

def test_calibrating_again_changes_the_grids_of_activations(make):
    q = make(); a = q.act('fc', 4); assert q.act('fc', 4) is a, 'kept'
    o = Observer(-1); o(INPUTS['fc']*10); q.calibrated(dict(fc=o), [])
    b = q.act('fc', 4); assert b.scale>5*a.scale
    assert q.act('conv', 8) is None, 'calibration did not reach it this time'

def test_what_is_not_calibrated_or_not_quantized_has_no_grid(make):
    q = make(seen=('conv',))
    assert q.act('conv', 16) is None and q.act('conv', 32) is None and q.act('fc', 8) is None and q.weight('fc', 32) is None
    assert q.shift('fc', 4) is None
    np.testing.assert_array_equal(q.bias('fc', 4, 8), q.bias('fc', 32)) # nothing is known of its input

def test_at_gives_the_parameters_that_a_strategy_changes(make):
    q = make(); res = q.at(Strategy(dict(conv=(4,8), one=(32,32), fc=(8,32), out=(2,8))))
    assert set(res)=={'conv.weight','bn.beta','fc.weight','fc.bias','out.weight'}
    for k,v in res.items(): assert v.shape==q.params[k].shape and v.dtype==np.float32
    np.testing.assert_array_equal(res['bn.beta'], q.bias('conv', 4, 8)); np.testing.assert_array_equal(res['fc.bias'], q.bias('fc', 8, 32))

def test_what_a_quantizer_refuses(net):
    graph,params = net
    with pytest.raises(InputError, match='nothing is registered as .entropy'): Quantizer(graph, params, recipe=Recipe(ranges='entropy'))
    with pytest.raises(InputError, match='the Parameter fc.bias holds NaN'): Quantizer(graph, {**params, 'fc.bias': np.float32([np.nan]*5)})
