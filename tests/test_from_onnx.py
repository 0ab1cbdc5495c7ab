"An ONNX file as the network: what is read, what stays float and why, whole searches, and files that are refused."
import json, os
import numpy as np, pytest
import quantnb, mindspore as ms
import onnx, onnxruntime as ort
from onnx import TensorProto as TP, helper as oh, numpy_helper as onp
from quantnb.all import *
from quantnb.deploy.from_onnx import read_onnx
from quantnb.deploy.onnx_engine import OnnxFile
from quantnb.run.cli import main

rng = np.random.default_rng(0)
def w(*s): return (rng.standard_normal(s)/np.sqrt(max(1, np.prod(s[1:])))).astype(np.float32)
def io(name, *dims, t=TP.FLOAT): return oh.make_tensor_value_info(name, t, list(dims))
N = oh.make_node

def save(path, nodes, ins, outs, init=None, opset=17, **kw):
    "Write a model of `nodes`."
    g = oh.make_graph(nodes, 'g', ins, outs, [onp.from_array(np.asarray(a), k) for k,a in (init or {}).items()])
    m = oh.make_model(g, opset_imports=[oh.make_opsetid('', opset), *kw.pop('imports', [])], **kw); m.ir_version = min(10, m.ir_version)
    onnx.save(m, str(path)); return str(path)

def answers(path, feed): return ort.InferenceSession(path, providers=['CPUExecutionProvider']).run(None, feed)

def same(path, *xs, tol=1e-5):
    "Read a file; its float graph answers as the file does."
    s = ort.InferenceSession(path, providers=['CPUExecutionProvider']); feed = {i.name:x for i,x in zip(s.get_inputs(), xs)}
    o = read_onnx(path, tuple(xs))
    for a,b in zip(o.open().run(None, feed), s.run(None, feed)): assert a.shape==b.shape and np.allclose(a, b, rtol=tol, atol=tol*max(1., np.abs(b.astype(np.float64)).max())), np.abs(a-b).max()
    onnx.checker.check_model(o.model())
    return o

def x(*s, seed=1): return np.random.default_rng(seed).standard_normal(s).astype(np.float32)

def cnn(path, opset=17, batch='batch', seed=0):
    "Convolution, batch norm, depthwise and grouped convolutions, a residual, pooling, Gemm."
    r = np.random.default_rng(seed); v = lambda *s: (r.standard_normal(s)/np.sqrt(np.prod(s[1:]))).astype(np.float32)
    bn = lambda c: dict(ga=r.uniform(.5, 1.5, c).astype(np.float32), be=v(c,1).ravel(), mu=v(c,1).ravel(), va=r.uniform(.5, 1.5, c).astype(np.float32))
    init = {'stem.weight':v(8,1,3,3), 'dw.weight':v(8,1,3,3), 'grouped.weight':v(8,4,3,3), 'grouped.bias':v(8,1).ravel(), 'fc.weight':v(6,8), 'fc.bias':v(6,1).ravel(), **{f'bn.{k}':a for k,a in bn(8).items()}}
    nodes = [N('Conv', ['image','stem.weight'], ['a'], pads=[1]*4), N('BatchNormalization', ['a','bn.ga','bn.be','bn.mu','bn.va'], ['b']), N('Relu', ['b'], ['c']),
        N('Conv', ['c','dw.weight'], ['d'], pads=[1]*4, group=8), N('Relu', ['d'], ['e']), N('Conv', ['e','grouped.weight','grouped.bias'], ['f'], pads=[1]*4, group=2),
        N('Add', ['f','c'], ['h']), N('Relu', ['h'], ['i']), N('GlobalAveragePool', ['i'], ['j']), N('Flatten', ['j'], ['k']), N('Gemm', ['k','fc.weight','fc.bias'], ['scores'], transB=1)]
    return save(path, nodes, [io('image', batch, 1, 12, 12)], [io('scores', batch, 6)], init, opset)

