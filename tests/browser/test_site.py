"The finished site in a browser: its search, a live widget, and nothing from any other host."
import functools, http.server, re, threading
import pytest
from playwright.sync_api import expect

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture(scope='module')
def site(docs):
    "Address of the site."
    srv = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=docs))
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{srv.server_port}'
    srv.shutdown()

@pytest.fixture
def page(browser, site):
    "A new page; what it asks other hosts for, and what its scripts throw, fails the test."
    c = browser.new_context(viewport=dict(width=1300, height=1000)); p = c.new_page(); asked,errors = [],[]
    p.on('request', lambda r: asked.append(r.url)); p.on('pageerror', lambda e: errors.append(str(e)))
    yield p
    c.close()
    assert not [u for u in asked if not u.startswith((site, 'data:', 'blob:'))]
    assert not errors

STILL = """() => { const now = [...document.querySelectorAll('.search-result')].map(e => e.textContent).join();
    if (now !== window.was) { window.was = now; window.since = Date.now(); } return Date.now() - window.since > 500; }"""

def test_search(page, site):
    page.goto(site); page.locator('#quarto-search input').first.press_sequentially('int8 slower')
    page.locator('.search-result', has_text='When not to quantize').first.wait_for(); page.wait_for_function(STILL) # results of the last letters may still come and move the others
    page.locator('.search-result', has_text='When not to quantize').first.click()
    expect(page.locator('h1')).to_have_text('When not to quantize')

def test_way_of_a_newcomer(page, site):
    "From the start page to every tutorial by links of the pages."
    page.goto(site); todo = page.locator('main a[href*="tutorials/"]').evaluate_all('ls => [...new Set(ls.map(l => l.href))]')
    assert len(todo)>=7
    for u in todo:
        page.goto(u); expect(page.locator('h1')).not_to_be_empty()
        assert page.locator('main img').evaluate_all('ls => ls.every(i => i.complete && i.naturalWidth)')

def test_widget_answers(page, site):
    page.goto(f'{site}/tutorials/read_report.html'); front = page.locator('.qnb-front').first
    expect(front.locator('.qnb-sum')).to_contain_text('80 episodes')
    before = front.locator('.qnb-sum').inner_text(); front.locator('.qnb-x').select_option('divergence')
    expect(front.locator('.qnb-sum')).not_to_have_text(before) # another front, so the rows are there
    canvas = front.locator('.qnb-canvas'); canvas.focus(); was = front.inner_text(); page.keyboard.press('ArrowRight')
    expect(front).not_to_have_text(was, use_inner_text=True)

def test_formula(page, site):
    page.goto(f'{site}/explain/the_reward.html'); expect(page.locator('.katex').first).to_be_visible()

def test_no_resource_of_another_host(docs):
    "Every page, also those that no test opens."
    bad = [(h.name, u) for h in docs.rglob('*.html') for u in re.findall(r'<(?:script|img|iframe|source)[^>]* src="(https?:[^"]*)|<link[^>]* rel="stylesheet"[^>]* href="(https?:[^"]*)', h.read_text())]
    bad += [(c.name, u) for c in docs.rglob('*.css') for u in re.findall(r'url\(["\']?(https?:[^)]*)', c.read_text())]
    assert not bad

def test_size(docs): assert sum(f.stat().st_size for f in docs.rglob('*') if f.is_file())<20e6
