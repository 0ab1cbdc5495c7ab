"A search whose trials are simulated: the real loop, algorithm, history, snapshots and executors, and no network. `python tests/simulated.py 100` kills it so often and compares what is resumed."
import json, os, random, shutil, signal, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from quantnb.types import *
from quantnb.graph.cost import CostModel
from quantnb.graph.features import features
from quantnb.run import pipeline
from quantnb.run.executor import DaskExecutor
from quantnb.search.base import Problem
from quantnb.search.codec import Projection, QuantRLCodec
from quantnb.task import Task

def layers(n): return [Layer(f'l{i}', 'conv2d', 'Conv2D', f'l{i}', (8+8*(i%3),16,3,3), (1,16,8,8), kernel=(3,3), macs=1000) for i in range(n)]

def make_task(folder, n=7, agent='RandomSearch', episodes=20, seed=3, racing=False, **more):
    return Task(net=lambda: None, evaluate=lambda net: 0., bits=[2,3,4,8], act_bits=[8], targets=Targets(compress_ratio=84), local_base_path=str(folder), max_episode=episodes, num_warmup=4, seed=seed, racing=racing, **({} if agent is None else {'search_algorithm.type':agent}), **more)

def known(task, n=7):
    "A `Prepared` of `n` layers whose losses are made up."
    ls = layers(n); c = task.config; codec,cm = QuantRLCodec(ls, c.w_bits, c.a_bits),CostModel(ls); sens = np.exp(np.random.default_rng(0).normal(0, 1.5, n))
    loss = {(l.path,b):float(s*4.**-b) for l,s in zip(ls, sens) for b in c.w_bits}
    p = Problem(codec, c.targets, cm, Projection(codec, cm, 84, loss), loss, features(ls))
    return SimpleNamespace(task=task, config=c, graph=SimpleNamespace(layers=ls, quantizable=ls), cost=cm, problem=p, space=codec, float=dict(accuracy=90.), noise=0., parity=[], float_seconds=.01, float_samples=1, sensitivity=[], losses=loss,
        engine=SimpleNamespace(name='simulated', why='', start=None, meter=SimpleNamespace(interrupt=lambda *_: None, pending=None)), exporter=SimpleNamespace(builder=None), trainer=None, features=None, latency_model=None, latency_data=[], measures=False, sequence=None, need=0, sens=sens)

def outcome(strategy, prepared, rivals=(), seconds=0., n=0):
    "What a strategy comes to, after a while that differs from one to the next."
    time.sleep(seconds*(.5+(hash(str(strategy.to_json())+str(n))%1000)/1000))
    lost = lambda o: float(sum(s*4.**-b.w for s,b in zip(prepared.sens, o.values()))); d = lost(strategy); m = dict(prepared.cost.metrics(strategy), divergence=d, compress_ratio=85.) if prepared.config.search.racing else dict(divergence=d, compress_ratio=85.)
    if rivals and d>1.2*max(lost(r.strategy) for r in rivals): return Outcome(strategy, m, '', seconds, 1, dict(dropped='behind'))
    return Outcome(strategy, dict(m, accuracy=90-d), '', seconds, 1)

class Local:
    "In this process, one at a time or as many as `in_flight`."
    isolated = True
    def __init__(self, prepared, in_flight=1, seconds=0.): self.prepared,self.in_flight,self.workers,self.seconds,self.pool = prepared,in_flight,in_flight,seconds,ThreadPoolExecutor(in_flight)
    dashboard = ''
    def submit(self, s, rivals=()): return self.pool.submit(outcome, s, self.prepared, rivals, self.seconds, time.time_ns())
    def result(self, f, look=None): r = f.result(); look and look(); return r
    def close(self): self.pool.shutdown(wait=False, cancel_futures=True)

class Search(pipeline.SearchPipeStep):
    "The real loop; the network's files are left out."
    def keep_best(self): pass
    def finish(self): self.dir.append(dict(stop_reason=self.history.stop_reason, chosen=None))
    def ahead(self): return {}

def search(folder, task_id='t', resume=False, n=7, executor=Local, callbacks=(), **kw):
    "Run it."
    own = {k:kw.pop(k) for k in ('in_flight','seconds') if k in kw}; task = make_task(folder, n, **kw)
    old = pipeline.prepare,pipeline.executor_of
    pipeline.prepare,pipeline.executor_of = lambda task, phase, head: known(task, n),lambda prepared, in_flight=None: executor(prepared, **own)
    try: s = Search(task, task_id, resume, progress=False, callbacks=callbacks); s.run(); return s
    finally: pipeline.prepare,pipeline.executor_of = old

def rows(folder, task_id='t'):
    "A history without its times and its marks."
    res = []
    for l in (Path(folder)/task_id/'output'/'history.jsonl').read_text().splitlines():
        d = json.loads(l)
        for k in ('seconds','started','environment','phases','float_seconds'): d.pop(k, None)
        if 'resumed' not in d and 'stop_reason' not in d: res.append(d)
    return res

def killed_and_resumed(times, seed=0, say=print, **kw):
    "Kill a search at random moments until it ends, and compare; how often, and how often a snapshot was used."
    rng = random.Random(seed); done = 0
    with tempfile.TemporaryDirectory() as d:
        search(d, 'whole', **kw); want = rows(d, 'whole'); length = None
        while done<times:
            shutil.rmtree(Path(d)/'t', ignore_errors=True); resume = False
            while True:
                t = time.time(); child = os.fork()
                if not child:
                    try: search(d, resume=resume, **kw)
                    except BaseException as e: say(f'failed: {type(e).__name__}: {e}', file=sys.stderr, flush=True); os._exit(1)
                    os._exit(0)
                if done<times: threading.Event().wait(rng.uniform(.02, .9*(length or 1.)))
                alive = os.waitpid(child, os.WNOHANG)[0]==0
                if alive and done<times: os.kill(child, signal.SIGKILL); os.waitpid(child, 0); done += 1
                else:
                    if alive: assert os.waitpid(child, 0)[1]==0
                    length = length or time.time()-t; break
                resume = (Path(d)/'t'/'output'/'history.jsonl').exists() # else nothing has begun
            got = rows(d); assert got==want, [(a,b) for a,b in zip(got, want) if a!=b][:1] or (len(got), len(want))
    return done

if __name__=='__main__':
    n = int(sys.argv[1]) if len(sys.argv)>1 else 100
    for flight in (1,3):
        for agent in ('RandomSearch','MsQuantRL'): print(agent, f'{flight} in flight:', killed_and_resumed(n//4, agent=agent, in_flight=flight, seconds=.03, episodes=24, racing=True), 'kills, every history as the uninterrupted one', flush=True)
