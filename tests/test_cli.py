"The command line as a newcomer meets it: bad input is reported before any work, with exit code 2; trouble on the way is survived."
import json, os, signal, subprocess, sys, textwrap, time
from pathlib import Path
import pytest
from quantnb.config import load
from quantnb.run.expect import Pace, expected
from quantnb.run.history import progress
from quantnb.run.cli import main

fashion = Path(__file__).parent.parent/'examples'/'fashion'

SCRIPT = '''
import numpy as np, mindspore as ms
from mindspore import nn
class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv,self.bn,self.mid,self.fc = nn.Conv2d(1, 8, 3),nn.BatchNorm2d(8),nn.Conv2d(8, 8, 3, has_bias=True),nn.Dense(8, 4)
    def construct(self, x): return self.fc(ms.ops.relu(self.mid(ms.ops.relu(self.bn(self.conv(x))))).mean((2,3)))
class Plain(nn.Cell):
    def construct(self, x): return ms.ops.relu(x)
rng = np.random.default_rng(0)
X = rng.normal(size=(64,1,8,8)).astype(np.float32); calls = 0
def get_model(config): ms.set_seed(3); return Net()
def no_model(config): return 3
def plain(config): return Plain()
def get_inputs(): return ms.Tensor(X[:1])
def wrong_inputs(): return ms.Tensor(np.zeros((1,3,8,8), np.float32))
def calibrate(model): model(ms.Tensor(X)).asnumpy()
def evaluate(model, config):
    y = model(ms.Tensor(X)).asnumpy()
    return float((y.argmax(1)==LABELS).mean()*100)
def moody(model, config):
    "Fails in every way; once with a file, too."
    global calls
    if 'ONNX Runtime' in repr(model):
        if calls==2: raise RuntimeError('the file is not liked')
        return evaluate(model, config)
    calls += 1
    if calls==3: raise RuntimeError('out of luck')
    if calls==4: return float('nan')
    if calls==5:
        import time; time.sleep(30)
    return evaluate(model, config)
def slow(model, config):
    import time; time.sleep(.3)
    return evaluate(model, config)
def as_dict(model, config): return {'top1':evaluate(model, config)}
LABELS = get_model(None).set_train(False)(ms.Tensor(X)).asnumpy().argmax(1)
'''

YML = '''
general:
  task: {local_base_path: TASKS, task_id: demo}
  worker: {timeout: 5}
register:
  pkg_path: ["."]
  modules:
    - module: script
      script_network: get_model
      script_network_input: get_inputs
      ori_correct_func: calibrate
      ori_eval_func: evaluate
pipeline: [nas]
nas:
  model: {model_desc: {type: ScriptModelGen, common: {network: {type: get_model}, multiple_inputs: {type: get_inputs}}}}
  search_algorithm:
    type: MsQuantRL
    policy: {max_episode: 8, num_warmup: 3}
    objective_keys: [accuracy, compress_ratio]
    compress_threshold: 74
  search_space:
    hyperparameters: [{key: network.bit_candidates, type: CATEGORY, range: [2, 4, 8]}, {key: network.act_bit_candidates, type: CATEGORY, range: [8]}]
  trainer: {seed: 1, custom_eval: {type: evaluate}}
'''

@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A yml and its script in a folder of their own."
    (tmp_path/'script.py').write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    def write(*changes):
        s = YML.replace('TASKS', str(tmp_path/'tasks'))
        for a,b in changes:
            assert a in s, a
            s = s.replace(a, b)
        (tmp_path/'quant.yml').write_text(s)
        return tmp_path/'quant.yml'
    yield write
    sys.modules.pop('script', None)

@pytest.fixture(autouse=True)
def no_page(request, monkeypatch):
    "papermill makes the report in a kernel of its own, which takes seconds; one test looks at it. In the others it fails, which changes no exit code."
    def fails(root): raise RuntimeError('no kernel today')
    if 'report' not in request.node.name: monkeypatch.setattr('quantnb.run.report.report', fails)

