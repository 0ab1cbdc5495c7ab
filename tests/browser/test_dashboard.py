"A search is watched, paused, stopped and harvested in a real JupyterLab; another process is followed by its file."
import json, re, subprocess, sys, time
import pytest
from playwright.sync_api import expect

LIVE = """from quantnb.task import *
from quantnb.panels.dashboard import *
task = lesson_task(local_base_path='tasks', max_episode=3000, num_warmup=12)
live = task.dashboard('live')
live"""
CELL = """import json, os, time
import ipywidgets as W
go = W.Button(description='use the network'); go.add_class('use-net')
go"""
MEANWHILE = """accuracy = [task.run('evaluate', task.net) for _ in range(5)]
open('meanwhile.json', 'w').write(json.dumps(dict(accuracy=accuracy)))"""
FAR = """far = dashboard('tasks/far'); far"""
BIG = """from quantnb.run.history import *
from quantnb.types import *
import random
rng = random.Random(0); paths = [f'blocks.{i}.conv' for i in range(100)]
def episode(i):
    s = Strategy({p: Bits(rng.choice((2,4,8)), 8) for p in paths}); w = sum(b.w for b in s.values())/800
    return Record(i, s, metrics=dict(accuracy=92-9*(1-w)**2+rng.gauss(0, .3), compress_ratio=100-25*w, latency=1+w), reward=rng.gauss(0, 1), forward_samples=2000, seconds=2.).to_json()
big = TaskDir('tasks', 'big').open(); big.append(dict(float=dict(accuracy=92.), objectives=dict(accuracy='MAX', compress_ratio='MAX'), targets=Targets(accuracy=91.).to_json(), max_episode=2100))
with big.history_file.open('a') as f: f.writelines(json.dumps(episode(i))+'\\n' for i in range(2000))
box = W.VBox(); go = W.Button(description='open'); go.add_class('open-big'); more = W.Button(description='more'); more.add_class('more-big')
def show(_): global many; many = dashboard('tasks/big', every=0); box.children = (go, more, many)
go.on_click(show)
def add(_):
    for i in range(2000, 2030): big.append(episode(i)); many.update()
more.on_click(add); box.children = (go, more)
box"""
SEARCH = "from quantnb.task import *; from quantnb.run.pipeline import *; h = tune(lesson_task(local_base_path='tasks', max_episode=3000, num_warmup=6), task_id='far', progress=False); print(h.stop_reason, len(h))"

