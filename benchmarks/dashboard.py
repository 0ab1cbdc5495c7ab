"""What a dashboard of 2,000 episodes of 100 layers costs, measured in a real JupyterLab by a real Chromium.

    python benchmarks/dashboard.py [--repeat 5] [--updates 30] [--out benchmarks/dashboard.json]

* open: from the click on a button, whose kernel function makes the dashboard of a finished task, to the moment at which front, reward,
  heat map and table all have drawn their 2,000 episodes; by the page's own clock.
* update: one line is appended to the history file and the dashboard looks at it. Kernel: wall and processor time of `update`.
  Page: from the click to the moment at which all four views have drawn it.
* idle: `update` without anything new, which is what a dashboard costs the kernel twice a second."""
import argparse, json, os, statistics as st, sys, tempfile
from pathlib import Path
here = Path(__file__).parent
sys.path.insert(0, str(here.parent/'tools'))
from lab import chromium, expect, jupyterlab

BIG = """import json, random, time
import ipywidgets as W
from quantnb.types import *
from quantnb.run.history import *
from quantnb.panels.dashboard import *
rng = random.Random(0); paths = [f'blocks.{i}.conv' for i in range(100)]
def episode(i):
    s = Strategy({p: Bits(rng.choice((2,4,8)), 8) for p in paths}); w = sum(b.w for b in s.values())/800
    return Record(i, s, metrics=dict(accuracy=92-9*(1-w)**2+rng.gauss(0, .3), compress_ratio=100-25*w, latency=1+w), reward=rng.gauss(0, 1), forward_samples=2000, seconds=2.).to_json()
big = TaskDir('tasks', 'big').open(); big.append(dict(float=dict(accuracy=92.), objectives=dict(accuracy='MAX', compress_ratio='MAX'), targets=Targets(accuracy=91.).to_json(), max_episode=9999))
with big.history_file.open('a') as f: f.writelines(json.dumps(episode(i))+'\\n' for i in range(2000))
many,cost,room = None,dict(wall=[], cpu=[], idle=[]),W.VBox()
def press(name, f):
    b = W.Button(description=name); b.add_class('do-'+name); b.on_click(lambda _: f()); return b
def new(): global many; many = dashboard('tasks/big', every=0); room.children = (many,)
def gone(): room.children = (); many.close()
def one():
    big.append(episode(len(many.history))); t,c = time.perf_counter(),time.process_time(); many.update()
    cost['wall'].append(time.perf_counter()-t); cost['cpu'].append(time.process_time()-c)
def over():
    for _ in range(50): t = time.perf_counter(); many.update(); cost['idle'].append(time.perf_counter()-t)
    open('cost.json', 'w').write(json.dumps(cost))
W.VBox([W.HBox([press(k, f) for k,f in dict(open=new, close=gone, one=one, over=over).items()]), room])"""
CLICK = """([what, n]) => new Promise(done => { const t = performance.now(); document.querySelector('.do-' + what).click();
    const look = () => document.querySelectorAll(`.qnb-dash [data-drawn="${n}"]`).length === 4 ? requestAnimationFrame(() => done(performance.now() - t)) : requestAnimationFrame(look); look(); })"""

def measure(repeat, updates):
    with tempfile.TemporaryDirectory() as d, jupyterlab(d) as lab, chromium() as b:
        page = b.new_page(viewport=dict(width=1300, height=1600)); lab.write('big.ipynb', [BIG]); nb = lab.open(page, 'big.ipynb'); nb.locator('.do-open').wait_for(timeout=300_000)
        opened = []
        for i in range(repeat+1): # the first one is warm-up, and is reported by itself
            opened.append(page.evaluate(CLICK, ['open', 2000])/1e3)
            if i<repeat: nb.locator('.do-close').click(); expect(nb.locator('.qnb-dash')).to_have_count(0)
        drawn = [page.evaluate(CLICK, ['one', 2001+i])/1e3 for i in range(updates)]
        nb.locator('.do-over').click(); cost = lab.state('cost.json', lambda o: len(o['idle'])==50)
        return dict(chromium=b.version, first=opened[0], open=opened[1:], update_page=drawn, **{f'update_{k}':cost[k] for k in ('wall','cpu')}, idle=cost['idle'])

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--repeat', type=int, default=5, help='openings'); a.add_argument('--updates', type=int, default=30); a.add_argument('--out', type=Path, default=here/'dashboard.json')
    a = a.parse_args(); load = os.getloadavg()[0]; raw = measure(a.repeat, a.updates)
    import jupyterlab as jl
    row = lambda v: dict(median=st.median(v), worst=max(v), n=len(v))
    res = dict(episodes=2000, layers=100, cores=len(os.sched_getaffinity(0)), load=round(load, 1), jupyterlab=jl.__version__, chromium=raw.pop('chromium'), first_open=raw.pop('first'), **{k:row(v) for k,v in raw.items()})
    a.out.write_text(json.dumps(res, indent=1)+'\n')
    print(f"load {load:.1f} on {res['cores']} cores; opened in {res['open']['median']:.2f} s (worst {res['open']['worst']:.2f}, first {res['first_open']:.2f}); an update costs the kernel {1e3*res['update_wall']['median']:.1f} ms "
          f"(worst {1e3*res['update_wall']['worst']:.1f}; processor {1e3*res['update_cpu']['median']:.1f}) and is drawn after {1e3*res['update_page']['median']:.0f} ms (worst {1e3*res['update_page']['worst']:.0f}); without news {1e3*res['idle']['median']:.2f} ms")

if __name__=='__main__': main()