def run(yml, *args, capsys):
    code = main(['run', str(yml), '-d', 'CPU', *args]); io = capsys.readouterr()
    return code,io.out,io.err

BAD = dict(
    bad_yaml=([('pipeline: [nas]', 'pipeline: [nas')], ['line', 'YAML']),
    unknown_key=([('trainer: {seed: 1', 'trainer: {sed: 1')], ['line', 'trainer.sed', 'did you mean "seed"']),
    wrong_type=([('max_episode: 8', 'max_episode: many')], ['line', 'policy.max_episode', 'whole number']),
    several=([('trainer: {seed: 1', 'trainer: {sed: 1'), ('max_episode: 8', 'max_episode: many'), ('compress_threshold: 74','compress_treshold: 74')], ['3 problems', 'sed', 'many', 'compress_threshold']),
    function_not_found=([('ori_correct_func: calibrate', 'ori_correct_func: calibrat')], ['calibrat', 'did you mean "calibrate"']),
    no_cell=([('get_model', 'no_model')], ['returned int, not a Cell']),
    input_does_not_fit=([('get_inputs', 'wrong_inputs')], ['could not be exported', '(1, 3, 8, 8)']),
    unsorted=([('[2, 4, 8]', '[4, 2, 8]')], ['ascending']),
    no_candidates=([('[2, 4, 8]', '[]')], ['at least one width']),
    zero=([('[2, 4, 8]', '[0, 8]')], ['0 is no width']),
    thirty_three=([('[2, 4, 8]', '[8, 33]')], ['33 is no width']),
    half=([('[2, 4, 8]', '[7.5, 8]')], ['7.5 is no width']),
    out_of_reach=([('compress_threshold: 74', 'compress_threshold: 97')], ['out of reach', 'removes']),
    no_accuracy=([('[accuracy, compress_ratio]', '[compress_ratio]')], ['accuracy must be one of them']),
    warmup=([('num_warmup: 3', 'num_warmup: 8')], ['warm-up']),
    latency=([('[accuracy, compress_ratio]', '[accuracy, compress_ratio, latency]')], ['nothing can measure latency']),
    nothing_to_quantize=([('get_model', 'plain')], ['no layer that can be quantized']),
    excluded=([('search_space:\n', 'search_space:\n    exclude: ["."]\n')], ['no layer that can be quantized', 'excluded']),
    excludes_nothing=([('search_space:\n', 'search_space:\n    exclude: [mdi]\n')], ["no layer matches 'mdi'", 'did you mean "mid"']),
    no_metric=([('ori_eval_func: evaluate', 'ori_eval_func: as_dict'), ('custom_eval: {type: evaluate}', 'custom_eval: {type: as_dict, metric_name: CIDEr}')], ["it returned ['top1']"]),
)

@pytest.mark.parametrize('name', BAD)
def test_bad_input(name, folder, tmp_path, capsys):
    changes,words = BAD[name]
    code,out,err = run(folder(*changes), capsys=capsys)
    assert code==2, err
    for w in words: assert w in err
    assert not (tmp_path/'tasks'/'demo').exists(), 'something was written'

HEAVY = ('mindspore','numpy','onnx','onnxruntime','matplotlib','scipy','IPython')
@pytest.mark.parametrize('words', (['--help'], ['run','--help'], ['run','quant.yml'], ['check','quant.yml'], ['explain','quant.yml']))
def test_what_needs_no_network_imports_none(words, folder, tmp_path):
    "Help, and everything that is wrong with a yml: nothing that takes seconds is imported for it."
    folder(('trainer: {seed: 1', 'trainer: {sed: 1') if words!=['run','quant.yml'] else ('ori_eval_func: evaluate', 'ori_eval_func: evaluat')) # a function that is not there is seen in the text of the script
    code = f"import sys\nfrom quantnb.run.cli import main\ncode = main({words})\nprint('imported', [m for m in {HEAVY} if m in sys.modules])\nsys.exit(code)"
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert 'imported []' in r.stdout and r.returncode==(0 if '--help' in words else 2), r.stdout+r.stderr

