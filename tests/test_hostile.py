"A task folder from somebody else: whatever its records say is shown, and none of it is executed: not in the report, its notebook, a comparison, the dashboard or the panel's widgets."
import json
from html.parser import HTMLParser
from pathlib import Path
import pytest
from quantnb.run.history import TaskDir
from quantnb.types import *

P = '<script>planted=1</script><img src=x onerror="planted=1">[a](javascript:planted=1)![b](javascript:planted=1)</script></style></textarea></title><!--<svg onload=planted=1>$\\frac{1}{$ | ` ${planted=1} {{planted}} &lt;'
N = 12 # episodes

def layer(i): return Layer(f'l{i}{P}', f'dense', 'MatMul'+P, 'w', (8,8), macs=64, note=P).to_json()

def hostile(folder):
    "A task whose every string is markup, script, a link or mathematics."
    t = TaskDir(folder, 't&<img src=x onerror=planted=1>').open(); ls = [layer(i) for i in range(3)]+[dict(layer(3), path='left'+P, reason=P)]; paths = [l['path'] for l in ls[:3]]
    metrics = lambda i: dict(accuracy=90.-i/10, compress_ratio=70.+i, size_kb=3., divergence=.1, flops=1., bops=1., **{P:1.})
    t.append(dict(float=dict(accuracy=92., size_kb=10., flops=2., bops=2., compress_ratio=0., **{P:2.}), objectives={'accuracy':'MAX', 'compress_ratio':'MAX', P:'MIN'}, targets=Targets(accuracy=91., compress_ratio=60.).to_json(), layers=ls, notes=[P], environment={'cpu':P, P:P}, seed=P, step=P, max_episode=N, float_samples=10,
        engine=dict(name='mindspore', why=P, start=None, parity=[]), sensitivity=[dict(path=p, w=b, a=8, divergence=.1, base=0.) for p in paths for b in (4,8)], phases={P:1.}))
    for i in range(N):
        s = Strategy({p:((2,4,8)[(i+k)%3],8) for k,p in enumerate(paths)})
        t.append(Record(i, s, metrics=metrics(i), reward=float(i), phase=P if i%2 else 'search', reason=P if i==3 else '', status='failed' if i==3 else 'ok', missed={P:.1} if i%3 else {}, extra={P:P}, files={P:P}).to_json())
    t.append(dict(stop_reason=P, chosen=2)); row = lambda n, **kw: dict(name=n, data='evaluate', samples=10, episode=None, choice=P, accuracy=90., size_kb=1., compress_ratio=70., onnx_kb=1., mindir_kb=None, latency=.1, latency_p90=.1, **kw)
    s = Strategy({p:(4,8) for p in paths}); t.stage()
    t.publish(dict(task_id=P, episode=2, feasible=False, missed={P:.1}, stop_reason=P, reward=1., strategy=s.to_json(), metrics=metrics(2), float=dict(accuracy=92., size_kb=10., **{P:P}), samples=dict(evaluate=10), targets=Targets(accuracy=91.).to_json(), noise=0.,
        files={'onnx':dict(path=P, bytes=10, sha256=P, accuracy=90., float_layers={paths[0]:P}, parity=None), P:dict(path=P, bytes=1, sha256=P)}, left_out={P:P}, episodes=N, forward_samples=10, seconds=1., table=[row('float'), row('chosen'), row('uniform 8'), row('uniform'+P)],
        confirm=dict(accuracy=90., float=92., candidates=[dict(episode=2, searched=90., accuracy=90., reward=1., compress_ratio=70., latency=None, why=P, rounding=P)]), parity={P:dict(note=P, batches={P:dict(agreement=1., max_diff=0., measure=P, rows=1, error=0.)})}))
    (t.output/'note.txt').write_text(P); (t.output/'quant.yml').write_text('# '+P); t.close(); return t

class Seen(HTMLParser):
    "What a browser would make of a page: elements that could run something."
    def __init__(self, html): super().__init__(); self.bad,self.scripts = [],0; self.inside = ''; self.feed(html); self.close()
    def handle_starttag(self, tag, attrs):
        a = dict(attrs); self.inside = tag
        if tag=='script': self.scripts += 1; ok = a.get('type')=='module'
        else: ok = tag not in ('svg','iframe','object','embed','base','form') or tag=='svg' and 'onload' not in a
        if not ok or any(k.startswith('on') for k in a) or any((v or '').strip().lower().startswith('javascript:') for k,v in attrs if k in ('href','src','action','xlink:href')): self.bad.append(self.get_starttag_text()[:200])
    def handle_endtag(self, tag): self.inside = ''
    def handle_data(self, d):
        if self.inside=='script' and 'mount(' not in d: self.bad.append(d[:200])

