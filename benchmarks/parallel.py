"""What parallel search gains and costs: `python benchmarks/parallel.py [sleep] [loop] [fashion] [slow]`; without words all. Results go to parallel.json.

sleep: 64 workers on trials that sleep. Scheduler and workers share a process (64 would not fit here), the search has its own; what each worker would observe of its own machine (profile, system monitor) is off.
  Measured are the loop, the scheduler and the network stack, on two cores.
loop: bookkeeping per episode over 1000 episodes with 100 layers, and the time that a resume takes from the snapshot.
fashion, slow: wall seconds per episode of one worker against two, one thread each, on the fashion example and on the lesson network with so many images that an evaluation takes seconds.
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

def network(name, episodes, images=None):
    "Seconds per episode in the steady part of a search, one worker and two."
    from quantnb.task import Task, lesson_task
    from quantnb.run.pipeline import SearchPipeStep
    res = load()
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as d:
            own = {'max_episode':episodes, 'num_warmup':4, 'local_base_path':d, 'parallel_search':True, 'cluster.workers':workers}
            t = lesson_task(n=images, **own) if images else Task.from_yaml(here.parent/'examples'/'fashion'/'quant.yml', [f'{k}={v}' for k,v in {**own, 'objective_keys':'[accuracy, compress_ratio]'}.items()])
            class Times:
                at = []
                def after_trial(self, s, r): self.at.append(time.time())
            times = Times(); times.at = []; s = SearchPipeStep(t, 't', callbacks=[times], progress=False); s.finish = lambda: None; s.keep_best = lambda: None
            begun = time.time(); s.prepare(); times.at.append(time.time()); s.loop(); s.dir.close(); k = 3
            res[f'{workers} workers'] = dict(prepare_seconds=round(times.at[0]-begun, 1), seconds_per_episode=round((times.at[-1]-times.at[k])/(len(times.at)-1-k), 3), evaluation_seconds=round(float(np.mean([r.seconds for r in s.history])), 3))
    res['speedup'] = round(res['1 workers']['seconds_per_episode']/res['2 workers']['seconds_per_episode'], 2); keep(name, res)

if __name__=='__main__':
    words = sys.argv[1:] or ['sleep','loop','fashion','slow']
    if 'sleep' in words: sleeping()
    if 'loop' in words: [bookkeeping(a) for a in ('RandomSearch','MsQuantRL')]
    if 'fashion' in words: network('fashion', 24)
    if 'slow' in words: network('slow', 16, 40_000)
