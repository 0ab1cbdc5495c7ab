"Clicks and keys on every widget change the traits in the kernel; saved state is drawn without one."
import http.server, json, re, subprocess, sys, threading, time
from functools import partial
from pathlib import Path
import pytest
from playwright.sync_api import expect

root = Path(__file__).parents[2]

TELL = """import json, os, time
import ipywidgets as W
from quantnb.types import *
from quantnb.graph.cost import example_layers
from quantnb.panels.bitstrip import *
from quantnb.panels.front import *
def tell(name, w, *traits):
    "Keep traits of a widget in a file that the test reads."
    def f(_=None):
        open(name+'.tmp', 'w').write(json.dumps({t:getattr(w, t) for t in traits})); os.replace(name+'.tmp', name)
    w.observe(f, list(traits)); f()"""
STRIP = """strip = BitStrip.of(example_layers(), Strategy({'block.conv1':(4,8), 'block.conv2':(4,8), 'block.down':(8,8), 'sep.dw':(8,8), 'sep.pw':(2,8), 'fc':(8,8)}), act_candidates=[4,8])
def size(_): strip.caption = f"fc has {strip.value['fc'].w} bits"
strip.observe(size, 'strategy'); tell('strip.json', strip, 'strategy', 'selected', 'past')
strip"""
BLOCKS = """deep = [dict(path=f'blocks.{k}.{n}', n=c, macs=c, reason='' if c else 'no weight') for k in range(8) for n,c in (('q',64),('scores',0),('up',256),('down',256))]+[dict(path='head', n=640, macs=640, reason='')]
blocks = BitStrip(deep, Strategy({l['path']:(4,32) for l in deep if l['n']}), act_candidates=[32]); tell('blocks.json', blocks, 'strategy', 'selected')
blocks"""
FRONT = """def record(i, w): return Record(i, Strategy({'a':(w,8), 'b':(8,8)}), metrics=dict(accuracy=90-40/w**2+i*.01, compress_ratio=100-3*w, latency=1+w/8), reward=i/10, missed={} if w>2 else dict(accuracy=.1))
h = History({}, dict(accuracy='MAX', compress_ratio='MAX', latency='MIN'), Targets(latency=1.9), [record(i, w) for i,w in enumerate((2,3,4,5,6,7,8,8))])
plot = FrontPlot.of(h); tell('front.json', plot, 'selected', 'x', 'y', 'log_x', 'near', 'n')
more = W.Button(description='one more'); more.add_class('one-more'); more.on_click(lambda _: plot.append(record(plot.n, 16)))
W.VBox([plot, more])"""
GRAPH = """from quantnb.panels.graphview import *
view = GraphView.of(example_graph(3), Strategy({'blocks.0.conv1':(4,8), 'blocks.0.conv2':(2,2)})); tell('graph.json', view, 'selected', 'node', 'views', 'query')
view"""
HIST = """import numpy as np
from quantnb.panels.histogram import *
from quantnb.quant.quantizer import *
from quantnb.quant.observe import *
g = example_graph(1); rng = np.random.default_rng(0)
q = Quantizer(g, {f'{l.path}.weight':rng.normal(size=l.weight_shape).astype('f') for l in g.layers}); o = Observer(); o(np.abs(rng.normal(size=5000)).astype('f')); q.observers['blocks.0.conv2'] = o
hist = Histogram.of(q, 'blocks.0.conv1', 4); tell('hist.json', hist, 'path', 'which', 'bits', 'log', 'shown')
hist"""
BIG = """import random
def episode(i, rng=random.Random(0), paths=[f'blocks.{k}.conv' for k in range(100)]):
    s = Strategy({p:Bits(rng.choice((2,4,8)), 8) for p in paths}); w = sum(b.w for b in s.values())/800
    return Record(i, s, metrics=dict(accuracy=92-9*(1-w)**2+rng.gauss(0, .3), compress_ratio=100-25*w, latency=1+w, size_kb=w, flops=w, bops=w), reward=rng.gauss(0, 1), forward_samples=2000)
rs = [episode(i) for i in range(2050)]
go = W.Button(description='open'); go.add_class('open-big'); box = W.VBox([go])
def show(_):
    global many
    many = FrontPlot.of(History(records=rs[:2000])); box.children = (go, add, many)
go.on_click(show)
add = W.Button(description='append'); add.add_class('append-big')
def fifty(_):
    for r in rs[many.n:many.n+50]: many.append(r)
add.on_click(fifty)
box"""

