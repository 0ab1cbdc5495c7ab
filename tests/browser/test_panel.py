"The stage panel in a real JupyterLab: eight stages on the example, a bit changed by hand, an exception of the user's, and Stop."
import re
from pathlib import Path
import pytest
from playwright.sync_api import expect

PANEL = """import json, os, threading, time
from quantnb.types import *
from quantnb.task import *
from quantnb.panels.panel import *
def watch(p, name):
    "Keep the states in a file that the test reads."
    def f():
        s = p.stages; d = dict(s.state, at=p.name, n=s.n, by_hand=s.by_hand, strategy=s.strategy.to_json() if s.strategy else {}, main=threading.current_thread() is threading.main_thread())
        open(name+'.tmp', 'w').write(json.dumps(d)); os.replace(name+'.tmp', name)
    p.stages.watchers.append(f); f(); return p
os.environ['QUANTNB_EXAMPLE_SAMPLES'] = '500'
watch(Task.from_yaml(THE_YML).panel(), 'panel.json')""".replace('THE_YML', repr(str(Path(__file__).parents[2]/'examples'/'fashion'/'quant.yml')))
SLOW = """calls = []
def slow(net):
    calls.append(0)
    if len(calls)==1: return 90. # by MindSpore
    while len(calls)>2: net(task.inputs[0]); time.sleep(.02)
    return 90.
task = lesson_task(evaluate=slow); watch(task.panel(), 'slow.json')"""
BAD = """def accuracy(net):
    labels = {}
    return labels['test']
watch(lesson_task(evaluate=accuracy).panel(), 'bad.json')"""
STAGES = ('graph','features','propose','quantize','calibrate','evaluate','deploy','reward')

@pytest.fixture(scope='module')
def nb(lab, wide):
    lab.write('panel.ipynb', [PANEL, SLOW, BAD])
    nb = lab.open(wide, 'panel.ipynb')
    expect(nb.locator('.qp')).to_have_count(3, timeout=60_000)
    return nb

def test_eight_stages(lab, wide, nb):
    p = nb.locator('.qp').first; rail = lambda k: p.locator(f'.qp-go-{k}'); result = p.locator('.qp-result')
    expect(rail('graph')).to_have_class(re.compile('qp-to-do')); p.locator('.qp-main').click()
    shows = dict(graph='.qnb-graphview', features='.qp-heat', propose='.qnb-bitstrip', quantize='.qp-pair .qnb-graphview', calibrate='.qnb-histogram', evaluate='svg.qp-plot', deploy='svg.qp-plot', reward='.qnb-front')
    for i,k in enumerate(STAGES):
        if i: p.locator('.qp-next').click()
        expect(rail(k)).to_have_class(re.compile('qp-done'), timeout=180_000); expect(result.locator(shows[k]).first).to_be_visible(); expect(p.locator('.qp-error')).to_have_count(0)
        if k!='graph': expect(result.locator('table').last).to_be_visible()
        assert lab.state('panel.json', {k:'done'})['main'] is False # the work was done in another thread
    expect(p.locator('.qp-next')).to_have_text('Next episode'); p.locator('.qp-next').click()
    expect(rail('propose')).to_have_class(re.compile('qp-on')); lab.state('panel.json', dict(n=1, propose='done', reward='out of date'))

def test_edit(lab, wide, nb):
    p = nb.locator('.qp').first; p.locator('.qp-go-propose').click(); cell = p.locator('.qnb-bitstrip [data-path="head"][data-what="w"]'); caption = p.locator('.qnb-caption')
    expect(caption).to_be_visible(timeout=180_000); old = caption.inner_text(); cell.click(); expect(caption).not_to_have_text(old) # size, operations and predicted loss, without a run
    got = lab.state('panel.json', dict(by_hand=True)); assert got['features']=='done' and got['quantize']=='out of date'
    p.locator('.qp-go-evaluate').click(); expect(p.locator('.qp-old')).to_be_visible(); p.locator('.qp-to').click(); lab.state('panel.json', dict(evaluate='done', deploy='out of date'))
    expect(p.locator('.qp-old')).to_have_count(0)
    p.locator('.qp-go-calibrate').click(); p.locator('.qp-knob-observer select').select_option('minmax'); lab.state('panel.json', dict(calibrate='out of date', evaluate='out of date', quantize='done'))
    p.locator('.qp-show').click(); expect(p.locator('.qp-code')).to_contain_text('Histogram.of')

def test_stop(lab, wide, nb):
    p = nb.locator('.qp').nth(1); p.locator('.qp-go-evaluate').click(); p.locator('.qp-to').click()
    lab.state('slow.json', dict(evaluate='running')); expect(p.locator('.qp-status')).to_contain_text('evaluating'); wide.wait_for_timeout(500)
    stop = p.locator('.qp-stop'); expect(stop).to_be_enabled(); stop.click() # the function never ends by itself
    lab.state('slow.json', dict(evaluate='to do', calibrate='done')); expect(p.locator('.qp-status')).to_have_text('stopped')

def test_exception(lab, wide, nb):
    p = nb.locator('.qp').nth(2); p.locator('.qp-go-reward').click(); p.locator('.qp-to').click()
    error = p.locator('.qp-error'); expect(error).to_contain_text("KeyError: 'test'"); expect(error).to_contain_text("labels['test']"); expect(p.locator('.qp-stage')).not_to_contain_text('Traceback')
    expect(p.locator('.qp-go-propose')).to_have_class(re.compile('qp-on.*qp-failed|qp-failed.*qp-on')); lab.state('bad.json', dict(propose='failed', evaluate='to do'))
    n = nb.locator('.jp-OutputArea-output[data-mime-type*="stderr"]').count(); assert n==0
