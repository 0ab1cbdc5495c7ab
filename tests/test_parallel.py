"Trials on workers: the same history whatever the order of arrival, whoever dies, and wherever a search was interrupted."
import contextlib, json, os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
import cloudpickle, numpy as np, pytest
from quantnb.types import *
from quantnb.run import executor, pipeline
from quantnb.run.executor import DaskExecutor, local_cluster
from quantnb.run.snapshot import Keeper
from quantnb.task import lesson_task
sys.path.insert(0, str(Path(__file__).parent))
import simulated

@pytest.fixture(scope='session')
def cluster():
    c = local_cluster(2); yield c.scheduler_address
    with contextlib.suppress(TimeoutError): c.close(timeout=20)

@pytest.fixture(scope='session')
def sound():
    "A cluster whose workers no test kills."
    c = local_cluster(2); yield c.scheduler_address
    with contextlib.suppress(TimeoutError): c.close(timeout=20)

# -- simulated trials

@pytest.mark.parametrize('agent', ['MsQuantRL','Evolution','BinaryRollback'])
def test_the_order_of_arrival_does_not_matter(tmp_path, agent):
    a,b = (simulated.search(tmp_path, t, in_flight=4, seconds=.01, agent=agent, episodes=14, racing=True) for t in 'ab')
    rs = simulated.rows(tmp_path, 'a'); assert rs==simulated.rows(tmp_path, 'b')
    assert all(r['known']==max(0, r['episode']-3) for r in rs[1:]) and [r['episode'] for r in rs[1:]]==[*range(len(rs)-1)]

@pytest.mark.parametrize('in_flight', [1,3])
def test_killed_at_any_moment_and_resumed(in_flight):
    assert simulated.killed_and_resumed(5, in_flight, agent='MsQuantRL', in_flight=in_flight, seconds=.02, episodes=18, racing=True)==5

@pytest.mark.parametrize('agent', ['MsQuantRL','BinaryRollback','Evolution','HAQ'])
def test_a_snapshot_is_a_replay(tmp_path, agent, monkeypatch):
    "Stopped after nine episodes; resumed from the snapshot, from an older one, without one, and from a damaged one."
    class Stop:
        def after_trial(self, s, r): s.stop = len(s.history)==9
    n = dict(episodes=13, agent=agent, in_flight=2, n=5); simulated.search(tmp_path, 'whole', **n); want = simulated.rows(tmp_path, 'whole')
    monkeypatch.setattr(Keeper, 'share', 1e9) # after every episode
    simulated.search(tmp_path, 't', callbacks=[Stop()], **n); files = {p:p.read_bytes() for p in (tmp_path/'t'/'output').iterdir() if p.is_file()}
    snapshot = tmp_path/'t'/'output'/'snapshot.npz'; loaded = []; load = Keeper.load
    monkeypatch.setattr(Keeper, 'load', lambda self, *a: (load(self, *a), loaded.append(self.count))[0])
    for case in ('as it is','none','damaged'):
        for p,b in files.items(): p.write_bytes(b)
        if case=='none': snapshot.unlink()
        if case=='damaged': snapshot.write_bytes(files[snapshot][:200])
        simulated.search(tmp_path, 't', resume=True, **n); assert simulated.rows(tmp_path, 't')==want, case
    count = min(9, len(want)-1); assert loaded==[count,0,0]

class Simulated(DaskExecutor):
    "Simulated trials on real workers."
    fatal,how = -1.,'exit' # divergence below which a trial ends its process
    def payload(self): return cloudpickle.dumps((self.prepared.sens, self.fatal, self.how))
    def open(self): pass
    @staticmethod
    def trial(key, strategy, rivals=()):
        import os, pickle, time
        from quantnb.run import executor
        from quantnb.types import Outcome, Strategy
        s = Strategy.from_json(strategy); sens,fatal,how = pickle.loads(executor._sent[key]); d = float(sum(v*4.**-b.w for v,b in zip(sens, s.values())))
        time.sleep(.05)
        if d<fatal:
            if how=='exit': os._exit(3)
            if how=='segfault': import signal; os.kill(os.getpid(), signal.SIGSEGV)
            kept = [] # leaks
            while len(kept)<40: kept.append(b'x'*100_000_000); time.sleep(.05)
        return Outcome(s, dict(accuracy=90-d, divergence=d, compress_ratio=85.), '', .05, 1).to_json(),False