@pytest.fixture(scope='module')
def nb(lab, wide):
    lab.write('widgets.ipynb', [TELL, STRIP, BLOCKS, FRONT, GRAPH, HIST, BIG])
    nb = lab.open(wide, 'widgets.ipynb')
    nb.locator('.open-big').wait_for(timeout=120_000)
    return nb

def test_bitstrip(lab, wide, nb):
    s = nb.locator('.qnb-bitstrip').first; cell = lambda p, what='w': s.locator(f'[data-path="{p}"][data-what="{what}"]')
    bits = lambda p, w, a=8: lab.state('strip.json', lambda s: s['selected']==p and s['strategy'][p]==dict(w=w, a=a))
    fc = cell('fc'); fc.click()
    bits('fc', 2) # 8 was the last candidate
    expect(s.locator('.qnb-caption')).to_have_text('fc has 2 bits') # what the kernel answered
    fc.click(modifiers=['Shift']); bits('fc', 8)
    wide.keyboard.press('ArrowLeft'); wide.keyboard.press('ArrowDown'); lab.state('strip.json', dict(selected='sep.pw')) # 2 is the least: nothing changed
    expect(cell('sep.pw')).to_be_focused(); expect(cell('sep.pw')).to_have_attribute('aria-valuenow', '2')
    wide.keyboard.press('4'); expect(cell('sep.pw')).to_have_attribute('aria-valuetext', '4 bits'); bits('sep.pw', 4)
    wide.keyboard.press('Control+z'); expect(cell('sep.pw')).to_have_text('2'); bits('sep.pw', 2)
    s.locator('.qnb-chips button[data-what="a"][data-bits="4"]').click(); expect(cell('sep.pw', 'a')).to_have_text('4'); bits('sep.pw', 2, 4)
    s.locator('.qnb-undo').click(); expect(cell('sep.pw', 'a')).to_have_text('8')
    n = nb.locator('.jp-CodeCell').count(); fc.focus(); [wide.keyboard.press(k) for k in 'ddxab']; assert nb.locator('.jp-CodeCell').count()==n # the notebook's own keys
    stem = cell('stem'); stem.hover(); expect(s.locator('.qnb-tip')).to_contain_text('excluded by the configuration')
    stem.click(); got = lab.state('strip.json', dict(selected='stem')); assert 'stem' not in got['strategy'] # float stays float
    expect(s.locator('.qnb-detail')).to_contain_text('excluded by the configuration')

def test_repeated_blocks_are_a_grid(lab, wide, nb):
    s = nb.locator('.qnb-bitstrip').nth(1); cell = lambda p: s.locator(f'[data-path="{p}"][data-what="w"]')
    assert s.locator('.qnb-kind .qnb-label').all_text_contents()==['q','up','down'] and s.locator('.qnb-first .qnb-name').all_text_contents()==[*'01234567']
    expect(s.locator('.qnb-row.qnb-kind').first.locator('.qnb-layer')).to_have_count(8); expect(s.locator('.qnb-rows')).to_contain_text('8 layers without weights of their own'); expect(s.locator('.qnb-sum')).to_contain_text('activations float')
    x = lambda p: round(cell(p).bounding_box()['x']); assert x('blocks.3.q')==x('blocks.3.up')==x('blocks.3.down')<x('blocks.4.q')
    cell('blocks.3.up').click(); lab.state('blocks.json', lambda s: s['strategy']['blocks.3.up']['w']==8)
    wide.keyboard.press('ArrowRight'); expect(cell('blocks.4.up')).to_be_focused() # along the kind, to the next block
    wide.keyboard.press('2'); lab.state('blocks.json', lambda s: s['selected']=='blocks.4.up' and s['strategy']['blocks.4.up']==dict(w=2, a=32))

def test_front(lab, wide, nb):
    s = nb.locator('.qnb-front').first; canvas = s.locator('.qnb-canvas')
    expect(s.locator('.qnb-sum')).to_contain_text('8 episodes · 7 on the front')
    canvas.focus(); wide.keyboard.press('Home'); wide.keyboard.press('ArrowRight'); wide.keyboard.press('Enter')
    lab.state('front.json', dict(selected=5)) # from the left: 8 bits (episode 7, a little better than 6), then 7 bits
    expect(s.locator('.qnb-chosen')).to_contain_text('episode 5'); expect(s.locator('.qnb-hear')).to_contain_text('selected episode 5')
    wide.keyboard.press('Escape'); lab.state('front.json', dict(selected=-1))
    s.locator('.qnb-x').select_option('latency'); s.locator('.qnb-log-x').check(); s.locator('.qnb-near').check()
    lab.state('front.json', dict(x='latency', log_x=True, near=True)); expect(s.locator('.qnb-sum')).to_contain_text('7 on the front')
    b = canvas.bounding_box(); canvas.click(position=dict(x=b['width']-14-(b['width']-80)*.05/1.1, y=10+(b['height']-54)*.05/1.1)) # the corner that has the best accuracy
    lab.state('front.json', dict(selected=7))
    nb.locator('.one-more').click(); lab.state('front.json', dict(n=9)); expect(s.locator('.qnb-sum')).to_contain_text('9 episodes')

