"""kill -9 at random moments of a search: what is on disk is whole, and a resumed search ends with the same history as one that nobody has killed.

By hand, and resumed where it was stopped (`--state` keeps what was done):
    python tests/kills.py 100
    python tests/kills.py 100 --parallel     # two local workers: the main process is killed once the search has begun, or workers are
`tests/test_faults.py` kills a few. A process that has imported everything forks one child for each search, so that a kill costs seconds of a search and not those of an import.
"""
import argparse, contextlib, json, os, random, resource, shutil, signal, sys, tempfile, time
from pathlib import Path
os.environ.setdefault('GLOG_v', '4'); os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path.insert(0, str(Path(__file__).parent))

TIMES = ('seconds','started','resumed','phases','environment','compile_seconds')

def project(folder, small=False):
    "The yml and the script of the command line's tests; a small ONNX file as the network, which needs no MindSpore, takes a third of the time."
    from test_cli import SCRIPT, YML
    folder.mkdir(parents=True, exist_ok=True); yml,script = YML.replace('TASKS', str(folder/'tasks')).replace('timeout: 5}', 'timeout: 100}'),SCRIPT # a limit that a busy machine exceeds would change the history
    if small:
        import mindspore, numpy as np, onnx # in this order
        from onnx import helper as oh, numpy_helper as onp
        r = np.random.default_rng(0); w = lambda *s: (r.standard_normal(s)/np.sqrt(np.prod(s[1:]))).astype(np.float32)
        init = {'stem.weight':w(8,1,3,3), 'mid.weight':w(8,8,3,3), 'fc.weight':w(6,8)}; io = lambda n, *d: oh.make_tensor_value_info(n, 1, d)
        nodes = [oh.make_node(o, i, [y], **kw) for o,i,y,kw in (('Conv',['x','stem.weight'],'a',dict(pads=[1]*4)), ('Relu',['a'],'b',{}), ('Conv',['b','mid.weight'],'c',dict(pads=[1]*4)), ('Relu',['c'],'d',{}), ('GlobalAveragePool',['d'],'e',{}), ('Flatten',['e'],'f',{}), ('Gemm',['f','fc.weight'],'y',dict(transB=1)))]
        m = oh.make_model(oh.make_graph(nodes, 'g', [io('x','n',1,12,12)], [io('y','n',6)], [onp.from_array(a, k) for k,a in init.items()]), opset_imports=[oh.make_opsetid('', 17)]); m.ir_version = 9
        onnx.save(m, str(folder/'net.onnx'))
        script = 'import numpy as np, onnxruntime as ort\nx = np.random.default_rng(3).standard_normal((64,1,12,12)).astype(np.float32)\ny = ort.InferenceSession("net.onnx").run(None, dict(x=x))[0].argmax(1)\ndef calibrate(net): net(x)\ndef evaluate(net): return float((net(x).argmax(1)==y).mean()*100)\n'
        yml = yml.replace('max_episode: 8, num_warmup: 3', 'max_episode: 8, num_warmup: 3, agent: random').replace('{type: get_model}, multiple_inputs: {type: get_inputs}', '{type: onnx, file: net.onnx}').replace('      script_network: get_model\n      script_network_input: get_inputs\n', '')
    (folder/'script.py').write_text(script); (folder/'quant.yml').write_text(yml); return folder/'quant.yml'

def warm():
    "Import all that a search imports; run nothing of it."
    import quantnb, mindspore, onnxruntime, papermill
    from quantnb.task import Task
    from quantnb.run import pipeline, cli, report

def child(words, log, folder='.'):
    "Number of a process that runs `quantnb WORDS` in a folder."
    if pid := os.fork(): return pid
    os.setsid(); os.chdir(folder); fd = os.open(log, os.O_WRONLY|os.O_CREAT|os.O_TRUNC); os.dup2(fd, 1); os.dup2(fd, 2)
    try:
        import quantnb.run.report, quantnb.run.cli
        def none(root): raise RuntimeError('no report here')
        quantnb.run.report.report = none # it takes a kernel of its own, and reads only
        code = quantnb.run.cli.main(words)
    except BaseException as e: print(f'{type(e).__name__}: {e}', file=sys.stderr); code = 99
    sys.stdout.flush(); sys.stderr.flush(); os._exit(code)

def ended(pid, seconds=None):
    "Exit code of a process; killed if it takes longer, then -9."
    end = time.monotonic()+(seconds if seconds is not None else 300)
    while True:
        p,status = os.waitpid(pid, os.WNOHANG)
        if p: return os.waitstatus_to_exitcode(status)
        if time.monotonic()>end:
            os.killpg(pid, signal.SIGKILL); _,status = os.waitpid(pid, 0); return os.waitstatus_to_exitcode(status)
        time.sleep(.005)

def episodes(task):
    "Episodes of a history less their times, and its end."
    rows = [json.loads(l) for l in (task/'output'/'history.jsonl').read_text().splitlines()]
    return [{k:v for k,v in r.items() if k not in TIMES} for r in rows[1:] if 'resumed' not in r],rows[0]['float']