@pytest.fixture
def on_workers(cluster, monkeypatch):
    def run(folder, task_id, fatal=-1., how='exit', callbacks=(), **kw):
        cloudpickle.register_pickle_by_value(sys.modules[__name__]); monkeypatch.setattr(Simulated, 'fatal', fatal); monkeypatch.setattr(Simulated, 'how', how)
        return simulated.search(folder, task_id, executor=lambda p: Simulated(p, 3), callbacks=callbacks, **{'parallel_search':True, 'cluster.address':cluster, **kw})
    return run

def test_a_worker_that_dies_is_replaced_and_its_trial_repeated(tmp_path, on_workers):
    class Killer:
        def after_trial(self, s, r):
            if len(s.history) in (3,6): s.executor.client.run(lambda dask_worker: os.kill(os.getpid(), signal.SIGKILL), workers=[sorted(s.executor.client.nthreads())[0]], wait=False)
    simulated.search(tmp_path, 'local', in_flight=3, episodes=10); s = on_workers(tmp_path, 'dask', callbacks=[Killer()], episodes=10)
    assert simulated.rows(tmp_path, 'dask')==simulated.rows(tmp_path, 'local') and s.history.stop_reason=='max_episode'

def test_a_worker_that_needs_long_to_come_back_is_waited_for():
    import dask, distributed
    with dask.config.set({'distributed.deploy.lost-worker-timeout':'0.5 s'}), local_cluster(1) as c, distributed.Client(c, set_as_default=False) as client: # Dask's own is 15 s
        nanny, = c.workers.values(); old = nanny.pid; os.kill(old, signal.SIGKILL); end = time.monotonic()+60
        while nanny.pid in (None,old) and time.monotonic()<end: time.sleep(.01)
        os.kill(new := nanny.pid, signal.SIGSTOP); time.sleep(1.5); os.kill(new, signal.SIGCONT)
        client.wait_for_workers(1, timeout=120); assert [*client.run(os.getpid).values()]==[new]

def test_a_cluster_without_workers_says_so(on_workers, tmp_path, caplog):
    with local_cluster(1) as c:
        class Emptied:
            def after_trial(self, s, r):
                if len(s.history)!=1: return
                e = s.executor; c.scale(0)
                while e.client.nthreads(): time.sleep(.05)
                for _ in range(3): e.look_again = 0; e.count_workers()
                c.scale(1); e.client.wait_for_workers(1, timeout=120)
        with caplog.at_level('WARNING'): s = on_workers(tmp_path, 't', episodes=3, callbacks=[Emptied()], **{'cluster.address':c.scheduler_address})
    assert caplog.text.count('no worker of the cluster at')==1 and len(s.history)==3 and not any(r.status=='failed' for r in s.history)

class Least:
    "The nannies allow a worker 1.5 GB, as a machine without room would."
    def __init__(self, address): self.address = address
    def __enter__(self):
        import distributed
        self.client = distributed.Client(self.address, set_as_default=False)
        def limit(dask_worker): m = dask_worker.memory_manager; old,m.memory_limit = m.memory_limit,1_500_000_000; return old
        self.old = self.client.run(limit, nanny=True)
    def __exit__(self, *_):
        def back(n, dask_worker): dask_worker.memory_manager.memory_limit = n
        self.client.run(back, max(self.old.values()), nanny=True); self.client.close()

@pytest.mark.parametrize('how', ['exit','segfault','leak'])
def test_a_trial_that_ends_its_worker_again_and_again_has_failed(how, tmp_path, on_workers, cluster):
    ds = sorted(r['metrics']['divergence'] for r in simulated.rows(tmp_path, simulated.search(tmp_path, 'local', in_flight=3, episodes=6).dir.task_id)[1:])
    with Least(cluster) if how=='leak' else contextlib.nullcontext(): s = on_workers(tmp_path, 'dask', fatal=(ds[0]+ds[1])/2, how=how, episodes=6)
    bad = [r for r in s.history if r.status=='failed']; assert len(bad)==1 and 'ended the process of its worker 2 times' in bad[0].reason and len(s.history)==6 and s.history.stop_reason=='max_episode'