def test_missing_file(tmp_path, capsys):
    code,_,err = run(tmp_path/'quant.yml', capsys=capsys)
    assert code==2 and 'no such file' in err

def test_no_npu(folder, capsys):
    code = main(['run', str(folder()), '-d', 'NPU']); err = capsys.readouterr().err
    assert code==2 and 'no Ascend device' in err and '-d CPU' in err

def test_explain(folder, tmp_path, capsys):
    assert main(['explain', str(folder(('search_space:\n', 'search_space:\n    exclude: ["^conv$"]\n'))), '-d', 'CPU'])==0
    out = capsys.readouterr().out; assert all(k in out for k in ('expected: about','8 episodes','sensitivities','confirmation','final table','writing the report','64 samples')), out
    assert 'bit_candidates' in out and 'excluded by the configuration' in out and 'stay float besides' in out and ' strategies' in out and not (tmp_path/'tasks').exists()

def test_unwritable(folder, tmp_path, capsys):
    (tmp_path/'file').write_text('')
    code,_,err = run(folder((str(tmp_path/'tasks'), str(tmp_path/'file'))), capsys=capsys)
    assert code==2 and 'cannot be written' in err

def test_resume_needs_a_task(folder, capsys):
    code,_,err = run(folder(), '-r', '-t', 'other', capsys=capsys)
    assert code==2 and 'to resume' in err

def test_run_twice_progress_and_report(folder, tmp_path, capsys):
    yml = folder()
    code,out,err = run(yml, capsys=capsys)
    assert code==0, err
    task = tmp_path/'tasks'/'demo'; best = json.loads((task/'output'/'best.json').read_text())
    for row in ('float','asked','delivered','uniform 8','uniform 4'): assert row in out
    assert str(task/'output'/'best'/'model.onnx') in out and (task/'output'/'report.html').exists() and (task/'output'/'report.ipynb').exists()
    assert best['feasible'] and best['episodes']==8 and best['stop_reason']=='max_episode'
    assert best['files']['onnx']['integer_macs']==1 and all(best['parity'][f]['agreement']>=.99 for f in ('onnx','mindir'))
    assert (task/'output'/'quant.yml').exists() and (task/'output'/'nas'/'output.csv').exists()
    told = expected(load(yml), Pace(1., 1., 64, 3, 1e5), ['confirm','test']); assert set(best['phases'])-set(told)<={'reading the network','reading the graph','compiling the simulation','calibration','float evaluation'} and min(told.values())>=0 # `explain` leaves out no phase of a run
    code,_,err = run(yml, capsys=capsys)
    assert code==2 and '-r -t demo' in err
    assert main(['progress', str(task)])==0 and json.loads(capsys.readouterr().out)['episodes']==8
    ill = json.loads((task/'output'/'views.json').read_text())['diagnosis']; assert {d['path'] for d in ill['layers']}|set(ill['left'])==set(best['strategy']) and ill['layers'] and 'quality of its output' in (task/'output'/'report.html').read_text()
    assert main(['report', str(task)])==0