@pytest.mark.parametrize('opset', [9,11,12,13,17,21,23])
def test_cnn_of_every_opset(tmp_path, opset):
    o = same(cnn(tmp_path/'m.onnx', opset), x(3,1,12,12)); ls = {l.path:l for l in o.graph.layers}
    assert list(ls)==['stem','dw','grouped','fc'] and all(l.quantizable for l in ls.values()) and o.dynamic
    assert (ls['dw'].depthwise, ls['grouped'].groups, ls['fc'].channel_axis, ls['stem'].macs)==(True, 2, 0, 144*8*9)
    assert 'BatchNormalization' not in {n.op_type for n in o.nodes} and set(o.biases)==set(ls)

FUNCTIONS = '''
import numpy as np
x = np.random.default_rng(3).standard_normal((256,1,12,12)).astype(np.float32)
import onnxruntime as ort
y = ort.InferenceSession(FILE, providers=['CPUExecutionProvider']).run(None, dict(image=x))[0].argmax(1)
def calibrate(net): net(x[:64])
def evaluate(net): return float((net(image=x).argmax(1)==y).mean()*100)
'''
YML = '''
general: {{task: {{local_base_path: {folder}, task_id: t}}}}
register:
  pkg_path: ["."]
  modules: [{{module: functions, ori_correct_func: calibrate, ori_eval_func: evaluate}}]
pipeline: [nas]
nas:
  model: {{model_desc: {{common: {{network: {{type: onnx, file: model.onnx}}}}}}}}
  search_algorithm: {{objective_keys: [accuracy, compress_ratio, latency], compress_threshold: 70, acc_threshold: 40, acc_threshold_mode: drop, policy: {{max_episode: 5, num_warmup: 2}}}}
  search_space: {{hyperparameters: [{{key: network.bit_candidates, range: [2,4,8]}}, {{key: network.act_bit_candidates, range: [8]}}]}}
  evaluator: {{device_evaluator: {{hardware: CPU}}}}
'''

def project(tmp_path, functions=FUNCTIONS, yml=YML, name='functions'):
    "A folder with a yml and its functions; every test has a module name of its own."
    (tmp_path/f'{name}.py').write_text(f'FILE = {str(tmp_path/"model.onnx")!r}\n'+functions); f = tmp_path/'quant.yml'
    f.write_text(yml.format(folder=tmp_path/'tasks').replace('functions', name)); return str(f)

def test_a_whole_search_by_yml(tmp_path, capsys):
    cnn(tmp_path/'model.onnx'); f = project(tmp_path)
    assert main(['explain', f])==0; said = capsys.readouterr().out
    assert 'grouped' in said and all(o in said for o in ('float evaluation','agreement of the files','writing the report')) # a time for every phase
    assert main(['check', f])==0
    assert main(['run', f])==0; said = capsys.readouterr().out
    assert 'no MINDIR file: the network came as an ONNX file' in said
    best = json.loads((tmp_path/'tasks/t/output/best.json').read_text()); o = best['files']['onnx']
    assert o['integer_macs']==1. and o['parity']['agreement']>.97 and best['metrics']['latency']>0 and (tmp_path/'tasks/t/output/report.html').is_file()
    assert [r['name'] for r in best['table']]==['float','chosen','uniform 8','uniform 4'] and all(r['latency'] for r in best['table'])
    m = tmp_path/'tasks/t/output/best/model.onnx'
    assert answers(str(m), dict(image=x(5,1,12,12)))[0].shape==(5,6)

def dense(o, path): return next(l for l in o.graph.layers if l.path==path)
@pytest.mark.parametrize('trans', [0,1])
def test_gemm_and_its_factors(tmp_path, trans):
    k = w(8,5); init = {'fc.weight':k.T.copy() if trans else k, 'fc.bias':w(1,5)}
    o = same(save(tmp_path/'m.onnx', [N('Gemm', ['x','fc.weight','fc.bias'], ['y'], transB=trans, alpha=.5, beta=2.)], [io('x','n',8)], [io('y','n',5)], init), x(4,8))
    l = dense(o, 'fc'); assert l.quantizable and (l.channel_axis,l.c_out,l.bias,l.macs)==(0 if trans else 1, 5, 5, 40) and o.init[o.biases['fc']].shape==(5,)