def test_the_scheduler_is_killed_and_started_again(tmp_path):
    import socket, subprocess
    with socket.socket() as o: o.bind(('127.0.0.1', 0)); port = o.getsockname()[1]
    code = f"import distributed, time; from quantnb.run import executor\nif __name__=='__main__': c = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, protocol='tcp://', scheduler_port={port}, dashboard_address=None, silence_logs=50); print(c.scheduler_address, flush=True); time.sleep(300)"
    def start(): p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))); return p,p.stdout.readline().strip()
    p,address = start(); ps = [p]
    class Killer:
        def after_trial(self, s, r):
            if len(s.history)==4: ps[0].kill(); ps[0].wait(); ps[0] = start()[0]
    cloudpickle.register_pickle_by_value(sys.modules[__name__]); n = dict(episodes=10, agent='MsQuantRL')
    try:
        simulated.search(tmp_path, 'local', in_flight=3, **n); s = simulated.search(tmp_path, 'dask', executor=lambda q: Simulated(q, 3), callbacks=[Killer()], **n, **{'parallel_search':True, 'cluster.address':address, 'cluster.workers':2})
    finally: ps[0].kill(); ps[0].wait()
    assert simulated.rows(tmp_path, 'dask')==simulated.rows(tmp_path, 'local') and s.history.stop_reason=='max_episode'

def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    real = time.time; simulated.search(tmp_path, 'steady', in_flight=3, episodes=8); jumps = iter([3.6e3, -8.64e4, 3.2e7, -3.2e7]*10000)
    monkeypatch.setattr(time, 'time', lambda: real()+next(jumps)); s = simulated.search(tmp_path, 'jumps', in_flight=3, episodes=8)
    assert simulated.rows(tmp_path, 'jumps')==simulated.rows(tmp_path, 'steady') and all(0<=r.seconds<60 for r in s.history)

def spins(strategy):
    while True: pass
def operator(strategy): time.sleep(6) # one call that Python cannot interrupt
def leaves(strategy): sys.exit(3)
@pytest.mark.parametrize('what,words,stuck', [(spins, 'took longer than worker.timeout', False), (operator, 'could not be interrupted', True), (leaves, r'sys.exit(3)', False)])
def test_what_a_trial_does_to_its_worker(what, words, stuck, monkeypatch):
    "In the thread of a worker; one that is stuck has its worker replaced."
    class Trainer:
        def __call__(self, s, rivals=()): return what(s) or {}
        def behind(self, s, rivals): return ''
    p = SimpleNamespace(config=SimpleNamespace(timeout=.3, seed=0), cost=SimpleNamespace(metrics=lambda s: {}), engine=SimpleNamespace(meter=SimpleNamespace(deadline=None, pending=None, interrupt=lambda e, f: None), samples=0), trainer=Trainer(), measures=False, sequence=None)
    monkeypatch.setattr(executor, '_open', {'k':p}); monkeypatch.setattr(executor, '_hand', None); monkeypatch.setattr(executor, 'GRACE', 2.)
    d,was = executor.attempt('k', Strategy({'a':(4,8)}).to_json()); assert words in d['failed'] and was is stuck

def test_the_main_process_sleeps_while_its_workers_work(sound, tmp_path):
    cloudpickle.register_pickle_by_value(sys.modules[__name__]); p = SimpleNamespace(config=simulated.make_task(tmp_path, **{'parallel_search':True, 'cluster.address':sound, 'cluster.workers':2}).config)
    class Slow(Simulated):
        def payload(self): return b'slow'
        @staticmethod
        def trial(key, strategy, rivals=()):
            import time; from quantnb.types import Outcome; time.sleep(2); return Outcome(Strategy.from_json(strategy), dict(accuracy=1.), '', 2.).to_json(),False
    ex = Slow(p); looks = []
    try:
        h = ex.submit(Strategy({'a':(4,8)})); ex.wait(h, lambda: looks.append(1)); assert h.outcome.metrics==dict(accuracy=1.)
    finally: ex.close()
    assert 5<len(looks)<60, len(looks) # it looks ten times a second, and whenever there is news

def test_nobody_answers(tmp_path):
    t = simulated.make_task(tmp_path, **{'parallel_search':True, 'cluster.address':'tcp://127.0.0.1:1'})
    with pytest.raises(InputError, match='no scheduler answers'): executor.connected(t.config.general.cluster.address, 1)
    with pytest.raises(ConfigError, match='address of a scheduler'): simulated.make_task(tmp_path, **{'cluster.address':'elsewhere'})

# -- a network

