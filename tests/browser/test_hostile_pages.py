"Names of layers, metrics and notes that are markup and script: a real browser shows them in the dashboard, the panel and a comparison, and executes none of them."
import sys
from pathlib import Path
import pytest
from playwright.sync_api import expect
sys.path.insert(0, str(Path(__file__).parents[1]))
from test_hostile import STAGES

TESTS = str(Path(__file__).parents[1])
DASHBOARD = f"""import sys; sys.path.insert(0, {TESTS!r})
from pathlib import Path
from test_hostile import STAGES, hostile, hostile_panel
from quantnb.panels.dashboard import dashboard
t = hostile(Path('tasks')); dashboard(t.root)"""
PANEL = """import ipywidgets as W
p = hostile_panel(Path('.')); said = W.Label('none'); said.add_class('at-stage'); button = W.Button(description='next'); button.add_class('next-stage'); rest = iter(STAGES)
def go(_):
    k = next(rest); ok = p.stages.run_to(k); p.go(k); p.refresh(); said.value = f'{k} {ok}'
button.on_click(go); W.VBox([button, said, p])"""

PLANTED = "() => 'planted' in window"
FOREIGN = "() => [...document.querySelectorAll('.jp-OutputArea-output *')].filter(e => [...e.attributes].some(a => a.name.startsWith('on') || /^javascript:/i.test(a.value.trim()))).map(e => e.outerHTML.slice(0, 300))" # attributes that would run something

@pytest.fixture(scope='module')
def nb(lab, wide):
    lab.write('hostile.ipynb', [DASHBOARD, PANEL])
    nb = lab.open(wide, 'hostile.ipynb'); nb.locator('.next-stage').wait_for(timeout=180_000)
    return nb

@pytest.fixture
def inert(wide):
    "What would show that something was executed: a global, a dialog, a request to `x`."
    dialogs = []; wide.on('dialog', lambda d: (dialogs.append(d.message), d.dismiss()))
    def check(): assert not wide.evaluate(PLANTED) and not dialogs and wide.evaluate(FOREIGN)==[]
    yield check
    check()

def test_dashboard(wide, nb, inert):
    d = nb.locator('.qnb-dash').first; expect(d.locator('.qnb-dash-line')).to_contain_text('12'); inert()
    expect(d).to_contain_text('planted=1') # it is shown as it is written
    for s in d.locator('select').all():
        for k in range(s.locator('option').count()):
            if s.is_enabled(): s.select_option(index=k)
    rows = d.locator('tr[data-episode]'); expect(rows.first).to_be_visible(); seen = set()
    for k in range(min(6, rows.count())): # one that misses a target, one that meets all, the failed one, the delivered one
        rows.nth(k).click(); point = d.locator('.qnb-dash-point'); expect(point).to_contain_text('episode'); wide.wait_for_timeout(300); inert(); seen.add('misses' in point.inner_text())
    assert seen=={True, False}

def test_panel(wide, nb, inert):
    shown = 0
    for k in STAGES:
        nb.locator('.next-stage').click(); expect(nb.locator('.at-stage')).to_have_text(f'{k} True', timeout=120_000); wide.wait_for_timeout(300); inert()
        shown += 'planted=1' in nb.locator('.jp-OutputArea').last.inner_text()
    assert shown>=4, shown

@pytest.mark.parametrize('what', ['report','comparison'])
def test_pages(what, browser, tmp_path):
    "As files, in a browser that is online; every row of the table of episodes is chosen."
    from test_hostile import hostile, hostile_report
    from quantnb.run.runs import compare_runs
    t = hostile(tmp_path); f = tmp_path/'page.html'
    f.write_text(hostile_report(t)[0]) if what=='report' else compare_runs(t.root, t.root, page=f)
    c = browser.new_context(); page = c.new_page(); dialogs,asked = [],[]
    page.on('dialog', lambda d: (dialogs.append(d.message), d.dismiss())); page.on('request', lambda r: asked.append(r.url)); page.goto(f.as_uri()); page.locator('.qnb-front' if what=='report' else '.qnb-compare').first.wait_for()
    rows = page.locator('tr[data-episode]')
    for k in range(rows.count()): rows.nth(k).click()
    page.wait_for_timeout(500); assert not page.evaluate(PLANTED) and not dialogs and 'planted=1' in page.locator('body').inner_text() and [u for u in asked if not u.startswith('data:')]==[f.as_uri()]
    assert what!='report' or rows.count()
    c.close()
