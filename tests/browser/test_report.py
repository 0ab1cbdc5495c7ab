"`report.html` as somebody gets it by mail: one file, no network, no kernel, and it answers to clicks."
import json, re, shutil
from dataclasses import replace
from pathlib import Path
import pytest
from playwright.sync_api import expect

root = Path(__file__).parents[2]

@pytest.fixture(scope='module')
def mail(tmp_path_factory):
    "The report of the benchmark's task, with a graph and histograms as a search leaves them."
    from quantnb.panels.graphview import GraphView, example_graph
    from quantnb.panels.histogram import Histogram
    from quantnb.run.report import report
    t = tmp_path_factory.mktemp('mail'); shutil.copytree(root/'benchmarks'/'fashion'/'output', t/'output')
    s = json.loads((t/'output'/'best.json').read_text())['strategy']; g = example_graph(); g.layers = [replace(l, path=p, reason='') for l,p in zip(g.layers, s)]
    data = lambda p, k: dict(bits=8, data={'8':dict(counts=[1,2,1], lo=-1.5, step=1, total=4, range=[-1,1], clip=None, clipped=0, levels=None, sqnr=30, unit='steps')}, shown=dict(path=p, which=k), note='')
    answers = ['path','which'],{f'{p}|{k}':data(p, k) for p in s for k in ('weight','act')}
    first = next(iter(s)); views = dict(strategy=s, graph=GraphView(g, s).page_state(), tensors=Histogram.state_of(paths=list(s), path=first, **data(first, 'weight')), answers=answers)
    (t/'output'/'views.json').write_text(json.dumps(views))
    return report(t)

POINT = """c => { const b = c.getBoundingClientRect();
    for (let y = b.height - 60; y > 0; y -= 6) for (let x = 60; x < b.width; x += 6) { c.dispatchEvent(new PointerEvent('pointermove', { clientX: b.left + x, clientY: b.top + y })); if (c.style.cursor === 'pointer') return [x, y]; } }"""

@pytest.mark.parametrize('width,scheme', ((1300,'light'), (800,'dark')))
def test_mailed(browser, mail, width, scheme):
    c = browser.new_context(viewport=dict(width=width, height=900), color_scheme=scheme, offline=True); page = c.new_page(); asked,errors = [],[]
    page.on('request', lambda r: asked.append(r.url)); page.on('pageerror', lambda e: errors.append(str(e)))
    page.goto(mail.as_uri())
    front,table,strip,graph,hist = (page.locator(f'.qnb-{k}') for k in ('front','table','bitstrip','graphview','histogram'))
    row = lambda: table.locator('tr[aria-selected="true"]'); said = front.first.locator('.qnb-chosen b'); expect(row()).to_have_count(1); expect(said).to_have_count(1)
    together = "() => document.querySelector('.qnb-front .qnb-chosen b').textContent=='episode '+document.querySelector('.qnb-table tr[aria-selected=\"true\"]').dataset.episode"
    page.wait_for_function(together); old = said.text_content() # widgets draw in a frame of their own, so the page may still be on its way
    canvas = front.first.locator('.qnb-canvas'); x,y = canvas.evaluate(POINT); canvas.click(position=dict(x=x, y=y))
    expect(said).not_to_have_text(old); page.wait_for_function(together)
    front.first.hover(); page.wait_for_timeout(500) # the table scrolls to what was selected, and draws other rows then
    other = next(e for e in (r.get_attribute('data-episode') for r in table.locator('tr[data-episode]').all()[:2]) if e!=row().get_attribute('data-episode'))
    table.locator(f'tr[data-episode="{other}"]').click(); expect(said).to_have_text(f'episode {other}')
    cell = strip.locator('[data-path][data-what="w"]').nth(3); p = cell.get_attribute('data-path'); cell.click()
    expect(graph.locator(f'tr[data-path="{p}"]')).to_have_attribute('aria-selected', 'true'); expect(hist.locator('.qnb-facts')).to_contain_text(f'{p} weight')
    hist.locator('.qnb-which').select_option('act'); expect(hist.locator('.qnb-facts')).to_contain_text(f'{p} activation')
    graph.locator('tr[data-path]').first.click(); expect(hist.locator('.qnb-path')).to_have_value(graph.locator('tr[data-path]').first.get_attribute('data-path'))
    for o in (front.first, graph, hist): (expect(o).to_have_class if scheme=='dark' else expect(o).not_to_have_class)(re.compile('qnb-dark'))
    assert page.evaluate('document.documentElement.scrollWidth')<=width and not errors and [u for u in asked if not u.startswith('data:')]==[mail.as_uri()], (errors, asked)
    c.close()