def test_a_network_on_workers(sound, tmp_path):
    "History and files as with the same number in flight in this process; then one evaluation gives NaN, and one never ends."
    ill = tmp_path/'ill.json'; task = lesson_task(n=64, local_base_path=str(tmp_path), seed=3, max_episode=6, num_warmup=3, timeout=3, **{'parallel_search':True, 'cluster.address':sound, 'cluster.workers':2})
    right = task.fns['evaluate']
    def evaluate(model):
        acc = right(model)
        nan,hang = json.loads(ill.read_text()) if ill.exists() else (None,None)
        while acc==hang: pass
        return float('nan') if acc==nan else acc
    task.fns['evaluate'] = evaluate
    s = pipeline.SearchPipeStep(task, 'dask', progress=False); h = s.run(); assert h.stop_reason=='max_episode' and s.result['files']['onnx']
    p = s.prepared
    class Window(executor.SerialExecutor): in_flight = 3
    agent,flight,known = pipeline.make_search(p),[],0
    for r in h: # what would have been proposed, and what it comes to here
        while len(flight)<3 and known+len(flight)<6: flight.append(agent.propose(h, [f.strategy for f in flight]))
        assert flight.pop(0).strategy==r.strategy; agent.learn(r); known += 1
        assert {k:v for k,v in pipeline.episode(p, r.strategy).metrics.items()}==r.metrics and r.known==max(0, r.episode-2)
    first = [r.metrics['accuracy'] for r in h[:3]]; nan = first[0]; hang = next(a for a in first if a!=nan); ill.write_text(json.dumps([nan, hang])) # of what is proposed before any result is known
    h2 = pipeline.SearchPipeStep(task, 'ill', progress=False).run(); bad = {r.episode:r.reason for r in h2 if r.status=='failed'}
    assert len(h2)==6 and 'nan' in bad[0] and 'took longer than worker.timeout' in bad[first.index(hang)] and all('nan' in o or 'took longer than worker.timeout' in o for o in bad.values()), bad
    assert h2.best().status=='ok' and all(np.isfinite(r.metrics['accuracy']) for r in h2.ok) and 'NaN' not in (tmp_path/'ill'/'output'/'history.jsonl').read_text()

def test_weights_are_rounded_once_and_sent(tmp_path, monkeypatch):
    import pickle
    from quantnb.quant.gptq import Gptq
    from quantnb.quant.moments import Moments
    task = lesson_task(n=64, local_base_path=str(tmp_path), bits=[2,4,8], act_bits=[8], **{'search_space.pin':{'head':6}}); s = pipeline.SearchPipeStep(task, 'sent', progress=False); s.prepare(); p = s.prepared
    c = executor.calibrated(p); paths = [l.path for l in p.graph.quantizable]; assert {k for k in c.weights if k[0]!='head'}=={(l,b) for l in paths if l!='head' for b in (2,4,8)}
    assert [l for l,o in c.observers.items() if Moments in o.more]==['head'], 'a pinned width is rounded by the worker'
    assert all(Moments in o.more for o in p.engine.quantizer.observers.values()) and len(pickle.dumps(c.observers))<len(pickle.dumps(p.engine.quantizer.observers))
    own = executor.reopened(pickle.loads(pickle.dumps(c))); right = Gptq.__call__
    def only_head(self, w, *a, **k): assert w.shape==p.engine.quantizer.params['head.weight'].shape; return right(self, w, *a, **k)
    monkeypatch.setattr(Gptq, '__call__', only_head)
    for b in (2,4,8):
        st = Strategy({l:Bits(6 if l=='head' else b, 8) for l in paths}); assert pipeline.episode(own, st).metrics==pipeline.episode(p, st).metrics

def test_a_network_that_cannot_be_sent(tmp_path):
    task = lesson_task(local_base_path=str(tmp_path)); task._net = task.net
    with pytest.raises(InputError, match='cannot be sent'): executor.packed_task(task)

@pytest.mark.parametrize('status', ['running','closed'])
def test_an_answer_that_is_asked_for_while_the_connection_is_closed_is_no_error_of_the_trial(status):
    from quantnb.run.executor import Trial
    def result(timeout): raise RuntimeError('IOLoop is closed')
    t = Trial(Strategy()); t.future = SimpleNamespace(client=SimpleNamespace(status=status), result=result); DaskExecutor.collect(SimpleNamespace(), t)
    assert (t.error is None, t.future is None)==(status=='closed',)*2