def best_of(task): d = json.loads((task/'output'/'best.json').read_text()); return {k:d[k] for k in ('episode','strategy','metrics','feasible','stop_reason')}|{'onnx': d['files']['onnx']['sha256']} # the bytes of a MINDIR are not the same in every process

def whole(task):
    "What is wrong with a folder whose process was killed, as sentences."
    from quantnb.run.history import TaskDir
    from quantnb.types import sha256
    if not (task/'output'/'history.jsonl').exists(): return []
    t = TaskDir.at(task, starting=True); bad = [] # which finishes a change of the best
    if t.running: bad.append('somebody holds its lock')
    if t.begun and 'damaged' in t.read()[0]: bad.append(str(t.read()[0]['damaged']))
    if t.best_file.exists():
        for k,f in json.loads(t.best_file.read_text())['files'].items():
            p = t.output/f['path']
            if not p.exists() or sha256(p)!=f['sha256']: bad.append(f'best.json describes another file than {f["path"]}')
    return bad

def one_kill(folder, yml, name, rng, seconds, reference):
    "Kill a search at random moments, resume it to its end; sentences on what is not as it was without, and the moments."
    task,log,moments,bad = folder/'tasks'/name,folder/f'{name}.log',[],[]
    resume = []
    for _ in range(rng.choice((1,1,2,3))):
        at = rng.uniform(.01, seconds); moments.append(round(at, 3)); code = ended(child(['run', str(yml), '-d', 'CPU', '-t', name, *resume], log, folder), at)
        bad += whole(task)
        if code!=-signal.SIGKILL:
            if code not in (0,3): bad.append(f'exit code {code}: {log.read_text()[-400:]}')
            break
        if task.exists(): resume = ['-r']
    if code==-signal.SIGKILL and (code := ended(child(['run', str(yml), '-d', 'CPU', '-t', name, *resume], log, folder))): bad.append(f'exit code {code} of the last run: {log.read_text()[-400:]}')
    if not bad and (episodes(task),best_of(task))!=reference: bad.append('history or best are not those of a search that nobody has killed')
    if left := [str(p) for p in (folder/'tasks').rglob('.*') if p.is_file() and p.name!='.lock']+[str(p) for p in (task/'output').glob('.best')]: bad.append(f'left behind: {left}')
    if bad: bad.append(f'killed after {moments} s')
    else: shutil.rmtree(task)
    return bad,moments

WORKERS = ['--set','parallel_search=True','--set','cluster.workers=2']

def workers_of(pid):
    "Worker processes of a local cluster."
    import psutil
    try: return [p for p in psutil.Process(pid).children(recursive=True) if 'spawn_main' in ' '.join(p.cmdline()) or 'forkserver' in ' '.join(p.cmdline())]
    except psutil.Error: return []

def begun(pid, task, seconds=300):
    "Wait for the first line of the history; whether it came before the process ended."
    end = time.monotonic()+seconds; h = task/'output'/'history.jsonl'; lines = h.read_bytes().count(b'\n') if h.exists() else 0
    while time.monotonic()<end and os.waitid(os.P_PID, pid, os.WEXITED|os.WNOHANG|os.WNOWAIT) is None:
        if h.exists() and h.read_bytes().count(b'\n')>lines: return True
        time.sleep(.01)
    return False

def one_parallel(folder, yml, name, rng, seconds, reference):
    "The same with two local workers: the main process is killed once or twice while they work, or one worker is, once to three times."
    import psutil
    task,log,moments,bad,resume = folder/'tasks'/name,folder/f'{name}.log',[],[],[]; main = rng.random()<.5
    run = lambda: child(['run', str(yml), '-d', 'CPU', '-t', name, *WORKERS, *resume], log, folder); pid = run()
    for _ in range(rng.choice((1,1,2)) if main else rng.choice((1,2,3))):
        at = rng.uniform(0, .7*seconds) # the rest is what the last file takes
        if not begun(pid, task): break
        time.sleep(at)
        if os.waitid(os.P_PID, pid, os.WEXITED|os.WNOHANG|os.WNOWAIT) is not None: break # it was done before
        moments.append(round(at, 3)); ws = workers_of(pid)
        if main:
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0); bad += whole(task); resume = ['-r']
            if alive := psutil.wait_procs(ws, timeout=30)[1]: bad.append(f'{len(alive)} workers outlive their main process'); [p.kill() for p in alive]
            pid = run()
        elif ws:
            with contextlib.suppress(psutil.Error): rng.choice(ws).kill()
    if code := ended(pid): bad.append(f'exit code {code}: {log.read_text()[-400:]}')
    if not bad and (episodes(task),best_of(task))!=reference: bad.append('history or best are not those of a search that nobody has killed')
    if bad: bad.append(f'{"main process" if main else "workers"} killed {moments} s after the history had begun or gone on')
    else: shutil.rmtree(task)
    return bad,[['main' if main else 'worker', m] for m in moments]

