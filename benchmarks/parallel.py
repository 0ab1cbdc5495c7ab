"""What parallel search gains and costs: `python benchmarks/parallel.py [sleep] [loop] [fashion] [slow] [alone]`; without words all. Results go to parallel.json.

sleep: 64 workers on trials that sleep. Scheduler and workers share a process (64 would not fit here), the search has its own; what each worker would observe of its own machine (profile, system monitor) is off.
  Measured are the loop, the scheduler and the network stack, on two cores.
loop: bookkeeping per episode over 1000 episodes with 100 layers, and the time that a resume takes from the snapshot.
fashion, slow: wall seconds per trial of one worker against two, one thread each, on the fashion example and on a ResNet-14 with so many images, in batches of 250, that an evaluation takes seconds.
  Trials are counted that were evaluated, between the first results and the last ones, when a worker has nothing more to do.
alone: the same evaluation without workers: seconds of one process, and of two at once, one core each.
"""
import json, os, subprocess, sys, tempfile, time
from pathlib import Path
here = Path(__file__).parent; sys.path.insert(0, str(here.parent/'tests'))
import numpy as np, psutil
import simulated

def keep(name, d):
    f = here/'parallel.json'; all_ = json.loads(f.read_text()) if f.exists() else {}
    all_[name] = d; f.write_text(json.dumps(all_, indent=1)+'\n'); print(name, d, flush=True)

def load(): return dict(cores=os.cpu_count(), load_before=round(os.getloadavg()[0], 2))

HOST = '''
import dask, distributed, sys, time
from quantnb.run import executor
executor.quiet()
with dask.config.set({**executor.SETTINGS, 'distributed.worker.profile.enabled':False, 'distributed.admin.system-monitor.interval':'30s'}):
    c = distributed.LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, processes=False, protocol='tcp://', dashboard_address=None, silence_logs=50)
    print(c.scheduler_address, flush=True); time.sleep(3600)
'''

def sleeping(workers=64, seconds=4., episodes=640):
    import cloudpickle
    from quantnb.run import executor
    cloudpickle.register_pickle_by_value(sys.modules['__main__'])
    class Sleeping(executor.DaskExecutor):
        def payload(self): return cloudpickle.dumps((self.prepared.sens, seconds))
        def open(self): pass
        @staticmethod
        def trial(key, strategy, rivals=()):
            import pickle, time
            from quantnb.run import executor
            from quantnb.types import Outcome, Strategy
            s = Strategy.from_json(strategy); sens,seconds = pickle.loads(executor._sent[key]); time.sleep(seconds); d = float(sum(v*4.**-b.w for v,b in zip(sens, s.values())))
            return Outcome(s, dict(accuracy=90-d, divergence=d, compress_ratio=85.), '', seconds, 1).to_json(),False
    executor.quiet(); host = subprocess.Popen([sys.executable, '-c', HOST, str(workers)], stdout=subprocess.PIPE, text=True); address = host.stdout.readline().strip()
    try:
        with tempfile.TemporaryDirectory() as d:
            class Times:
                at,cpu = [],[]
                def after_trial(self, s, r): self.at.append(time.time()); self.cpu.append(time.process_time())
            times,l = Times(),load(); t = time.time()
            simulated.search(d, n=20, agent='RandomSearch', episodes=episodes, executor=lambda p: Sleeping(p), callbacks=[times], **{'parallel_search':True, 'cluster.address':address, 'cluster.workers':workers})
            wall = times.at[-1]-t
    finally: host.kill(); host.wait()
    keep('sleep', dict(l, workers=workers, seconds_of_a_trial=seconds, episodes=episodes, wall=round(wall, 2), speedup=round(episodes*seconds/wall, 2), steady=round((episodes-workers)*seconds/(times.at[-1]-times.at[workers-1]), 2), cpu_ms_of_the_loop_per_episode=round(1e3*(times.cpu[-1]-times.cpu[0])/(episodes-1), 2)))

def bookkeeping(agent, episodes=1000, layers=100):
    with tempfile.TemporaryDirectory() as d:
        class Times:
            at,rss = [],[]
            def after_trial(self, s, r): self.at.append(time.process_time()); self.rss.append(psutil.Process().memory_info().rss/1e6)
        times,l = Times(),load(); simulated.search(d, 't', n=layers, agent=agent, episodes=episodes, callbacks=[times]); ms = 1e3*np.diff(times.at); out = Path(d)/'t'/'output'
        at = {f'{k}-{k+100}': round(float(np.median(ms[k:k+100])), 2) for k in (100, 400, 880)}
        sizes = {p: round((out/p).stat().st_size/1e6, 3) for p in ('history.jsonl','snapshot.npz')}
        resumed = {}
        for how in ('snapshot','replay'):
            lines = (out/'history.jsonl').read_text().splitlines(); (out/'history.jsonl').write_text('\n'.join(o for o in lines if 'stop_reason' not in o and 'resumed' not in o)+'\n')
            if how=='replay': (out/'snapshot.npz').unlink()
            t = time.time(); simulated.search(d, 't', resume=True, n=layers, agent=agent, episodes=episodes); resumed[how] = round(time.time()-t, 2)
        keep(f'loop {agent}', dict(l, episodes=episodes, layers=layers, cpu_ms_per_episode=at, MB=sizes, rss_MB_after={k: round(times.rss[k-1]) for k in (100, 500, episodes)}, resume_seconds=resumed))