def test_graphview(lab, wide, nb):
    s = nb.locator('.qnb-graphview'); row = lambda p: s.locator(f'tr[data-path="{p}"]')
    s.locator('.qnb-node', has_text='blocks.0.conv1').click(); lab.state('graph.json', dict(selected='blocks.0.conv1'))
    expect(row('blocks.0.conv1')).to_have_attribute('aria-selected', 'true'); expect(s.locator('.qnb-said')).to_contain_text('weights 4 bits')
    s.locator('.qnb-svg').focus(); wide.keyboard.press('ArrowDown'); wide.keyboard.press('ArrowDown'); lab.state('graph.json', dict(selected='blocks.0.conv2'))
    row('blocks.2.conv2').click(); lab.state('graph.json', dict(selected='blocks.2.conv2')); wide.keyboard.press('ArrowUp'); lab.state('graph.json', dict(selected='blocks.2.conv1'))
    s.locator('.qnb-find').fill('excluded'); expect(s.locator('tbody tr')).to_have_count(1); lab.state('graph.json', dict(query='excluded'))
    s.locator('.qnb-find').fill('blocks conv2'); expect(s.locator('tbody tr')).to_have_count(3)
    n = s.locator('.qnb-node').count(); s.locator('.qnb-views').check(); lab.state('graph.json', dict(views=True)); expect(s.locator('.qnb-node')).to_have_count(n+3)
    at = lambda: s.locator('.qnb-svg > g').get_attribute('transform')
    old = at(); s.locator('.qnb-svg').focus(); wide.keyboard.press('+'); assert at()!=old
    old = at(); b = s.locator('.qnb-svg').bounding_box(); wide.mouse.move(b['x']+20, b['y']+200); wide.mouse.down(); wide.mouse.move(b['x']+80, b['y']+150, steps=3); wide.mouse.up(); assert at()!=old

def test_histogram(lab, wide, nb):
    s = nb.locator('.qnb-histogram'); svg = s.locator('svg.qnb-svg')
    expect(s.locator('.qnb-facts')).to_contain_text('levels 16')
    s.locator('button[data-bits="8"]').click(); lab.state('hist.json', dict(bits=8)); expect(s.locator('.qnb-facts')).to_contain_text('levels 256')
    svg.focus(); wide.keyboard.press('ArrowDown'); lab.state('hist.json', dict(bits=4)); wide.keyboard.press('l'); lab.state('hist.json', dict(log=True))
    wide.keyboard.press('ArrowRight'); expect(s.locator('.qnb-hear')).to_contain_text('values')
    s.locator('.qnb-path').select_option('blocks.0.conv2'); s.locator('.qnb-which').select_option('act')
    lab.state('hist.json', dict(shown=dict(path='blocks.0.conv2', which='act'))); expect(s.locator('.qnb-facts')).to_contain_text('blocks.0.conv2 activation')

def test_theme(wide, nb):
    "Dark and light follow the page, without knowing the host."
    wide.evaluate("document.querySelector('.jp-NotebookPanel').style.cssText += ';--jp-layout-color0:#111'; document.body.dataset.test = 1")
    expect(nb.locator('.qnb-bitstrip').first).to_have_class(re.compile('qnb-dark'))
    wide.evaluate("document.querySelector('.jp-NotebookPanel').style.removeProperty('--jp-layout-color0'); document.body.dataset.test = 2")
    expect(nb.locator('.qnb-bitstrip').first).not_to_have_class(re.compile('qnb-dark'))

def test_large(wide, nb):
    "2,000 episodes of 100 layers, and 50 more, one at a time."
    nb.locator('.open-big').click(); big = nb.locator('.qnb-front').nth(1); expect(big.locator('.qnb-sum')).to_contain_text('2,000 episodes')
    nb.locator('.append-big').click(); expect(big.locator('.qnb-sum')).to_contain_text('2,050 episodes')
    old = big.locator('.qnb-canvas').get_attribute('aria-label'); big.locator('.qnb-x').select_option('latency'); expect(big.locator('.qnb-canvas')).not_to_have_attribute('aria-label', old)