@pytest.mark.parametrize('rank', [2,3,4])
def test_matmul_and_add_are_a_dense_with_its_bias(tmp_path, rank):
    dims = ['n',3,2][:rank-1]; init = {'onnx::MatMul_7':w(8,5), 'b':w(5)}
    o = same(save(tmp_path/'m.onnx', [N('MatMul', ['x','onnx::MatMul_7'], ['h'], name='/head/out/MatMul'), N('Add', ['b','h'], ['y'])], [io('x',*dims,8)], [io('y',*dims,5)], init), x(4,*dims[1:],8))
    l = dense(o, 'head.out'); assert l.quantizable and l.bias==5 and 'head.out' in o.biases

def test_weights_are_found_through_views_and_constants(tmp_path):
    k = w(5,8); c = N('Constant', [], ['k'], value=onp.from_array(k))
    o = same(save(tmp_path/'m.onnx', [c, N('Transpose', ['k'], ['kt'], perm=[1,0]), N('MatMul', ['x','kt'], ['y'], name='proj')], [io('x','n',3,8)], [io('y','n',3,5)]), x(2,3,8))
    l = dense(o, 'k'); assert l.weight_shape==(5,8) and l.channel_axis==0 and l.quantizable and np.array_equal(o.params[l.param], k)

def test_shared_weights_are_one_layer(tmp_path):
    init = {'table':w(20,8)}
    nodes = [N('Gather', ['table','ids'], ['e']), N('Identity', ['table'], ['again']), N('Transpose', ['again'], ['t'], perm=[1,0]), N('MatMul', ['e','t'], ['a']), N('MatMul', ['e','t'], ['b']), N('Add', ['a','b'], ['y'])]
    o = same(save(tmp_path/'m.onnx', nodes, [io('ids','n','t',t=TP.INT64)], [io('y','n','t',20)], init), np.arange(12).reshape(2,6))
    l = dense(o, 'table'); assert l.calls==2 and l.quantizable and dense(o, 'table:lookup').reason.startswith('embedding')
    e = engine(OnnxFile(tmp_path/'m.onnx'), (np.arange(12).reshape(2,6),)); s = Strategy({'table':(4,32)})
    m = onnx.load_from_string(e.builder.build(s)); assert sum(t.name.startswith('table') and t.dims==[20,8] for t in m.graph.initializer)<=1 # the table is stored once, on its grid

def engine(f, xs, **kw):
    "An engine of a file, calibrated on one forward."
    from quantnb.deploy.onnx_engine import FileEngine
    f.read(tuple(xs)); e = FileEngine(f, select(f.graph), tuple(xs), **kw); e.calibrate(lambda net: net(*xs)); return e

