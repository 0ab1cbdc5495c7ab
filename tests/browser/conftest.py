"A real JupyterLab and a real Chromium (Debian's, not Playwright's own build) for the tests in this folder; without them the tests skip."
import json, os, re, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import nbformat, pytest

sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed (it is among the dev requirements)')
expect = sync_api.expect
expect.set_options(timeout=30_000)
root = Path(__file__).parents[2]
TOKEN = 'quantnb'
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

@pytest.fixture(scope='package')
def browser():
    "Chromium for this folder only: Playwright's event loop must not outlive these tests."
    exe = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if not exe: pytest.skip('no Chromium on this machine: apt-get install chromium')
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=exe, args=FLAGS.split())
        yield b
        b.close()

@pytest.fixture(scope='module')
def wide(browser):
    "A page for all tests of a file, 1300 pixels wide; a JavaScript error anywhere fails the file."
    c = browser.new_context(viewport=dict(width=1300, height=1000)); page = c.new_page(); errors = []
    page.on('pageerror', lambda e: errors.append(str(e)))
    yield page
    c.close()
    ours = [e for e in errors if 'qnb' in e or not re.search('jupyterlab|ResizeObserver|Canceled', e)]
    assert not ours, ours

def _settings(d):
    "All cells stay in the page, and Lab asks no questions about news."
    for nm,v in {'notebook-extension/tracker':dict(windowingMode='none'), 'apputils-extension/notification':dict(fetchNews='false', checkForUpdates=False)}.items():
        f = d/'@jupyterlab'/f'{nm}.jupyterlab-settings'; f.parent.mkdir(parents=True); f.write_text(json.dumps(v))

class Lab:
    "A running JupyterLab and the folder it serves."
    def __init__(self, work, port, env): self.work,self.port,self.env = work,port,env
    def write(self, name, cells):
        "A notebook of code cells; its path."
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=dict(kernelspec=dict(name='python3', display_name='Python 3 (ipykernel)', language='python')))
        for i,c in enumerate(nb.cells): c['id'] = f'c{i:03d}'
        nbformat.write(nb, self.work/name); return self.work/name
    def trust(self, name):
        "Lab draws the saved widgets of a notebook only if the user trusts it, which running it there does as well."
        subprocess.run([sys.executable, '-m', 'nbformat.sign', self.work/name], env=self.env, check=True, capture_output=True)
    def open(self, page, name, run=True):
        "Open a notebook, run all its cells; its panel."
        page.goto(f'http://127.0.0.1:{self.port}/lab/tree/{name}?reset&token={TOKEN}')
        nb = page.locator('.jp-NotebookPanel:visible'); nb.wait_for()
        if run:
            # a kernel that is still starting makes `Run all` ask for one
            expect(nb.locator('.jp-KernelName')).to_contain_text('Python 3'); expect(page.locator('#jp-main-statusbar')).to_contain_text('| Idle')
            page.get_by_role('menuitem', name='Run', exact=True).click()
            page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        return nb
    def state(self, name, want, seconds=15):
        "Wait until the file that the kernel writes holds `want`, a dict or a test of the whole."
        f,got,end = self.work/name,None,time.time()+seconds
        while time.time()<end:
            if f.exists():
                got = json.loads(f.read_text())
                if want(got) if callable(want) else all(got.get(k)==v for k,v in want.items()): return got
            time.sleep(.05)
        raise AssertionError(f'the kernel has {got}, not {want}')

@pytest.fixture(scope='package')
def lab(browser, tmp_path_factory):
    pytest.importorskip('jupyterlab', reason='JupyterLab is not installed (it is among the dev requirements)')
    d,port = tmp_path_factory.mktemp('lab'),free_port(); work = d/'work'; work.mkdir(); _settings(d/'set')
    env = {**os.environ, 'JUPYTERLAB_SETTINGS_DIR':str(d/'set'), 'JUPYTER_DATA_DIR':str(d/'data'), 'JUPYTER_CONFIG_DIR':str(d/'cfg'), 'JUPYTER_RUNTIME_DIR':str(d/'run'), 'GLOG_v':'4'}
    srv = subprocess.Popen([sys.executable,'-m','jupyterlab','--no-browser','--allow-root','--ip=127.0.0.1',f'--port={port}',f'--IdentityProvider.token={TOKEN}',
        f'--ServerApp.root_dir={work}'], env=env, stdout=(d/'log').open('w'), stderr=subprocess.STDOUT)
    for _ in range(120):
        try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api/status?token={TOKEN}'); break
        except OSError: time.sleep(.5)
    else: srv.kill(); pytest.fail((d/'log').read_text()[-2000:])
    yield Lab(work, port, env)
    srv.terminate(); srv.wait(20)