def test_another_point_another_run_and_what_is_left_behind(folder, tmp_path, capsys):
    "The files of an episode that was not delivered, a strategy of one's own, two runs side by side, the list of runs; and the working folder holds nothing but the folder of tasks."
    yml = folder(); before = {f.name for f in tmp_path.iterdir()}
    assert run(yml, '-t', 'first', capsys=capsys)[0]==0 and run(yml, '-t', 'second', '--set', 'compress_threshold=80', '--set', 'max_episode=5', capsys=capsys)[0]==0
    tasks = tmp_path/'tasks'; first = tasks/'first'; best = json.loads((first/'output'/'best.json').read_text()); rows = [r for r in history(first) if 'strategy' in r]
    other = next(r for r in rows if r['strategy']!=best['strategy'])
    assert main(['export', str(first), '--episode', str(other['episode'])])==0, capsys.readouterr().err
    out = first/'output'/'export'/str(other['episode']); io = capsys.readouterr(); assert str(out/'model.onnx') in io.out and 'weights rounded in sequence: accuracy ' in io.out and 'on the search data, 64 samples' in io.out
    assert json.loads((out/'strategy.json').read_text())==other['strategy'] and (out/'model.mindir').stat().st_size and (out/'model.onnx').read_bytes()!=(first/'output'/'best'/'model.onnx').read_bytes()
    assert main(['export', str(first), '--strategy', str(first/'output'/'best'/'strategy.json'), '-o', str(tasks/'own'), '--as-searched'])==0 and 'weights as searched' in capsys.readouterr().out
    assert (tasks/'own'/'model.onnx').stat().st_size and json.loads((tasks/'own'/'strategy.json').read_text())==best['strategy']
    capsys.readouterr(); assert main(['export', str(first), '--episode', '99'])==2 and 'on the front are' in capsys.readouterr().err
    assert main(['list', str(tasks)])==0; io = capsys.readouterr().out.splitlines(); assert [l.split()[:2] for l in io[1:]]==[['first','finished'],['second','finished']] and 'delivered' in io[1]
    assert main(['compare', str(first), str(tasks/'second')])==0; io = capsys.readouterr(); assert 'removed % asked' in io.out and 'differ)' in io.out and 'data:image/png' in (tasks/'compare.html').read_text()
    assert main(['note', str(first), 'the first try'])==0 and main(['list', str(tasks)])==0 and 'the first try' in capsys.readouterr().out.splitlines()[2]
    assert main(['--version'])==0 and capsys.readouterr().out.startswith('quantnb ')
    assert {f.name for f in tmp_path.iterdir()}-before<={'tasks','__pycache__'}, sorted(f.name for f in tmp_path.iterdir())

def test_a_graph_that_does_not_compile_leaves_nothing_in_the_working_folder(tmp_path):
    code = "import quantnb, mindspore as ms, numpy as np\nfrom mindspore import nn, ops\nms.set_context(mode=ms.GRAPH_MODE)\nclass N(nn.Cell):\n    def construct(self, x): return ops.matmul(x, ops.ones((3,5), ms.float32))\ntry: N()(ms.Tensor(np.ones((2,4), np.float32)))\nexcept Exception as e: print('failed')\n"
    (tmp_path/'f.py').write_text(code); r = subprocess.run([sys.executable, 'f.py'], capture_output=True, text=True, cwd=tmp_path)
    assert 'failed' in r.stdout and {f.name for f in tmp_path.iterdir()}=={'f.py'}, r.stderr

def test_targets_missed(folder, tmp_path, capsys):
    code,out,err = run(folder(('compress_threshold: 74', 'compress_threshold: 74\n    acc_threshold: 101')), capsys=capsys)
    best = json.loads((tmp_path/'tasks'/'demo'/'output'/'best.json').read_text())
    assert code==3 and not best['feasible'] and best['missed']['accuracy']>0 and 'missed  accuracy' in out and 'no kernel today' in err

def test_failing_trials_do_not_end_the_search(folder, tmp_path, capsys):
    yml = folder(('evaluate', 'moody'))
    code,out,err = run(yml, '--set', 'trainer.engine=mindspore', capsys=capsys)
    rows = [json.loads(l) for l in (tmp_path/'tasks'/'demo'/'output'/'history.jsonl').read_text().split('\n')[1:] if '"strategy"' in l]
    why = [r['reason'] for r in rows if r['status']=='failed']
    assert len(rows)==8 and len(why)==3
    assert 'out of luck' in why[0] and 'nan' in why[1] and 'worker.timeout' in why[2]
    assert code==0

def strip(r): return {k:v for k,v in r.items() if k not in ('seconds',)}

def history(task): return [json.loads(l) for l in (task/'output'/'history.jsonl').read_text().strip().split('\n')]