def start(folder, small=False, script=None, more=()):
    "A search that nobody kills: its yml, its seconds (of episodes alone, if there are `more` words), its end."
    yml = project(folder, small); script and (folder/'script.py').write_text(script); pid = child(['run', str(yml), '-d', 'CPU', '-t', 'whole', *more], folder/'whole.log', folder); begin = time.monotonic()
    if more and begun(pid, folder/'tasks'/'whole'): begin = time.monotonic()
    code = ended(pid)
    assert code==0, (folder/'whole.log').read_text()
    return yml,time.monotonic()-begin,(episodes(folder/'tasks'/'whole'),best_of(folder/'tasks'/'whole'))

MISBEHAVE = dict( # what a trial does to the process of a search without workers
    hang='import onnx, onnxruntime as ort\nfrom onnx import helper as oh\nio = lambda n, t: oh.make_tensor_value_info(n, t, [])\n'
        'body = oh.make_graph([oh.make_node("Identity", ["c"], ["d"]), oh.make_node("Identity", ["a"], ["b"])], "b", [io("i", 7), io("c", 9), io("a", 7)], [io("d", 9), io("b", 7)])\n'
        'm = oh.make_model(oh.make_graph([oh.make_node("Loop", ["n","c","n"], ["y"], body=body)], "g", [io("n", 7), io("c", 9)], [io("y", 7)]), opset_imports=[oh.make_opsetid("", 17)]); m.ir_version = 9\n'
        'ort.InferenceSession(m.SerializeToString()).run(None, dict(n=np.array(2**62), c=np.array(True)))', # an operator that never ends
    segfault='import ctypes; ctypes.string_at(0)',
    leak='kept = globals().setdefault("kept", [])\nwhile True: kept.append(b"x"*100_000_000); time.sleep(.03)',
    leak_given_back='kept = []\nwhile True: kept.append(b"x"*100_000_000); time.sleep(.03)')

def misbehaved(folder, yml, what, bad, most=6):
    "Run a search in which a trial of accuracy `bad` misbehaves, and resume it until it ends: exit codes, what was printed, the task's folder."
    import quantnb.run.executor
    script = folder/'script.py'; old = script.read_text(); quantnb.run.executor.GRACE = 1.; codes,said,resume = [],[],[]
    own = ('\n'+MISBEHAVE[what]).replace('\n', '\n        '); script.write_text(old.replace('def evaluate(net): return ', 'import time\ndef evaluate(net):\n    acc = ')+f'    if acc=={bad!r}:{own}\n    return acc\n')
    try:
        for _ in range(most):
            log = folder/f'{what}{len(codes)}.log'; codes.append(ended(child(['run', str(yml), '-d', 'CPU', '-t', what, *(['--set', 'timeout=2'] if what=='hang' else ['--set', 'memory=1.7']), *resume], log, folder), 60)); said.append(log.read_text()); resume = ['-r']
            if codes[-1] in (0, 3): break
    finally: script.write_text(old)
    return codes,said,folder/'tasks'/what

def misbehaving(folder):
    "All of them, one after the other; as JSON, with the history of a search in which all is well."
    warm(); lines = ['import numpy as np, onnxruntime as ort','x = np.random.default_rng(3).standard_normal((64,1,12,12)).astype(np.float32)','z = ort.InferenceSession("net.onnx").run(None, dict(x=x))[0]','def calibrate(net): net(x)','def evaluate(net): return float(100-np.abs(net(x)-z).mean())']
    yml,_,((rows,_),_) = start(folder, small=True, script='\n'.join(lines)+'\n'); bad = min(r['metrics']['accuracy'] for r in rows[2:] if r.get('status')=='ok'); res = dict(well=rows, bad=bad)
    for what in MISBEHAVE: codes,said,task = misbehaved(folder, yml, what, bad); res[what] = dict(codes=codes, said=said, history=episodes(task)[0])
    print(json.dumps(res))

def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0]); a.add_argument('n', type=int); a.add_argument('--seed', type=int, default=1); a.add_argument('--small', action='store_true'); a.add_argument('--parallel', action='store_true'); a.add_argument('--state', type=Path, default=Path('kills.json')); a = a.parse_args()
    state = json.loads(a.state.read_text()) if a.state.exists() else {}; warm()
    folder = Path(tempfile.mkdtemp(prefix='kills')); yml,seconds,reference = start(folder, a.small, more=WORKERS if a.parallel else ()); print(f'a search takes {seconds:.1f} s', flush=True)
    for k in range(a.n):
        key = f'{a.seed}.{k}'
        if key in state: continue
        bad,moments = (one_parallel if a.parallel else one_kill)(folder, yml, f't{k}', random.Random(key), seconds, reference); state[key] = dict(moments=moments, bad=bad)
        tmp = a.state.with_suffix('.tmp'); tmp.write_text(json.dumps(state)); tmp.replace(a.state); print(key, moments, bad or 'as without', flush=True)
    rows = [v for k,v in state.items() if k.startswith(f'{a.seed}.')]; failed = [v for v in rows if v['bad']]
    print(f'{sum(len(v["moments"]) for v in rows)} kills of {len(rows)} searches, {len(failed)} of them not as without', *([folder] if failed else []))
    if not failed: shutil.rmtree(folder)
    return bool(failed)

if __name__=='__main__': sys.exit(misbehaving(Path(sys.argv[2])) if sys.argv[1:2]==['misbehave'] else main())
