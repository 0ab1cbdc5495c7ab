"What several pages say of the same thing is the same."
import json, re
from pathlib import Path

nbs = Path(__file__).parent.parent/'nbs'

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
