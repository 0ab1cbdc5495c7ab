"""A real JupyterLab and a real Chromium (Debian's, not Playwright's own build), for tests, measurements and pictures."""
import contextlib, json, os, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import nbformat
from playwright.sync_api import expect, sync_playwright

TOKEN = 'quantnb'
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

def find_chromium(): return shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')

@contextlib.contextmanager
def chromium():
    "A browser without a window; Playwright's event loop ends with it."
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=find_chromium(), args=FLAGS.split())
        yield b
        b.close()

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
    def state(self, name, want, seconds=60):
        "Wait until the file that the kernel writes holds `want`, a dict or a test of the whole."
        f,got,end = self.work/name,None,time.time()+seconds
        while time.time()<end:
            if f.exists():
                got = json.loads(f.read_text())
                if want(got) if callable(want) else all(got.get(k)==v for k,v in want.items()): return got
            time.sleep(.05)
        raise AssertionError(f'the kernel has {got}, not {want}')

@contextlib.contextmanager
def jupyterlab(
    d, # Folder for its settings, its log and the notebooks
    *args, # More arguments of `jupyter lab`
):
    "A JupyterLab of its own, which ends with the block."
    d = Path(d); port = free_port(); work = d/'work'; work.mkdir(); _settings(d/'set')
    env = {**os.environ, 'JUPYTERLAB_SETTINGS_DIR':str(d/'set'), 'JUPYTER_DATA_DIR':str(d/'data'), 'JUPYTER_CONFIG_DIR':str(d/'cfg'), 'JUPYTER_RUNTIME_DIR':str(d/'run'), 'GLOG_v':'4'}
    srv = subprocess.Popen([sys.executable,'-m','jupyterlab','--no-browser','--allow-root','--ip=127.0.0.1',f'--port={port}',f'--IdentityProvider.token={TOKEN}',
        f'--ServerApp.root_dir={work}', *args], env=env, stdout=(d/'log').open('w'), stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api/status?token={TOKEN}'); break
            except OSError: time.sleep(.5)
        else: raise TimeoutError((d/'log').read_text()[-2000:])
        yield Lab(work, port, env)
    finally: srv.terminate(); srv.wait(20)
