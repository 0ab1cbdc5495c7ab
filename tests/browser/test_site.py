"The finished site in a browser: its search, its live pictures, both themes, no dead link, and nothing from any other host."
import functools, http.server, re, sys, threading
from pathlib import Path
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
        assert page.locator('main img').evaluate_all('ls => ls.filter(i => i.checkVisibility()).every(i => i.complete && i.naturalWidth)')

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

def test_no_dead_link(docs):
    "Files and headings of the site, and hosts that cannot exist."
    sys.path.insert(0, str(Path(__file__).parents[2]/'tools'))
    from docs import dead_links
    assert not dead_links(docs)
    links = {u for h in docs.rglob('*.html') for u in re.findall(r'<a [^>]*href="(https?://[^"]*)"', h.read_text())}
    assert links and not [u for u in links if re.match(r'https?://([\w.-]*\.(invalid|test|example|local)|example\.\w+|[^./]+)(:\d+)?(/|$)', u)]
    assert not [f for f in docs.rglob('*') if f.suffix in ('.html','.xml','.json') and 'example.invalid' in f.read_text()]

def test_dead_links_are_found(docs, tmp_path):
    from docs import dead_links
    (tmp_path/'a.html').write_text('<h2 id="x"></h2><a href="#x"></a><a href="b.html#y"></a><a href="b.html#z"></a><a href="c.html"></a>'); (tmp_path/'b.html').write_text('<h2 id="y"></h2>')
    assert sorted(dead_links(tmp_path))==['a.html: b.html#z', 'a.html: c.html']

def test_reference_reads_as_a_reference(page, site):
    page.goto(f'{site}/quant/quantizer.html'); sig = page.locator('#quantizer .qnb-signature').first
    expect(sig).to_contain_text('recipe: Recipe = Recipe()'); sig.locator('a', has_text='Recipe').first.click(); expect(page.locator('#recipe')).to_be_visible() # a type leads to its entry
    page.goto(f'{site}/run/cli.html'); said = page.locator('main').inner_text()
    assert 'quantnb run YML [OPTIONS]' in said and not re.search(r'typer\.|Callable|collections\.', said)

PAGES = ['index.html', 'tutorials/first_search.html', 'explain/keys.html', 'quant/quantizer.html', 'run/cli.html', 'run/runs.html']

@pytest.mark.parametrize('width', [1920,1300,400])
def test_nothing_is_wider_than_the_page(page, site, width):
    "Code goes on in the next line; only wide tables and outputs scroll, in boxes of their own."
    page.set_viewport_size(dict(width=width, height=1000))
    for p in PAGES:
        page.goto(f'{site}/{p}'); wide = page.evaluate("""() => [document.documentElement.scrollWidth - innerWidth, ...[...document.querySelectorAll('main pre.sourceCode, main pre.qnb-signature')].map(e => e.scrollWidth - e.clientWidth)]""")
        assert max(wide)<=1, (p, width, wide)

TONE = """c => { const g = document.createElement('canvas').getContext('2d'); g.fillStyle = c; g.fillRect(0, 0, 1, 1); const [r, v, b, a] = g.getImageData(0, 0, 1, 1).data; return [.299 * r + .587 * v + .114 * b, a]; }"""
LUM = f"e => {{ const tone = {TONE}; for (; e; e = e.parentElement) {{ const [l, a] = tone(getComputedStyle(e).backgroundColor); if (a > 127) return l; }} return 255; }}" # of what is behind it
INKED = f"e => ({TONE})(getComputedStyle(e).color)[0]"

@pytest.mark.parametrize('mode', ['light','dark'])
def test_both_themes(browser, site, mode):
    "As the reader's system has it, and by the switch; text can be read on what is behind it everywhere."
    c = browser.new_context(color_scheme=mode, viewport=dict(width=1300, height=1000)); p = c.new_page(); dark = mode=='dark'
    try:
        p.goto(f'{site}/run/runs.html'); expect(p.locator('.qnb-run').first).to_be_visible(); expect(p.locator('html.quarto-dark')).to_have_count(int(dark))
        for css in ('main p', 'main pre.sourceCode code', 'main pre.qnb-signature', 'main td', '#quarto-sidebar a', '#quarto-search input', '.navbar-title', '.qnb-differ td'):
            e = p.locator(css).first; back,ink = e.evaluate(LUM),e.evaluate(INKED)
            assert (back<100)==dark and abs(back-ink)>70, (css, mode, back, ink)
        p.locator('.quarto-color-scheme-toggle').first.click(); expect(p.locator('html.quarto-dark')).to_have_count(int(not dark))
        expect(p.locator('.qnb-compare.qnb-dark')).to_have_count(0 if dark else 2) # live pictures follow
    finally: c.close()

def test_fronts_of_several_runs_answer(page, site):
    page.goto(f'{site}/run/runs.html'); plot = page.locator('.qnb-compare .qnb-plot'); tip = page.locator('.qnb-compare .qnb-tip').first
    plot.focus(); page.keyboard.press('ArrowRight'); expect(tip).to_contain_text('episode'); expect(tip).to_contain_text('size removed')
    page.keyboard.press('Escape'); expect(tip).to_be_hidden()
    box = page.locator('.qnb-compare .qnb-plot path[fill]').last; box.hover(); expect(tip).to_be_visible()
    n = page.locator('.qnb-compare .qnb-plot path').count(); page.locator('.qnb-run').first.click(); expect(page.locator('.qnb-compare .qnb-plot path')).not_to_have_count(n)
    rows = page.locator('.qnb-differ tbody tr'); some = rows.count(); page.locator('input.qnb-all').check(); expect(rows).to_have_count(14); assert 0<some<14

def test_size(docs): assert sum(f.stat().st_size for f in docs.rglob('*') if f.is_file())<15e6
