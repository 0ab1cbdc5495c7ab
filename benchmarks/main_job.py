"""Speed and memory of the main job, as ratios measured side by side in one run.

    python benchmarks/main_job.py [--episodes 210] [--out benchmarks/main_job.json]

Simulated against float forward (graph mode, batch 100, interleaved); an episode of the search against one float
evaluation of the search set (a float evaluation of the user's own network after every fifth episode); the share of agent,
records and bookkeeping; resident memory after 20 and after 200 episodes. Absolute times depend on the machine and its
other work; the ratios are what the project promises."""
import argparse, json, statistics as st, sys, tempfile, time
from pathlib import Path
import numpy as np, psutil
import quantnb, mindspore as ms
from quantnb.all import *
from quantnb.run.history import environment
from quantnb.run import pipeline

here = Path(__file__).parent

def forward_ratio(task, n=40):
    "Median time of a simulated forward over that of a float forward, batch 100, interleaved."
    e = open_engine(task); x = ms.Tensor(e.quantizer.inputs[0][0][:100])
    paths = [l.path for l in e.graph.quantizable]; res = {}
    for name,s in {'W8A8':Strategy.uniform(paths, 8, 8), 'W4A4':Strategy.uniform(paths, 4, 4)}.items():
        q = e.net(s); a,b = [],[]
        for i in range(n+5):
            for net,ts in ((task.net,a),(q,b)):
                t = time.perf_counter(); net(x).asnumpy()
                if i>=5: ts.append(time.perf_counter()-t)
        res[name] = dict(ratio=st.median(b)/st.median(a), float_ms=1e3*st.median(a), simulated_ms=1e3*st.median(b))
    return res

class Clock:
    "Callback: memory after every episode, a float evaluation after every fifth."
    def __init__(self, task): self.task,self.rss,self.float = task,[],[]
    def after_trial(self, search, r):
        self.rss.append(psutil.Process().memory_info().rss)
        if r.episode%5==0 and r.status=='ok':
            t = time.perf_counter(); self.task.run('evaluate', self.task.net); self.float.append(time.perf_counter()-t)

def timed(obj, name, into):
    "Add up the time spent in a method."
    f = getattr(obj, name)
    def g(*a, **k):
        t = time.perf_counter()
        try: return f(*a, **k)
        finally: into.append(time.perf_counter()-t)
    setattr(obj, name, g)

def search(episodes):
    "A real search of the example; ratios of its episodes."
    with tempfile.TemporaryDirectory() as d:
        task = Task.from_yaml(here.parent/'examples/fashion/quant.yml', max_episode=episodes, local_base_path=d)
        c = Clock(task); s = SearchPipeStep(task, callbacks=[c], progress=sys.stderr.isatty()).prepare()
        task.run('evaluate', task.net) # compiled before it is timed
        agent,trial,book = [],[],[]
        for o,n,l in ((s.agent,'propose',agent),(s.agent,'learn',agent),(pipeline,'episode',trial),(s.dir,'append',book)): timed(o, n, l)
        s.run()
        ok = [r for r in s.history if r.status=='ok']; secs = [r.seconds for r in ok[2:]]; whole = sum(r.seconds for r in s.history)
        mb = lambda i: c.rss[i]/2**20
        return dict(episodes=len(s.history), tried=len(ok), failed=sum(r.status=='failed' for r in s.history), episode_s=st.median(secs), float_evaluation_s=st.median(c.float), episode_ratio=st.median(secs)/st.median(c.float),
            agent_share=sum(agent)/sum(trial), agent_ms=1e3*sum(agent)/len(s.history), bookkeeping_share=(whole-sum(trial))/whole, rss_20_mb=mb(19), rss_200_mb=mb(min(199, len(c.rss)-1)), rss_growth=mb(min(199, len(c.rss)-1))/mb(19)-1,
            rss=[round(o/2**20) for o in c.rss[::5]], agreement=s.result.get('parity'), table=s.table)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0]); p.add_argument('--episodes', type=int, default=210); p.add_argument('--out', type=Path, default=here/'main_job.json')
    a = p.parse_args()
    task = Task.from_yaml(here.parent/'examples/fashion/quant.yml')
    res = dict(command=f'python benchmarks/main_job.py --episodes {a.episodes}', environment=environment(), forward=forward_ratio(task), search=search(a.episodes))
    a.out.write_text(json.dumps(clean(res), indent=1)+'\n'); print(json.dumps({k:v for k,v in res.items() if k!='environment'}, indent=1, default=str))