def test_pressed_while_rows_change(browser, mail):
    "Between press and release the table scrolls under the pointer by hand's width: the row that was pressed is the one that is chosen."
    c = browser.new_context(viewport=dict(width=1000, height=900), offline=True); page = c.new_page(); page.goto(mail.as_uri())
    table = page.locator('.qnb-table'); scroll = table.locator('.qnb-scroll'); expect(table.locator('tr[aria-selected="true"]')).to_have_count(1)
    scroll.scroll_into_view_if_needed(); scroll.evaluate('e => e.scrollTop = 20*25'); page.wait_for_function("() => +document.querySelector('.qnb-table tr[data-episode]').getAttribute('aria-rowindex')>10")
    row = table.locator('tr[aria-rowindex="26"]'); e = row.get_attribute('data-episode'); b = row.bounding_box(); x = b['x']+b['width']/2; page.mouse.move(x, b['y']+12); page.mouse.down()
    first = "document.querySelector('.qnb-table tr[data-episode]').getAttribute('aria-rowindex')"; was = page.evaluate(first)
    scroll.evaluate('e => e.scrollTop += 75'); page.wait_for_function(f'was => {first}!==was', arg=was)
    page.mouse.move(x, b['y']+12-75); page.mouse.up(); expect(page.locator('.qnb-front .qnb-chosen b').first).to_have_text(f'episode {e}'); c.close()

def test_blocks_are_closed_and_opened(browser, tmp_path):
    "A network of many blocks: one box each, with a bar for each layer; opened by a double click at that place, closed again by the box above."
    from quantnb.panels.base import fragment, widget_files
    from quantnb.panels.graphview import GraphView, example_graph
    from quantnb.types import Strategy
    g = example_graph(30); f = tmp_path/'page.html'; s = Strategy({l.path:(4 if k%2 else 8, 8) for k,l in enumerate(g.quantizable)}); assert GraphView(g, s).blocks and not GraphView(example_graph(3)).blocks
    f.write_text(f'<!doctype html><body>{fragment(*widget_files("graphview"), GraphView(g, s).page_state())}</body>')
    c = browser.new_context(viewport=dict(width=1100, height=700), offline=True); page = c.new_page(); errors = []; page.on('pageerror', lambda e: errors.append(str(e))); page.goto(f.as_uri())
    view = page.locator('.qnb-graphview'); boxes = view.locator('.qnb-block'); expect(boxes).to_have_count(30); expect(boxes.nth(7).locator('.qnb-bar1')).to_have_count(2)
    fills = boxes.nth(7).locator('.qnb-bar1').evaluate_all('bs => bs.map(b => getComputedStyle(b).fill)'); assert fills[0]!=fills[1], fills
    view.locator('tr[data-path="blocks.7.conv2"]').click(); expect(view.locator('.qnb-block.qnb-on text')).to_have_text('blocks.7'); expect(view.locator('.qnb-said')).to_contain_text('blocks.7 · 2 layers')
    boxes.nth(7).dblclick(); expect(boxes).to_have_count(0); on = view.locator('.qnb-node.qnb-on'); expect(on.locator('text').first).to_have_text('blocks.7.conv1'); expect(on).to_be_in_viewport()
    view.locator('.qnb-blocks').check(); expect(boxes).to_have_count(30); expect(view.locator('.qnb-block.qnb-on text')).to_have_text('blocks.7'); assert not errors, errors
    c.close()

def test_without_scripts(browser, mail):
    "Pictures and the table of layers are there instead, and the file is small."
    c = browser.new_context(java_script_enabled=False, offline=True); page = c.new_page(); page.goto(mail.as_uri())
    assert page.locator('img[src^="data:image/png"]').count()>=5 and page.get_by_role('cell', name='res3.conv2.conv').count()
    assert mail.stat().st_size<1e6
    c.close()
