"""Widgets of a notebook in a page: the state that the run left, drawn without a kernel and without a widget manager.

This package's own widgets stay alive, by what also draws them in a report; of ipywidgets' controls, which do nothing without a kernel, the page has the look."""
import hashlib, html, json
from pathlib import Path

STATE,VIEW = (f'application/vnd.jupyter.widget-{o}+json' for o in ('state','view'))
REF = 'IPY_MODEL_'
e = lambda s: html.escape(str(s))

class Page:
    "The widgets of one page."
    def __init__(self,
        models:dict, # Id to what the notebook keeps of the model
        folder:Path, # Takes the modules, which pages share
        up:str='', # Path from the page to the parent of `folder`
    ): self.models,self.folder,self.up,self.loaded = models,folder,up,set()
    def state(self, i):
        m = self.models[i]; s = {k:v for k,v in m['state'].items() if k[0]!='_' and k not in ('layout','tabbable','tooltip')}
        for b in m.get('buffers', []): s[b['path'][0]] = dict(base64=b['data'])
        if str(s.get('source', '')).startswith(REF): o = s['source'].removeprefix(REF); s['source'] = dict(name=o, state=self.state(o))
        return s
    def module(self, s):
        "Write the code of a widget once for all pages; its name, and the tags that load it."
        name = hashlib.sha256((s['_esm']+s.get('_css', '')).encode()).hexdigest()[:10]; f = self.folder/f'{name}.js'; self.folder.mkdir(exist_ok=True, parents=True)
        if not f.exists(): f.write_text(f'(() => {{ document.head.append(Object.assign(document.createElement("style"), {{textContent: {json.dumps(s.get("_css", ""))}}}));\n{s["_esm"].replace("export default", "const widget =")}\n(window.quantnbWidgets ||= {{}})["{name}"] = widget; }})();\n')
        if not (m := self.folder/'embed.js').exists(): import quantnb; m.write_text((Path(quantnb.__file__).parent/'panels'/'embed.js').read_text('utf-8'))
        tags = ''.join(f'<script src="{self.up}{self.folder.name}/{o}.js" defer></script>' for o in ('embed', name) if o not in self.loaded); self.loaded |= {'embed', name}
        return name,tags
    def draw(self, i)->str:
        "HTML of one model and what it holds."
        m = self.models[i]; s,kind = m['state'],m['model_name'].removesuffix('Model'); lay = self.models.get(str(s.get('layout', '')).removeprefix(REF), dict(state={}))['state']
        css = ';'.join(f'{k.replace("_", "-")}:{v}' for k,v in lay.items() if k[0]!='_' and v is not None)
        def tag(name, words, inner='', **at): return f'<{name} class="{e(" ".join(["jupyter-widgets", words, *s.get("_dom_classes", [])]))}"'+(f' style="{e(css)}"' if css else '')+''.join(f' {k}="{e(v)}"' if v is not True else f' {k}' for k,v in at.items() if v not in (None, False, ''))+(f'>{inner}</{name}>' if inner is not None else '>')
        label = f'<label class="widget-label">{e(s["description"])}</label>' if s.get('description') else ''
        if kind=='Any':
            name,load = self.module(s); text = ', '.join(json.dumps(o) for o in (self.state(i), i, {})).replace('</', r'<\/').replace('<!--', r'<\u0021--') # both would mislead the reader of a script
            return tag('div', 'quantnb-widget', id=f'w{i}')+load+f'<script type="module">mount(document.getElementById("w{i}"), quantnbWidgets["{name}"], {text});</script>'
        if kind in ('VBox','HBox','Box'): return tag('div', f'widget-box widget-{kind.lower()}', ''.join(self.draw(o.removeprefix(REF)) for o in s['children']))
        if kind=='HTML': return tag('div', 'widget-html', f'{label}<div class="widget-html-content">{s["value"]}</div>')
        if kind in ('Button','ToggleButton'): return tag('button', 'jupyter-button'+(f' mod-{s["button_style"]}' if s.get('button_style') else ''), e(s['description']), type='button', disabled=s.get('disabled'), title=s.get('tooltip'), tabindex='-1')
        if kind=='Text': return tag('div', 'widget-text', f'{label}<input value="{e(s["value"])}" readonly tabindex="-1">', title=s.get('tooltip'))
        if kind=='Dropdown': return tag('div', 'widget-dropdown', f'{label}<select tabindex="-1"><option>{e(s["_options_labels"][s["index"]])}</option></select>', title=s.get('tooltip'))
        if kind=='FloatProgress': return tag('div', 'widget-hprogress', f'{label}<div class="progress"><div class="progress-bar" style="width:{100*(s["value"]-s["min"])/(s["max"]-s["min"] or 1):.0f}%"></div></div>')
        raise ValueError(f'a page shows a {kind}, which tools/widgets.py cannot draw')

def embed_widgets(
    nb:dict, # Processed notebook, changed in place
    models:dict, # Id to what the notebook keeps of the model
    folder:Path, # Takes the modules, which pages share
    up:str='', # Path from the page to the parent of `folder`
)->bool: # Whether the page shows a widget
    "Replace widget views by HTML."
    page = Page(models, folder, up)
    for c in nb['cells']:
        for o in c.get('outputs', []):
            if (v := o.get('data', {}).get(VIEW)) and v['model_id'] in models: o['data'] = {'text/html': page.draw(v['model_id'])}
    return bool(page.loaded)
