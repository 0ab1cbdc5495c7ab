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

@pytest.mark.parametrize('opset', [11,12,13,17,21,23])
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
  search_algorithm: {{objective_keys: [accuracy, compress_ratio, latency], compress_threshold: 70, acc_threshold: 40, acc_threshold_mode: drop, policy: {{max_episode: 6, num_warmup: 2}}}}
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
    assert 'grouped' in said and 'deployed float graph' in said
    assert main(['check', f])==0
    assert main(['run', f])==0; said = capsys.readouterr().out
    assert 'no MINDIR file: the network came as an ONNX file' in said
    best = json.loads((tmp_path/'tasks/t/output/best.json').read_text()); o = best['files']['onnx']
    assert o['integer_macs']==1. and o['parity']['agreement']>.97 and best['metrics']['latency']>0 and (tmp_path/'tasks/t/output/report.html').is_file()
    assert [r['name'] for r in best['table']]==['float','chosen','uniform 8','uniform 4'] and all(r['latency'] for r in best['table'])
    m = tmp_path/'tasks/t/output/best/model.onnx'
    assert answers(str(m), dict(image=x(5,1,12,12)))[0].shape==(5,6)
    assert main(['run', f, '-r', '-t', 't', '--set', 'max_episode=8'])==0 # goes on