@pytest.fixture(scope='module')
def far(lab):
    "A search in a process of its own."
    p = subprocess.Popen([sys.executable, '-c', SEARCH], cwd=lab.work, env=lab.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield p
    if p.poll() is None: p.kill()

@pytest.fixture(scope='module')
def nb(lab, wide, far):
    f = lab.work/'tasks'/'far'/'output'/'history.jsonl'; end = time.time()+120
    while not f.exists() and time.time()<end: time.sleep(.1)
    lab.write('dashboard.ipynb', [LIVE, CELL, MEANWHILE, FAR, BIG])
    nb = lab.open(wide, 'dashboard.ipynb'); nb.locator('.open-big').wait_for(timeout=120_000)
    return nb

def rows(lab, name): return [json.loads(l) for l in (lab.work/'tasks'/name/'output'/'history.jsonl').read_text().splitlines()]
def line(d): return d.locator('.qnb-dash-line')
def episodes(d): return int(re.search(r'(\d[\d,]*) of', line(d).inner_text())[1].replace(',', ''))

def test_stop(lab, wide, nb):
    "The search of this kernel: it runs while cells run, waits, goes on, ends."
    d = nb.locator('.qnb-dash').first; press = lambda k: d.locator(f'button.qnb-{k}').click()
    expect(line(d)).to_contain_text('running'); lab.state('meanwhile.json', lambda s: len(set(s['accuracy']))==1) # five evaluations in a cell, in the middle of it
    expect(d.locator('.qnb-front .qnb-sum').first).to_contain_text(re.compile(r'\d+ episodes'))
    press('pause'); expect(line(d)).to_contain_text('paused'); wide.wait_for_timeout(900); n = episodes(d); wide.wait_for_timeout(900); assert episodes(d)==n==sum('strategy' in r for r in rows(lab, 'live'))
    press('resume'); expect(line(d)).not_to_contain_text('paused'); expect(line(d)).not_to_contain_text(f'{n} of')
    press('stop'); expect(line(d)).to_contain_text('stopped')
    assert rows(lab, 'live')[-1]['stop_reason']=='interrupted' and (lab.work/'tasks/live/output/best/model.onnx').exists()
    expect(d.locator('button.qnb-stop')).to_be_disabled(); expect(d.locator('button.qnb-resume')).to_be_enabled()
    for k,why in dict(stop='no search is running', pause='no search is running', export='no episode is selected').items(): expect(d.locator(f'button.qnb-{k}')).to_have_attribute('title', re.compile(why)) # a greyed button says why

def test_point(lab, wide, nb):
    "A point of the front is selected in all views, compared, exported, and written as a yml."
    d = nb.locator('.qnb-dash').first; canvas = d.locator('.qnb-front .qnb-canvas').first; point = d.locator('.qnb-dash-point')
    canvas.focus(); wide.keyboard.press('Home'); wide.keyboard.press('Enter')
    expect(point).to_contain_text('this − float'); n = int(re.search(r'episode (\d+)', point.inner_text())[1])
    expect(d.locator(f'.qnb-table tr[data-episode="{n}"]')).to_have_attribute('aria-selected', 'true')
    d.locator('button.qnb-export').click(); expect(d.locator('.qnb-dash-answer')).to_contain_text('model.onnx', timeout=60_000)
    out = lab.work/'tasks'/'live'/'output'/'export'/str(n); s = json.loads((out/'strategy.json').read_text())
    assert (out/'model.mindir').exists() and s==next(r for r in rows(lab, 'live') if r.get('episode')==n)['strategy']
    d.locator('button.qnb-yml').click(); expect(d.locator('.qnb-dash-answer')).to_contain_text('replay.yml'); assert (out/'replay.yml').exists()
    d.locator('.qnb-find').fill('accuracy>0 stem=8'); expect(d.locator('.qnb-table .qnb-sum')).to_contain_text(' of ')
    d.locator('.qnb-table button[data-col="reward"]').click(); k = d.locator('.qnb-table tr[data-episode][aria-selected="false"]').first.get_attribute('data-episode') # a second click would end the selection
    row = d.locator(f'.qnb-table tr[data-episode="{k}"]'); row.click() # which is the first may change, as the search goes on
    expect(point).to_contain_text(re.compile(rf'episode {k}\b')); expect(row).to_have_attribute('aria-selected', 'true')
    d.locator('.qnb-find').fill('')
    reward = d.locator('.qnb-front').nth(1); expect(reward.locator('.qnb-marks')).to_contain_text('best so far') # against episodes
    reward.locator('.qnb-x').select_option('images'); expect(reward.locator('.qnb-marks')).to_contain_text('best so far'); expect(reward.locator('.qnb-canvas')).to_have_attribute('aria-label', re.compile('^reward against images evaluated'))
    d.locator('.qnb-front .qnb-y').first.select_option('size_kb'); expect(canvas).to_have_attribute('aria-label', re.compile(r'^size \(KB\) against size removed'))
    map_ = d.locator('.qnb-bitmap .qnb-canvas'); map_.focus(); wide.keyboard.press('Home'); wide.keyboard.press('Enter'); expect(point).to_contain_text('episode 0')

def test_follow(lab, wide, nb, far):
    "A search of another process: it grows here, and ends on request."
    d = nb.locator('.qnb-dash').nth(1); expect(line(d)).to_contain_text('running'); n = episodes(d)
    expect(line(d)).not_to_contain_text(f'{n} of'); assert episodes(d)>n
    expect(d.locator('.qnb-bitmap')).to_be_visible()
    d.locator('button.qnb-stop').click(); out = far.communicate(timeout=120)[0]; assert out.startswith('interrupted'), out
    expect(line(d)).to_contain_text('stopped'); assert episodes(d)==int(out.split()[1])

def test_large(lab, wide, nb):
    "2,000 episodes of 100 layers are drawn in all views, and one more at a time is added. What it costs: `benchmarks/dashboard.py`."
    d = nb.locator('.qnb-dash').nth(2); nb.locator('.open-big').click(); expect(d.locator('[data-drawn="2000"]')).to_have_count(4)
    expect(d.locator('.qnb-front .qnb-sum').first).to_contain_text('2,000 episodes')
    nb.locator('.more-big').click(); expect(d.locator('.qnb-front .qnb-sum').first).to_contain_text('2,030 episodes'); expect(d.locator('[data-drawn="2030"]')).to_have_count(4)