IMAGES,BATCH = 40_000,250

def slow_task(**settings):
    "A ResNet-14 of `quantizer_nets.py` on images that are drawn where they are needed."
    import mindspore as ms
    from quantnb.task import Task
    folder,n,batch = str(here),IMAGES,BATCH
    def made():
        import sys; sys.path.insert(0, folder)
        import quantizer_nets; return quantizer_nets.load('resnet14')
    def images(k, kept={}):
        import numpy as np
        if k not in kept: kept[k] = np.random.default_rng(k).standard_normal((n if k else 256,1,28,28), np.float32)
        return kept[k]
    def evaluate(model):
        import mindspore as ms, numpy as np
        x = images(1); y = np.arange(n)%10
        return float(np.concatenate([model(ms.Tensor(x[k:k+batch])).asnumpy().argmax(1)==y[k:k+batch] for k in range(0, n, batch)]).mean()*100)
    return Task(net=made, inputs=ms.Tensor(images(0)[:2]), calib=[ms.Tensor(images(0))], evaluate=evaluate, bits=[2,3,4,8], act_bits=[8], **settings)

def network(name, episodes):
    "Seconds per evaluated trial in the steady part of a search, one worker and two."
    from quantnb.task import Task
    from quantnb.run.pipeline import SearchPipeStep
    res = load()
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as d:
            own = {'max_episode':episodes, 'num_warmup':4, 'local_base_path':d, 'racing':False, 'parallel_search':True, 'cluster.workers':workers}
            t = slow_task(**own) if name=='slow' else Task.from_yaml(here.parent/'examples'/'fashion'/'quant.yml', [f'{k}={v}' for k,v in {**own, 'objective_keys':'[accuracy, compress_ratio]'}.items()])
            class Times:
                at = []
                def after_trial(self, s, r): self.at.append((time.time(), r))
            times = Times(); times.at = []; s = SearchPipeStep(t, 't', callbacks=[times], progress=False); s.finish = lambda: None; s.keep_best = lambda: None
            begun = time.time(); s.prepare(); ready = time.time(); s.loop(); s.dir.close(); steady = times.at[2:-2]; ran = [r for _,r in steady[1:] if r.status=='ok']
            res[f'{workers} workers'] = dict(prepare_seconds=round(ready-begun, 1), trials=len(ran), seconds_per_trial=round((steady[-1][0]-steady[0][0])/len(ran), 3), evaluation_seconds=round(float(np.mean([r.seconds for r in ran])), 3))
    res['speedup'] = round(res['1 workers']['seconds_per_trial']/res['2 workers']['seconds_per_trial'], 2); keep(name, res)

ALONE = """
import os, sys, time; os.sched_setaffinity(0, {int(sys.argv[1])}); sys.path[:0] = sys.argv[2:]
import parallel
from quantnb.types import *
from quantnb.run.prepare import Prepared
p = Prepared(parallel.slow_task()).open_network(); d = p.engine.deployed; d.workers = 1; run = lambda: p.task.run('evaluate', p.engine.net(s))
s = Strategy.uniform(p.graph.quantizable, 4, 8); run(); print('ready', flush=True); sys.stdin.readline()
times = []
for _ in range(5): begun = time.time(); run(); times.append(time.time()-begun)
print(*times)
"""

def alone():
    "The evaluation in one plain process, and in two at once: what the machine itself gives."
    res = load()
    for n in (1, 2):
        ps = [subprocess.Popen([sys.executable, '-c', ALONE, str(i), str(here)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for i in range(n)]
        for p in ps:
            assert any(l.strip()=='ready' for l in iter(p.stdout.readline, '')), 'it ended'
        for p in ps: p.stdin.write('\n'); p.stdin.flush()
        res[f'{n} processes'] = round(float(np.median([float(v) for p in ps for v in p.stdout.read().split()])), 3)
    res['speedup'] = round(2*res['1 processes']/res['2 processes'], 2); keep('alone', res)

if __name__=='__main__':
    words = sys.argv[1:] or ['sleep','loop','fashion','slow','alone']
    if 'sleep' in words: sleeping()
    if 'loop' in words: [bookkeeping(a) for a in ('RandomSearch','MsQuantRL')]
    if 'fashion' in words: network('fashion', 24)
    if 'slow' in words: network('slow', 16)
    if 'alone' in words: alone()