def test_the_same_yml_gives_the_same_history_by_every_launch_line_and_so_does_a_resumed_search(folder, tmp_path, capsys):
    "No file of a task holds the token of a service that stands in the yml; the effective yml goes on with the task all the same."
    yml = folder(('  trainer: {seed: 1', '  evaluator: {device_evaluator: {hardware: CPU, token: our-secret}}\n  trainer: {seed: 1')); rows = []
    for i,words in enumerate((['run', str(yml)], ['vega', str(yml)], ['mxOps','clibration','-m','taichu','-c',str(yml)])):
        assert main([*words, '-d', 'CPU', '-t', f't{i}'])==0, capsys.readouterr().err
        rows.append([strip(r) for r in history(tmp_path/'tasks'/f't{i}')[1:]])
    assert rows[0]==rows[1]==rows[2]
    # a crash in the middle of a line of the fifth episode
    f = tmp_path/'tasks'/'t1'/'output'/'history.jsonl'; lines = f.read_text().split('\n')
    f.write_text('\n'.join(lines[:5])+'\n'+lines[5][:40])
    assert not [f for f in (tmp_path/'tasks').rglob('*') if f.is_file() and b'our-secret' in f.read_bytes()] and "token: '***'" in (effective := tmp_path/'tasks'/'t1'/'output'/'quant.yml').read_text()
    assert run(effective, '-r', '-t', 't1', capsys=capsys)[0]==0
    again = history(tmp_path/'tasks'/'t1')
    assert [r['resumed'] for r in again if 'resumed' in r]==[4]
    assert [strip(r) for r in again[1:] if 'resumed' not in r]==rows[0]
    code,_,err = run(yml, '-r', '-t', 't1', '--set', 'compress_threshold=70', capsys=capsys)
    assert code==2 and 'targets or objectives have changed' in err