@pytest.mark.parametrize('kernel', [3,1])
def test_one_dimensional_convolution(tmp_path, kernel):
    init = {'c.weight':w(6,4,kernel), 'c.bias':w(6)}
    p = save(tmp_path/'m.onnx', [N('Conv', ['x','c.weight','c.bias'], ['h'], pads=[kernel//2]*2), N('Relu', ['h'], ['y'])], [io('x','n',4,'t')], [io('y','n',6,'t')], init)
    l = dense(same(p, x(2,4,20)), 'c'); assert l.kind=='conv1d' and l.macs==20*6*4*kernel
    e = engine(OnnxFile(p), (x(8,4,20),)); assert e.divergence_of(Strategy({'c':(8,8)}))<.01 and e.net(Strategy({'c':(8,8)}))(x(3,4,11)).shape==(3,6,11) # another length

def test_several_inputs_and_outputs_by_name(tmp_path):
    init = {'a.weight':w(6,4), 'b.weight':w(6,4)}
    p = save(tmp_path/'m.onnx', [N('MatMul', ['left:0','a.weight'], ['h']), N('Cast', ['mask'], ['f'], to=1), N('Mul', ['h','f'], ['y']), N('MatMul', ['left:0','b.weight'], ['z'])],
        [io('left:0','n',6), io('mask','n',1,t=TP.INT32)], [io('y','n',4), io('z','n',4)], init)
    a,m = x(5,6),np.ones((5,1)); o = same(p, a, m.astype(np.int32)); assert [v.name for v in o.inputs]==['left:0','mask']
    net = engine(OnnxFile(p), (a,m)).net(); r = net(mask=m, **{'left:0':a}); assert isinstance(r, tuple) and len(r)==2 and np.array_equal(r[1], net(a, ms.Tensor(m))[1])
    for call,say in ((lambda: net(a), "do not feed the input 'mask'"), (lambda: net(a, m, maks=1), "no input 'maks'; did you mean \"mask\""), (lambda: net(a, m, mask=m), 'by position and by name'), (lambda: net(a[:,:3], m), r'shape \[5, 3\]'), (lambda: net(a, m, m), '3 inputs are fed')):
        with pytest.raises(InputError, match=say): call()

def test_a_fixed_batch_and_a_free_length_that_is_no_batch(tmp_path):
    init = {'c.weight':w(6,4)}
    fixed = save(tmp_path/'a.onnx', [N('MatMul', ['x','c.weight'], ['y'])], [io('x',3,6)], [io('y',3,4)], init); o = same(fixed, x(3,6)); assert not o.dynamic
    e = engine(OnnxFile(fixed), (x(3,6),)); assert e.net(Strategy({'c':(8,8)}))(x(3,6)).shape==(3,4)
    mixing = save(tmp_path/'b.onnx', [N('MatMul', ['x','c.weight'], ['h']), N('ReduceMean', ['h'], ['m'], axes=[0], keepdims=1), N('Sub', ['h','m'], ['y'])], [io('x','t',6)], [io('y','t',4)], init)
    assert not same(mixing, x(3,6)).dynamic # a free first axis, but rows depend on each other

def test_quantized_parts_are_kept(tmp_path):
    q = np.clip(np.rint(w(4,6)*100), -127, 127).astype(np.int8); init = {'q':q, 's':np.full(4, .01, np.float32), 'z':np.zeros(4, np.int8), 'xs':np.float32(.02), 'xz':np.uint8(128), 'next.weight':w(4,3)}
    nodes = [N('QuantizeLinear', ['x','xs','xz'], ['xq']), N('DequantizeLinear', ['xq','xs','xz'], ['xd']), N('DequantizeLinear', ['q','s','z'], ['wd'], axis=0), N('Gemm', ['xd','wd'], ['h'], transB=1, name='old'), N('MatMul', ['h','next.weight'], ['y'])]
    o = same(save(tmp_path/'m.onnx', nodes, [io('x','n',6)], [io('y','n',3)], init), x(4,6))
    assert 'already quantized' in dense(o, 'old').reason and dense(o, 'next').quantizable and sum(n.op_type=='DequantizeLinear' for n in o.nodes)==2
    e = engine(OnnxFile(tmp_path/'m.onnx'), (x(16,6),)); assert e.divergence_of(Strategy({'next':(8,8)}))<.01

def test_operators_of_other_domains_are_kept_float(tmp_path):
    init = {'a.weight':w(6,8), 'a.bias':w(8), 'k':w(8,4)}
    nodes = [N('MatMul', ['x','a.weight'], ['h']), N('BiasGelu', ['h','a.bias'], ['g'], domain='com.microsoft'), N('FusedMatMul', ['g','k'], ['y'], domain='com.microsoft', alpha=.5, name='fused')]
    p = save(tmp_path/'m.onnx', nodes, [io('x','n',6)], [io('y','n',4)], init, imports=[oh.make_opsetid('com.microsoft',1)]); f = OnnxFile(p); f.read((x(4,6),))
    l = {l.path:l for l in f.graph.layers}; assert l['k'].reason=='FusedMatMul of the domain com.microsoft: kept float' and l['a'].quantizable
    e = engine(OnnxFile(p), (x(16,6),)); from quantnb.deploy.sensitivity import sensitivities
    assert sensitivities(e.builder, [Bits(4,8),Bits(8,8)]).rows==16
    assert e.divergence_of(Strategy({'a':(8,8)}))<.01 and np.allclose(e.net()(x(4,6)), answers(p, dict(x=x(4,6)))[0], atol=1e-5)

def test_branches_read_outer_tensors(tmp_path):
    yes = oh.make_graph([N('MatMul', ['h','k'], ['yes_out'])], 'yes', [], [io('yes_out','n',4)]); no = oh.make_graph([N('Neg', ['r'], ['no_out'])], 'no', [], [io('no_out','n',4)])
    nodes = [N('MatMul', ['x','a.weight'], ['h']), N('Relu', ['h'], ['r']), N('ReduceSum', ['x'], ['s'], keepdims=0), N('Greater', ['s','zero'], ['c']), N('If', ['c'], ['y'], then_branch=yes, else_branch=no)]
    p = save(tmp_path/'m.onnx', nodes, [io('x','n',6)], [io('y','n',4)], {'a.weight':w(6,4), 'k':w(4,4), 'zero':np.float32(0)}); a = x(4,6)
    same(p, a); same(p, -a); e = engine(OnnxFile(p), (a,)); s = Strategy({'a':(8,8)})
    for v in (a,-a): assert np.allclose(e.net(s)(v), answers(p, dict(x=v))[0], atol=.1)

@pytest.mark.parametrize('opset', [11,12])
def test_old_softmax_flattens(tmp_path, opset):
    nodes = [N('Softmax', ['x'], ['a'], axis=1), N('Softmax', ['a'], ['b'], axis=2), N('Unsqueeze', ['b'], ['c'], axes=[0]), N('Squeeze', ['c'], ['d'], axes=[0]), N('ReduceSum', ['d'], ['e'], axes=[2], keepdims=0), N('Split', ['e'], ['f','g'], axis=1, split=[1,2]), N('MatMul', ['g','k'], ['y'])]
    same(save(tmp_path/'m.onnx', nodes, [io('x','n',3,5)], [io('y','n',4), io('f','n',1)], {'k':w(2,4)}, opset), x(2,3,5))

def test_metadata_and_opset_are_kept(tmp_path):
    p = cnn(tmp_path/'m.onnx', 13); m = onnx.load(p); oh.set_model_props(m, {'labels':'a b c'}); onnx.save(m, p)
    e = engine(OnnxFile(p), (x(8,1,12,12),)); s = Strategy.uniform([l.path for l in e.graph.quantizable], 8)
    for b in (e.builder.build(s), e.float.bytes()): m = onnx.load_from_string(b); assert m.metadata_props[0].value=='a b c' and [(o.domain,o.version) for o in m.opset_import]==[('',13)]; onnx.checker.check_model(m)
    assert len(e.builder.build(s))==e.builder.size(s)

def test_external_data(tmp_path):
    p = cnn(tmp_path/'m.onnx'); m = onnx.load(p); big = str(tmp_path/'big.onnx'); onnx.save(m, big, save_as_external_data=True, location='big.data', size_threshold=0)
    same(big, x(2,1,12,12)); d = tmp_path/'big.data'; content = d.read_bytes()
    d.write_bytes(content[:200]); bad(big, 'ends before the weight|truncated')
    d.unlink(); bad(big, 'big.data, which is not there')

def bad(path, match):
    "A file is refused, with its name and a remedy."
    with pytest.raises(InputError, match=match) as e: OnnxFile(path)
    assert str(path) in e.value.what and e.value.remedy and e.value.exit_code==2

def test_files_that_are_refused(tmp_path):
    p = cnn(tmp_path/'m.onnx'); whole = open(p, 'rb').read(); f = tmp_path/'bad.onnx'
    for content,say in ((whole[:len(whole)//2], 'truncated'), (whole[:-3], 'truncated'), (b'PK\x03\x04 a zip, not a model'*40, 'cannot be read as ONNX|holds no ONNX graph'), (b'hello', 'cannot be read|no ONNX graph'), (b'', 'is empty')):
        f.write_bytes(content); bad(f, say)
    bad(tmp_path/'none.onnx', 'there is no file')
    m = onnx.load(p); m.opset_import[0].version = 27; onnx.save(m, str(f)); bad(f, 'opset 27; the newest that is read is 23')

def encoder(path):
    "Words of any number: embedding, attention, a feed-forward layer, the mean over the words."
    r = np.random.default_rng(5); v = lambda *s: (r.standard_normal(s)/np.sqrt(s[-2] if len(s)>1 else 8)).astype(np.float32)
    init = dict(table=v(50,16), qk=v(16,32), qk_b=v(32), up=v(16,32), up_b=v(32), down=v(32,16), down_b=v(16), head=v(16,4), half=np.array([16,16]), one=np.array([1]))
    nodes = [N('Gather', ['table','ids'], ['e']), N('MatMul', ['e','qk'], ['qk0']), N('Add', ['qk0','qk_b'], ['qk1']), N('Split', ['qk1','half'], ['q','k'], axis=2), N('Transpose', ['k'], ['kt'], perm=[0,2,1]),
        N('MatMul', ['q','kt'], ['s']), N('Cast', ['mask'], ['m'], to=1), N('Unsqueeze', ['m','one'], ['m1']), N('Mul', ['s','m1'], ['s1']), N('Softmax', ['s1'], ['p'], axis=2), N('MatMul', ['p','e'], ['c']),
        N('MatMul', ['c','up'], ['u0']), N('Add', ['u0','up_b'], ['u1']), N('Relu', ['u1'], ['u']), N('MatMul', ['u','down'], ['d0']), N('Add', ['d0','down_b'], ['d']), N('Add', ['d','c'], ['z']), N('ReduceMean', ['z'], ['g'], axes=[1], keepdims=0), N('MatMul', ['g','head'], ['scores'])]
    return save(path, nodes, [io('ids','batch','words',t=TP.INT64), io('mask','batch','words',t=TP.INT64)], [io('scores','batch',4)], init)

WORDS = '''
import numpy as np, onnxruntime as ort
rng = np.random.default_rng(0)
data = [dict(input_ids=rng.integers(0, 50, (32,n)), mask=np.ones((32,n), np.int64)) for n in (5,9,7)]
s = ort.InferenceSession(FILE, providers=['CPUExecutionProvider'])
labels = [s.run(None, dict(ids=d['input_ids'], mask=d['mask']))[0].argmax(1) for d in data]
def calibrate(net): return [dict(ids=d['input_ids'], mask=d['mask'], label=l) for d,l in zip(data, labels)]
def evaluate(net): return dict(top1=100*float(np.mean([(net(mask=d['mask'], ids=d['input_ids']).argmax(1)==l).mean() for d,l in zip(data, labels)])))
'''

def test_a_search_with_a_free_length(tmp_path, capsys):
    encoder(tmp_path/'model.onnx'); f = project(tmp_path, WORDS, YML.replace(', latency]', ']').replace('compress_threshold: 70', 'compress_threshold: 60'), 'words')
    assert main(['run', f])==0; best = json.loads((tmp_path/'tasks/t/output/best.json').read_text())
    assert best['float']['accuracy']==100 and best['files']['onnx']['accuracy']==best['metrics']['accuracy'] and best['parity']['onnx']['agreement']>.97
    m = str(tmp_path/'tasks/t/output/best/model.onnx')
    for n in (1,4,12): assert answers(m, dict(ids=np.ones((2,n), np.int64), mask=np.ones((2,n), np.int64)))[0].shape==(2,4)
    s = SearchPipeStep(Task.from_yaml(f, max_episode=7, task_id='t'), resume=True, progress=False); assert len(s.run())==7 and len({r.episode for r in s.history})==7 # goes on

@pytest.mark.parametrize('change,say', [(('file: model.onnx','file: modle.onnx'), r'line 8: .*there is no file .*modle.onnx'), (('file: model.onnx','flie: model.onnx'), r'line 8: .*unknown key; did you mean "file"'),
    (('file: model.onnx',''), 'the ONNX file is missing'), (('type: onnx','type: get_model'), '"file" is the ONNX file of "type: onnx"'), (('net(image=x)','net(picture=x)'), "no input 'picture'"), (('net(image=x)','net()'), "do not feed the input 'image'")])
def test_what_is_refused_by_yml(tmp_path, capsys, change, say):
    import re
    cnn(tmp_path/'model.onnx'); f = project(tmp_path, FUNCTIONS.replace(*change), YML.replace(*change), f'functions_{abs(hash(say))%10**6}')
    assert main(['run', f])==2; assert re.search(say, capsys.readouterr().err)

def test_a_truncated_file_by_yml(tmp_path, capsys):
    p = cnn(tmp_path/'model.onnx'); f = project(tmp_path, FUNCTIONS.replace('import onnxruntime as ort\ny =', 'y = 0 #'), name='truncated'); content = open(p, 'rb').read(); open(p, 'wb').write(content[:999])
    assert main(['check', f])==2 and 'truncated' in capsys.readouterr().err
    assert main(['run', f])==2; assert 'truncated' in (err := capsys.readouterr().err) and 'model.onnx' in err and 'remedy' in err

def test_a_task_from_python(tmp_path):
    p = cnn(tmp_path/'m.onnx'); a = x(64,1,12,12); y = answers(p, dict(image=a))[0].argmax(1)
    t = Task(net=p, calib=[a[:32]], evaluate=lambda net: float((net(a).argmax(1)==y).mean()), bits=(2,3,4,6,8), act_bits=(4,8), targets=Targets(compress_ratio=70), max_episode=5, local_base_path=str(tmp_path))
    assert [i.shape for i in t.inputs]==[(1,1,12,12)] and t.input_names==('image',) # the first row that calibration feeds
    h = tune(t, progress=False); assert len(h)==5 and not [r for r in h if r.status=='failed'] and h.best().feasible
    with pytest.raises(InputError, match='engine: mindspore needs a MindSpore network'): open_engine(Task(net=p, evaluate=lambda n: 0., engine='mindspore'))

def test_inputs_from_the_shapes_alone(tmp_path):
    t = Task(net=cnn(tmp_path/'m.onnx', batch=2), evaluate=lambda net: 1.); assert t.inputs[0].shape==(2,1,12,12) and t.total>0

def test_the_panel_goes_through_all_stages(tmp_path):
    from quantnb.panels.stages import Stages, STAGES
    p = cnn(tmp_path/'m.onnx'); a = x(64,1,12,12); y = answers(p, dict(image=a))[0].argmax(1)
    s = Stages(Task(net=p, calib=[a[:32]], evaluate=lambda net: float((net(a).argmax(1)==y).mean()), bits=(4,8), act_bits=(8,), targets=Targets(compress_ratio=70), max_episode=3, local_base_path=str(tmp_path)))
    assert s.run_to(list(STAGES)[-1]), s.errors
    assert 'QuantNet' not in STAGES['graph'].code(s)

def test_half_precision(tmp_path):
    k = w(6,4).astype(np.float16); nodes = [N('Cast', ['k'], ['kf'], to=1), N('MatMul', ['x','kf'], ['y'], name='wide')]
    o = same(save(tmp_path/'a.onnx', nodes, [io('x','n',6)], [io('y','n',4)], dict(k=k)), x(3,6)); assert o.graph.quantizable and o.params[o.graph.layers[0].param].dtype==np.float32
    p = save(tmp_path/'b.onnx', [N('MatMul', ['x','k'], ['y'], name='half')], [io('x','n',6,t=TP.FLOAT16)], [io('y','n',4,t=TP.FLOAT16)], dict(k=k))
    with pytest.raises(InputError, match='its weight is float16'): select(same(p, x(3,6).astype(np.float16), tol=1e-2).graph)

def test_functions_are_inlined(tmp_path):
    f = oh.make_function('own', 'Twice', ['a','k'], ['c'], [N('MatMul', ['a','k'], ['b']), N('Add', ['b','b'], ['c'])], [oh.make_opsetid('',17)])
    p = save(tmp_path/'m.onnx', [N('Twice', ['x','up.weight'], ['y'], domain='own')], [io('x','n',6)], [io('y','n',4)], {'up.weight':w(6,4)}, imports=[oh.make_opsetid('own',1)], functions=[f])
    assert [l.path for l in same(p, x(3,6)).graph.quantizable]==['up']

def test_sensitivities_of_a_file(tmp_path):
    from quantnb.deploy.sensitivity import sensitivities
    a = x(32,1,12,12); e = engine(OnnxFile(cnn(tmp_path/'m.onnx', 21)), (a,))
    t = sensitivities(e.builder, [Bits(2,8),Bits(8,8)]); assert t.rise('fc', Bits(2,8))>0 and t.rows==32