def is_inert(html, words='planted=1'):
    s = Seen(html); assert not s.bad, s.bad
    assert words in html # it is shown
    return s.scripts

def hostile_report(t):
    "Page and notebook; the cells are run here and not in a kernel, which would take ten times as long; their outputs become the page as always."
    from execnb.shell import CaptureShell
    from nbconvert import HTMLExporter
    from fastcore.nbio import dict2nb
    import nbformat
    from quantnb.run.report import html_page, report_notebook
    import html
    nb = report_notebook(t.task_id); nb.cells[1].source = f'folder = {str(t.root)!r}'; cells = dict2nb(json.loads(nbformat.writes(nb))); shell = CaptureShell(mpl_format=None); shell.run_all(cells, exc_stop=True)
    nb = nbformat.reads(json.dumps(json.loads(json.dumps(cells, default=dict))), 4)
    body,_ = HTMLExporter(template_name='basic', exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(nb)
    page = html_page(html.escape(f'quantnb {t.task_id}'), body)
    return page,nb

def test_report_of_a_hostile_folder(tmp_path):
    page,nb = hostile_report(hostile(tmp_path)); assert is_inert(page)>=4
    for c in nb.cells:
        for o in c.get('outputs', []):
            if 'text/html' in o.get('data', {}): is_inert(''.join(o['data']['text/html']), '')
            assert 'application/javascript' not in o.get('data', {})

def test_comparison_list_and_dashboard_of_a_hostile_folder(tmp_path):
    from quantnb.run.runs import compare_runs, list_runs
    from quantnb.panels.dashboard import dashboard
    t = hostile(tmp_path); page = tmp_path/'compare.html'; compare_runs(t.root, t.root, page=page); assert is_inert(page.read_text())>=2
    table = list_runs(tmp_path); is_inert(table.html(), '')
    d = dashboard(t.root)
    def texts(w): yield from ([w.value] if type(w).__name__=='HTML' else []); yield from (x for c in getattr(w, 'children', ()) for x in texts(c))
    said = []
    for k in range(-1, N): d.plot.selected = k; said += list(texts(d)) # each episode: failed, misses, meets all
    assert any('misses' in s and 'planted=1' in s for s in said)
    for s in said: is_inert(s.replace('<style>', '').replace('</style>', ''), '')

STAGES = ('graph','features','propose','quantize','calibrate','evaluate','deploy','reward')

def hostile_panel(folder):
    "The panel of an ONNX file whose names are markup."
    import mindspore, numpy as np, onnx # in this order
    from onnx import helper as oh, numpy_helper as onp
    import quantnb.panels.panel
    from quantnb.task import Task
    r = np.random.default_rng(0); w = lambda *s: r.standard_normal(s).astype(np.float32)/3; io = lambda n, *d: oh.make_tensor_value_info(n, 1, d)
    nodes = [oh.make_node('MatMul', ['x','a'+P], ['h'], 'first'+P), oh.make_node('Relu', ['h'], ['i']), oh.make_node('MatMul', ['i','b'+P], ['y'+P], 'second'+P)]
    m = oh.make_model(oh.make_graph(nodes, P, [io('x', 'n', 8)], [io('y'+P, 'n', 4)], [onp.from_array(w(8,16), 'a'+P), onp.from_array(w(16,4), 'b'+P)]), opset_imports=[oh.make_opsetid('', 17)]); m.ir_version = 9; onnx.save(m, str(folder/'net.onnx'))
    x = w(64, 8); want = []
    def evaluate(net):
        y = net(x).argmax(1); want or want.append(y); return 100.*float((y==want[0]).mean())
    return Task(net=folder/'net.onnx', evaluate=evaluate, calib=lambda net: net(x), bits=[2,8], targets=Targets(compress_ratio=70.), local_base_path=str(folder/'tasks')).panel()

def test_the_panel_of_a_hostile_network(tmp_path, monkeypatch):
    "All eight stages; `tests/browser/test_hostile.py` shows them in a browser."
    monkeypatch.chdir(tmp_path); p = hostile_panel(tmp_path); said = []
    def texts(w): yield from ([w.value] if type(w).__name__=='HTML' else []); yield from (x for c in getattr(w, 'children', ()) for x in texts(c))
    for k in STAGES:
        assert p.stages.run_to(k), (k, p.stages.errors); p.go(k); p.refresh(); said += texts(p)
    assert sum('planted=1' in s for s in said)>=4
    for s in said: is_inert(s.replace('<style>', '').replace('</style>', ''), '')
