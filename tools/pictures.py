"""Pictures of the panel and the dashboard in a real JupyterLab, on the Fashion-MNIST example.

    python tools/pictures.py                  the ones that the site shows, into nbs/images
    python tools/pictures.py --all FOLDER     every stage and the dashboard at 1300 and 800 pixels, light and dark, to look at"""
import argparse, io, re, tempfile
from pathlib import Path
from lab import chromium, expect, jupyterlab
from PIL import Image

root = Path(__file__).parent.parent
STAGES = ('graph','features','propose','quantize','calibrate','evaluate','deploy','reward')
KEEP = {f'{a}-1300-{t}':f'{b}{"-dark" if t=="dark" else ""}' for a,b in (*((k, f'panel-{k}') for k in STAGES), ('dashboard','dashboard')) for t in ('light','dark')} # picture to its name in the site
PANEL = f"""from quantnb.all import *
from quantnb.panels.panel import *
Task.from_yaml({str(root/'examples'/'fashion'/'quant.yml')!r}).panel()"""
DASH = f"""from quantnb.panels.dashboard import *
dashboard({str(root/'benchmarks'/'fashion')!r})"""

def save(png, path):
    "Few colours are enough: text, lines and a palette."
    im = Image.open(io.BytesIO(png)).convert('RGB').quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE); im.save(path, optimize=True)

class Camera:
    def __init__(self, page, out): self.page,self.out = page,out
    def theme(self, dark): self.page.evaluate("d => jupyterapp.commands.execute('apputils:change-theme', {theme: d ? 'JupyterLab Dark' : 'JupyterLab Light'})", dark); self.page.wait_for_timeout(1500)
    def shoot(self, what, name, before=None):
        "One picture a width and theme; only those of the site if no folder is given."
        for dark in (False, True):
            for w in (1300, 800):
                nm = f'{name}-{w}-{"dark" if dark else "light"}'
                if not self.out and nm not in KEEP: continue
                self.theme(dark); self.page.set_viewport_size(dict(width=w, height=1000)); self.page.wait_for_timeout(800)
                self.page.set_viewport_size(dict(width=w, height=int(min(3000, what.bounding_box()['height']+260)))); what.scroll_into_view_if_needed(); self.page.wait_for_timeout(800)
                if before: before()
                save(what.screenshot(), self.out/f'{nm}.png' if self.out else root/'nbs'/'images'/f'{KEEP[nm]}.png')
        self.theme(False); self.page.set_viewport_size(dict(width=1300, height=1000))

def panel(lab, page, cam):
    lab.write('panel.ipynb', [PANEL]); nb = lab.open(page, 'panel.ipynb'); p = nb.locator('.qp'); p.wait_for(timeout=600_000); page.evaluate('jupyterapp.shell.collapseLeft()')
    if cam.out: cam.shoot(p, 'start')
    p.locator('.qp-knob-exclude input').fill('stem'); p.locator('.qp-knob-exclude input').press('Enter')
    for i,k in enumerate(STAGES):
        p.locator('.qp-next' if i else '.qp-main').click(); expect(p.locator(f'.qp-go-{k}')).to_have_class(re.compile('qp-done')); page.wait_for_timeout(1000); page.mouse.move(0, 0)
        cam.shoot(p, k, (lambda: p.locator('.qnb-node', has_text='stem').hover()) if k=='graph' else None)
    p.locator('.qp-go-propose').click(); p.locator('.qnb-bitstrip [data-path="head"][data-what="w"]').click(); page.wait_for_timeout(1000)
    if cam.out: p.locator('.qp-show').click(); page.wait_for_timeout(500); cam.shoot(p, 'edited')

def dash(lab, page, cam):
    lab.write('dash.ipynb', [DASH]); nb = lab.open(page, 'dash.ipynb'); d = nb.locator('.qnb-dash'); d.locator('.qnb-bitmap').wait_for(timeout=300_000); page.evaluate('jupyterapp.shell.collapseLeft()')
    if cam.out: cam.shoot(d, 'unselected')
    c = d.locator('.qnb-front .qnb-canvas').first; c.focus()
    for k in ('Home','ArrowRight','ArrowRight','Enter'): page.keyboard.press(k)
    page.evaluate('document.activeElement.blur()'); page.mouse.move(0, 0); cam.shoot(d, 'dashboard')

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); a.add_argument('--all', type=Path); a.add_argument('--only', choices=('panel','dashboard'))
    a = a.parse_args(); expect.set_options(timeout=600_000); (a.all or root/'nbs'/'images').mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as d, jupyterlab(d, '--LabApp.expose_app_in_browser=True') as lab, chromium() as b:
        page = b.new_page(viewport=dict(width=1300, height=1000)); page.set_default_timeout(120_000); cam = Camera(page, a.all)
        if a.only!='dashboard': panel(lab, page, cam)
        if a.only!='panel': dash(lab, page, cam)

if __name__=='__main__': main()