def test_saved(lab, wide, nb):
    "A notebook with saved widget state, opened in Lab and not run."
    p = lab.write('saved.ipynb', [TELL, STRIP, FRONT])
    subprocess.run([sys.executable, root/'tools'/'run_nbs.py', p], check=True, capture_output=True); lab.trust('saved.ipynb')
    s = lab.open(wide, 'saved.ipynb', run=False)
    fc = s.locator('.qnb-bitstrip [data-path="fc"][data-what="w"]'); expect(fc).to_have_text('8')
    expect(s.locator('.qnb-front .qnb-sum')).to_contain_text('8 episodes · 7 on the front')

@pytest.fixture
def alone(browser):
    "A page that may not reach any host but this machine."
    c = browser.new_context(viewport=dict(width=800, height=900)); page = c.new_page(); page.asked,page.errors = [],[]
    page.on('request', lambda r: page.asked.append(r.url)); page.on('pageerror', lambda e: page.errors.append(str(e)))
    yield page
    c.close()
    assert not [u for u in page.asked if not u.startswith(('file:','http://127.0.0.1','data:','blob:'))] and not page.errors, (page.asked, page.errors)

def test_fragment(alone, tmp_path):
    "`to_html`: a file, alive without a kernel."
    from quantnb.graph.cost import example_layers
    from quantnb.panels.bitstrip import BitStrip
    from quantnb.panels.front import FrontPlot
    from quantnb.run.history import TaskDir
    h = TaskDir.at(root/'benchmarks'/'fashion').read()[1]; plot = FrontPlot.of(h)
    f = tmp_path/'page.html'; f.write_text('<!doctype html><meta charset="utf-8"><body style="background:#111">'+BitStrip.of(example_layers()).to_html()+plot.to_html()); alone.goto(f'file://{f}')
    strip = alone.locator('.qnb-bitstrip'); expect(strip).to_have_class(re.compile('qnb-dark'))
    cell = strip.locator('[data-path="fc"]'); cell.click(); expect(cell).to_have_text('2'); alone.keyboard.press('Control+z'); expect(cell).to_have_text('8')
    front = alone.locator('.qnb-front')
    for x,y in (('compress_ratio','accuracy'), ('latency','accuracy'), ('size_kb','divergence')): # the front in the browser is the front of the records
        front.locator('.qnb-x').select_option(x); front.locator('.qnb-y').select_option(y)
        expect(front.locator('.qnb-sum')).to_contain_text(f'· {len(h.front((x,y)))} on the front')
    # a note names the objectives first, whatever the axes are; nothing cuts it; it goes when the episode it is about is gone, and says what is true now
    tip = front.locator('.qnb-tip'); canvas = front.locator('.qnb-canvas'); model = "document.querySelector('.qnb-front').parentElement.model"
    alone.evaluate("document.querySelector('.qnb-front').parentElement.style.cssText = 'height:330px; overflow:hidden'"); canvas.focus(); alone.keyboard.press('End'); expect(tip).to_be_visible()
    assert [t.split(' (')[0] for t in tip.locator('td:first-child').all_text_contents()[:3]]==['accuracy','size removed','latency'] and tip.evaluate("e => e.matches(':popover-open')")
    b = tip.bounding_box(); assert b['x']>=0 and b['y']>=0 and b['x']+b['width']<=800 and b['y']+b['height']<=900
    alone.evaluate(f"{model}.set('best', +document.querySelector('.qnb-front .qnb-tip b').textContent.split(' ')[1]); {model}.set('mark', 'chosen by hand')"); expect(tip).to_contain_text('chosen by hand')
    alone.evaluate(f"{model}.set('generation', 7)"); expect(tip).to_be_hidden()

def test_site(alone, docs):
    "The page of the site, as `tools/docs.py` made it."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    srv = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=docs)); threading.Thread(target=srv.serve_forever, daemon=True).start()
    try:
        for page,sel in (('bitstrip','.qnb-bitstrip [data-path="fc"]'), ('front','.qnb-front .qnb-canvas'), ('graphview','.qnb-graphview .qnb-node'), ('histogram','.qnb-histogram .qnb-bars')):
            alone.goto(f'http://127.0.0.1:{srv.server_port}/panels/{page}.html'); expect(alone.locator(sel).first).to_be_visible()
        alone.goto(f'http://127.0.0.1:{srv.server_port}/panels/bitstrip.html'); cell = alone.locator('.qnb-bitstrip [data-path="fc"]').first
        old = cell.inner_text(); cell.click(); expect(cell).not_to_have_text(old)
    finally: srv.shutdown()
