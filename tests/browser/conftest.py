"A real JupyterLab and a real Chromium for the tests in this folder; without them the tests skip."
import re, shutil, subprocess, sys
from pathlib import Path
import psutil, pytest
from filelock import FileLock

pytest.importorskip('playwright.sync_api', reason='playwright is not installed (it is among the dev requirements)')
sys.path.insert(0, str(Path(__file__).parents[2]/'tools'))
import lab as _lab
_lab.expect.set_options(timeout=60_000) # as long as a busy machine may take; what is there is seen at once

@pytest.fixture(scope='package')
def browser():
    "Chromium for this folder only: Playwright's event loop must not outlive these tests."
    if not _lab.find_chromium(): pytest.skip('no Chromium on this machine: apt-get install chromium')
    with _lab.chromium() as b: yield b

@pytest.fixture(autouse=True, scope='module')
def kernels():
    "What a notebook has left running ends with its file: a search in a kernel takes a core from all other tests."
    yield
    for p in psutil.Process().children(recursive=True):
        try:
            if 'ipykernel_launcher' in ' '.join(p.cmdline()): p.kill()
        except psutil.Error: pass

@pytest.fixture(scope='module')
def wide(browser):
    "A page for all tests of a file, 1300 pixels wide; a JavaScript error anywhere fails the file."
    c = browser.new_context(viewport=dict(width=1300, height=1000)); page = c.new_page(); errors = []
    page.on('pageerror', lambda e: errors.append(str(e)))
    yield page
    c.close()
    ours = [e for e in errors if 'qnb' in e or not re.search('jupyterlab|ResizeObserver|Canceled', e)]
    assert not ours, ours

@pytest.fixture(scope='package')
def docs(browser, tmp_path_factory):
    "Folder of the site; it is built where nobody has, once for all workers."
    root = Path(__file__).parents[2]; out = root/'_docs'
    with FileLock(tmp_path_factory.getbasetemp().parent/'docs.lock'):
        if not (out/'index.html').exists():
            if not shutil.which('npm'): pytest.skip('the site is not built, and tools/docs.py needs npm')
            r = subprocess.run([sys.executable, 'tools/docs.py'], cwd=root, capture_output=True, text=True)
            assert r.returncode==0, (r.stdout+r.stderr)[-4000:]
    return out

@pytest.fixture(scope='package')
def lab(browser, tmp_path_factory):
    pytest.importorskip('jupyterlab', reason='JupyterLab is not installed (it is among the dev requirements)')
    with _lab.jupyterlab(tmp_path_factory.mktemp('lab')) as l: yield l