def test_ctrl_c_ends_cleanly_and_can_be_resumed(folder, tmp_path, capsys):
    "With another number of episodes, too: a warm-up that follows it stays as it was."
    yml = folder(('evaluate', 'slow'), ('max_episode: 8, num_warmup: 3', 'max_episode: 300'))
    task = tmp_path/'tasks'/'demo'
    p = subprocess.Popen([sys.executable, '-m', 'quantnb.run.cli', 'run', str(yml), '-d', 'CPU'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    for _ in range(600):
        if (task/'output'/'history.jsonl').exists() and len((task/'output'/'history.jsonl').read_text().split('\n'))>5: break
        time.sleep(.1)
    p.send_signal(signal.SIGINT); out,_ = p.communicate(timeout=120)
    assert p.returncode==130, out
    best = json.loads((task/'output'/'best.json').read_text())
    assert best['stop_reason']=='interrupted' and (task/'output'/'best'/'model.onnx').exists() and '-r -t demo' in out
    n = best['episodes']
    code,_,err = run(yml, '-r', '-t', 'demo', '--set', f'max_episode={n+3}', capsys=capsys) # test_faults.py resumes in fresh processes
    assert code==0, err
    assert json.loads((task/'output'/'best.json').read_text())['episodes']==n+3

def test_every_phase_has_a_name_and_a_second_ctrl_c_says_what_it_does(folder, tmp_path):
    "A task that is starting can be looked at; the phases are on the terminal and in the folder; twice Ctrl-C ends at once and tells what there is."
    yml = folder(('evaluate', 'slow'), ('max_episode: 8', 'max_episode: 300')); task = tmp_path/'tasks'/'demo'
    p = subprocess.Popen([sys.executable, '-m', 'quantnb.run.cli', 'run', str(yml), '-d', 'CPU'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path); seen = set()
    for _ in range(1200):
        if (task/'.lock').exists() and (s := progress(task))['phase']: seen.add((s['state'], s['phase']))
        if ('running','episodes') in seen: break
        time.sleep(.05)
    assert ('starting','importing MindSpore') in seen and ('starting','calibration') in seen or len({k for s,k in seen if s=='starting'})>=3, seen
    time.sleep(1); p.send_signal(signal.SIGINT); time.sleep(.05); p.send_signal(signal.SIGINT); out,_ = p.communicate(timeout=120)
    assert p.returncode==130 and 'Ctrl-C once more ends at once' in out and '-r -t demo' in out, out
    assert 'ended at once' in out or json.loads((task/'output'/'best.json').read_text())['stop_reason']=='interrupted', out
    for k in ('importing MindSpore','calibration','sensitivities','episodes'): assert f'{k}: ' in out, k

def test_ctrl_c_inside_a_graph(tmp_path, monkeypatch):
    "The example's own evaluation, so that the signal comes while MindSpore runs a graph."
    monkeypatch.setenv('QUANTNB_EXAMPLE_SAMPLES', '500')
    task = tmp_path/'tasks'/'demo'
    words = [sys.executable, '-m', 'quantnb.run.cli', 'run', str(fashion/'quant.yml'), '-d', 'CPU', '-t', 'demo', '--set', f'local_base_path={tmp_path/"tasks"}']
    p = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    for _ in range(900):
        if (task/'output'/'best.json').exists() and len((task/'output'/'history.jsonl').read_text().split('\n'))>3: break
        time.sleep(.1)
    time.sleep(.3); p.send_signal(signal.SIGINT); out,_ = p.communicate(timeout=120)
    assert p.returncode==130 and f'-d CPU --set local_base_path={tmp_path/"tasks"} -r -t demo' in out, out # the whole line, to be copied
    assert json.loads((task/'output'/'best.json').read_text())['stop_reason']=='interrupted'
    assert json.loads((task/'output'/'history.jsonl').read_text().strip().split('\n')[-1])['stop_reason']=='interrupted'

def test_the_papermill_line_of_the_readme(tmp_path, monkeypatch):
    "The only run of the example's notebook, so that it is not run twice."
    monkeypatch.setenv('QUANTNB_EXAMPLE_SAMPLES', '500')
    r = subprocess.run([sys.executable, '-m', 'papermill', 'examples/fashion/search.ipynb', str(tmp_path/'out.ipynb'), '-p', 'max_episode', '3', '--no-progress-bar'], capture_output=True, text=True, timeout=300, cwd=fashion.parent.parent)
    assert r.returncode==0, r.stderr[-2000:]

NAMES = {'trainer.observer=mze':'mse', 'trainer.quant.rounding=nearst':'nearest', 'trainer.quant.transforms=[fould]':'fold', 'trainer.quant.layers={fc: {bias: meen}}':'mean', 'search_algorithm.type=MsQuantRl':'MsQuantRL', 'trainer.callbacks=[OptExport]':'OptExportCallback', 'device_evaluator.custom=Nonsense':'QuantCustomEvaluator', 'pin={nowhere: 8}':'fc'}
@pytest.mark.parametrize('words', NAMES)
def test_unknown_names(words, folder, tmp_path, capsys):
    yml = folder(('  trainer:', '  evaluator: {device_evaluator: {hardware: CPU}}\n  trainer:'))
    code,_,err = run(yml, '--set', words, capsys=capsys)
    assert code==2 and NAMES[words] in err and not (tmp_path/'tasks'/'demo').exists()

def test_papermill_refuses_an_unknown_parameter(tmp_path):
    r = subprocess.run([sys.executable, '-m', 'papermill', str(fashion/'search.ipynb'), str(tmp_path/'out.ipynb'), '-p', 'max_epsiode', '3', '--cwd', str(fashion), '--no-progress-bar'], capture_output=True, text=True, timeout=120)
    assert r.returncode!=0 and 'did you mean "max_episode"' in r.stderr

def test_search_on_the_deployed_graph(folder, tmp_path, capsys):
    assert run(folder(), '--set', 'engine=onnxruntime', capsys=capsys)[0]==0
    best = json.loads((tmp_path/'tasks'/'demo'/'output'/'best.json').read_text())
    assert best['metrics']['accuracy']==best['files']['onnx']['accuracy'], 'the file is what was scored'
    assert best['forward_samples']%64==0 and best['forward_samples']>0 and best['parity']['onnx']['agreement']>=.95
