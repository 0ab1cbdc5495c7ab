"What several pages say of the same thing is the same, and the reference has what the source has."
import ast, json, re, sys
from pathlib import Path

nbs = Path(__file__).parent.parent/'nbs'
sys.path.insert(0, str(nbs.parent/'tools'))

def prose(page): return [''.join(c['source']) for c in json.loads((nbs/page).read_text('utf-8'))['cells'] if c['cell_type']=='markdown']

def stages(page):
    "The table of the eight stages, its links as seen from `nbs`."
    rows = [l.replace('](../', '](') for s in prose(page) for l in s.splitlines() if re.match(r'\| \d \|', l)]
    return [[c.strip() for c in r.strip('|').split('|')] for r in rows]

def test_the_eight_stages_are_the_same_on_every_page():
    table = stages('index.ipynb')
    assert [r[0] for r in table]==list('12345678') and stages('explain/00_eight_stages.ipynb')==table
    says, = [s for s in prose('99_all.ipynb') if 'The functions of the stages' in s]
    assert re.findall('`(.*?)`', says)==[f for r in table for f in re.findall('`(.*?)`', r[2])]
    for page in re.findall(r'\]\(([^)#]+)', ' '.join(r[3] for r in table)): assert (nbs/page).exists(), page

def shown(page):
    "Lines of the code cells that a reader of the page sees."
    cells = [''.join(c['source']) for c in json.loads(page.read_text('utf-8'))['cells'] if c['cell_type']=='code']
    return [l for s in cells if not re.search(r'^#\|\s*(hide\b|echo:\s*false)', s, re.M) for l in s.splitlines()]

def test_code_that_is_shown_fits_its_column():
    "Longer lines scroll sideways on the site."
    pages = [p for d in ('tutorials','howto','explain') for p in sorted((nbs/d).glob('*.ipynb'))]
    assert any(shown(p) for p in pages)
    long = [f'{p.relative_to(nbs)}: {len(l)} characters: {l}' for p in pages for l in shown(p) if len(l)>80]
    assert not long, '\n'.join(long)

SOURCE = '''
class Table(Base, dict):
    "Rows."
    def __init__(self,
        rows:list, # Of dicts
        head:Graph=None,
    ): self.rows = rows # not a parameter
    def show(self, n=3): "The first `n`."
    def _hidden(self): "Not for readers."

def take(graph:Graph, # With layers
    name:str='Graph', *, sure:bool=True, # Ask nobody
)->dict[str,Graph]: # By path
    "What it does."
    return {}

def short(a, b:int=2)->int: return a # about the body
'''
def entry_of(k):
    from reference import entry
    t = ast.parse(SOURCE).body[k]; return entry(t, SOURCE, t.name, dict(Graph='ir.html#graph', take='x.html').get)

def test_an_entry_has_the_types_of_the_source_with_links():
    e = entry_of(1); plain = re.sub('<[^>]*>', '', e)
    assert "take(graph: Graph, name: str = 'Graph', *, sure: bool = True) → dict[str,Graph]" in plain and 'What it does.' in plain
    assert e.count('<a href="ir.html#graph">Graph</a>')==2 # the two types, and not the text in quotation marks
    assert '<code>graph</code>|With layers' in e and '<code>sure</code>|Ask nobody' in e and 'returns|By path' in e and 'x.html' not in e
    assert 'about the body' not in entry_of(2)

def test_the_entry_of_a_class_is_how_it_is_made_and_what_it_does():
    plain = re.sub('<[^>]*>', '', entry_of(0))
    assert 'class Table(rows: list, head: Graph = None)' in plain and 'rows|Of dicts' in plain and 'not a parameter' not in plain
    assert 'show(n=3)|The first `n`.' in plain and '_hidden' not in plain and 'Base, dict' in plain

def test_the_command_line_has_commands():
    from docs import commands
    from reference import command
    cmds = commands(); run = re.sub('<[^>]*>', '', command(cmds['run'])); assert {'run','check','explain','export','compare','list_','note','serve'}<=set(cmds)
    assert 'quantnb run YML [OPTIONS]' in run and '--task-id' in run and 'quantnb run examples/fashion/quant.yml --set max_episode=30\n' in run
    assert 'quantnb list' in command(cmds['list_']) and all('typer' not in command(c) and 'Typer' not in command(c) for c in cmds.values())
