"""Entries of the reference: signatures as their source has them, with links, and commands as a terminal shows them.

Nothing is executed and no object is inspected, so a type is the one that was written and a default is not its `repr`."""
import ast, html, io, re, tokenize
from functools import lru_cache
from execnb.nbio import mk_cell
from nbdev.process import Processor
from nbdev.showdoc import showdoc_nm

_name = re.compile(r'''("[^"]*"|'[^']*')|\b[A-Za-z_][\w.]*''')
WIDTH = 88 # characters; a longer signature has a line for each parameter

@lru_cache(4)
def comments(src): return {t.start[0]: t.string.lstrip('# ') for t in tokenize.generate_tokens(io.StringIO(src).readline) if t.type==tokenize.COMMENT}

@lru_cache(4)
def _lines(src): return src.encode().split(b'\n') # columns of the tree are bytes

def segment(
    src:str,
    node, # Of the tree of `src`, or None
)->str: # '' for None
    "As `ast.get_source_segment`, which splits the source anew each time."
    if node is None: return ''
    ls = _lines(src)[node.lineno-1:node.end_lineno]; ls[-1] = ls[-1][:node.end_col_offset]; ls[0] = ls[0][node.col_offset:]
    return b'\n'.join(ls).decode()

def parameters(
    fn:ast.FunctionDef,
    src:str, # Source that it is part of
)->tuple: # List of (name with stars, type, default, comment); (type, comment) of what is returned
    "Parameters of a function, each with the comment of its line, as docments have it."
    said = comments(src); text = lambda o: segment(src, o); a = fn.args
    first = fn.body[0].lineno; note = lambda line: said.get(line, '') if line<first else '' # a comment after the body of a one-line function is about the body
    pos = [*a.posonlyargs, *a.args]; kws = [(o.arg, o, d) for o,d in zip(a.kwonlyargs, a.kw_defaults)]
    res = [(o.arg, o, d) for o,d in zip(pos, [None]*(len(pos)-len(a.defaults))+a.defaults)]
    if a.vararg: res.append(('*'+a.vararg.arg, a.vararg, None))
    elif kws: res.append(('*', None, None))
    res += kws
    if a.kwarg: res.append(('**'+a.kwarg.arg, a.kwarg, None))
    ends = [(d or o).end_lineno if o else 0 for _,o,d in res]; owner = {e:i for i,e in enumerate(ends)} # of several on a line the comment is the last one's
    rows = [(n, text(o.annotation) if o else '', text(d), note(e) if owner[e]==i else '') for i,((n,o,d),e) in enumerate(zip(res, ends))]
    return rows, (text(fn.returns), note(fn.returns.end_lineno) if fn.returns else '')

def fields(
    cls:ast.ClassDef,
    src:str, # Source that it is part of
)->list: # As the first of `parameters`
    "Annotated names of a class: what a dataclass or a section of the yml is made with."
    said = comments(src); text = lambda o: segment(src, o)
    return [(o.target.id, text(o.annotation), text(o.value), said.get(o.end_lineno, '')) for o in cls.body if isinstance(o, ast.AnnAssign) and isinstance(o.target, ast.Name) and o.target.id[0]!='_']

def linked(
    code:str, # A type or a default
    links, # Function of a name: its address, or None
)->str: # HTML
    "Code whose names lead to their entries; text in quotation marks does not."
    end,res = 0,[]
    for m in _name.finditer(code):
        res += [html.escape(code[end:m.start()], quote=False), f'<a href="{to}">{m[0]}</a>' if not m[1] and (to := links(m[0])) else html.escape(m[0], quote=False)]; end = m.end()
    return ''.join(res)+html.escape(code[end:], quote=False)

def raw(code): return f'```{{=html}}\n<pre class="qnb-signature"><code>{code}</code></pre>\n```'

def signature(
    word:str, # `class`, or nothing
    name:str, # With its class, as it is called
    rows:list, # As `parameters` returns them
    returns:str, # Type, or nothing
    links, # Function of a name: its address, or None
    call:bool=True, # False: no parentheses, as of a class without parameters
)->str: # HTML
    "One line if it is short, otherwise one for each parameter."
    def one(n, t, d): return f'<b>{n}</b>'+(f': {linked(t, links)}' if t else '')+(f'{" = " if t else "="}{linked(d, links)}' if d else '')
    ps = [one(*r[:3]) for r in rows]; tail = f' → {linked(returns, links)}' if returns else ''
    size = len(re.sub('<[^>]*>', '', f'{word} {name}({", ".join(ps)}){tail}'))
    inner = ', '.join(ps) if size<=WIDTH else '\n    '+',\n    '.join(ps)+',\n'
    return raw(f'{word+" " if word else ""}<span class="fu">{name}</span>'+(f'({inner})' if call else '')+tail)

def row(*cells): return '|'+'|'.join(c.replace('|', r'\|') for c in cells)+'|'
def table(head, rows): return '\n'.join([row(*head), '|'+'---|'*len(head), *(row(*r) for r in rows)]) if rows else ''
def code(s): return f'<code>{html.escape(s, quote=False)}</code>' if s else ''
def prose(s): return ''.join(o if k%2 else o.replace('<', '&lt;') for k,o in enumerate(re.split('(`[^`]*`)', s or ''))) # `<name>` is no tag
def doc(node): return prose(ast.get_docstring(node)).strip()

def is_call(m): return isinstance(m, ast.FunctionDef) and m.name[0]!='_' and doc(m)

def methods(
    cls:ast.ClassDef,
    src:str, # Source that it is part of
)->list: # Rows: how it is called, what it does
    "Public methods in the body of a class that say what they do."
    def call(m):
        if any(isinstance(d, ast.Name) and d.id in ('property','cached_property') for d in m.decorator_list): return m.name
        return f'{m.name}({", ".join(n+(f"={d}" if d else "") for n,_,d,_ in parameters(m, src)[0] if n not in ("self","cls"))})'
    return [(code(call(m)), doc(m)) for m in cls.body if is_call(m)]

def entry(
    node, # Function or class
    src:str, # Source that it is part of
    name:str, # As it is called
    links, # Function of a name: its address, or None
)->str: # Markdown
    "Heading, signature, docstring, and a table of those parameters that have something said of them."
    to,returns = (lambda n: None if n==name else links(n)),('','')
    if isinstance(node, ast.ClassDef):
        init = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name=='__init__'), None)
        rows = parameters(init, src)[0][1:] if init else fields(node, src); bases = [linked(o, to) for o in (segment(src, b) for b in node.bases) if o.count('.')<2] # one from the depth of a tool says nothing
        sig = signature('class', name, rows, '', to, call=bool(rows)); does = methods(node, src)
        after = [f'It is a kind of {", ".join(bases)}.' if bases else '', table(('method',''), does)]
        body = '\n\n'.join(filter(None, [doc(node), doc(init) if init and doc(init)!=doc(node) else '']))
    else:
        rows,returns = parameters(node, src); own = rows[1:] if '.' in name and rows and rows[0][0] in ('self','cls') else rows; rows = own; after = []
        sig = signature('', name, rows, returns[0], to); body = doc(node)
    about = [(code(n), prose(w)) for n,_,_,w in rows if w]+([('returns', prose(returns[1]))] if returns[1] else [])
    return '\n\n'.join(filter(None, [f'### {name}', sig, body, table(('',''), about), *after]))

def command(
    cmd, # Of click
    program:str='quantnb', # Word before it
)->str: # Markdown
    "A command as its `--help` describes it."
    dashes = lambda s: re.sub(r'--[\w-]+(?: \w+=\w+)?', r'`\g<0>`', prose(s)) # two dashes are one in prose
    args = [p for p in cmd.params if p.param_type_name=='argument']; opts = [p for p in cmd.params if p.param_type_name=='option' and p.name!='help']
    arg = lambda p: p.metavar or p.name.strip('_').upper()
    show = lambda p: '' if p.default in (None, False, []) or callable(p.default) else code(str(p.default))
    usage = ' '.join([program, cmd.name, *(f'[{arg(p)}]' if not p.required else arg(p) for p in args), *(f'{p.opts[0]} {arg(p)}' for p in opts if p.required), *(['[OPTIONS]'] if any(not p.required for p in opts) else [])])
    spell = lambda p: ', '.join(f'`{o}`' for o in p.opts)+(f' {code(arg(p))}' if not p.is_flag else '')+''.join(f' / `{o}`' for o in p.secondary_opts)
    rows = [(code(arg(p)), dashes(p.help), 'required' if p.required else show(p)) for p in args]+[(spell(p), dashes(p.help), 'required' if p.required else show(p)) for p in opts]
    examples,_,rest = (cmd.epilog or '').partition('. '); examples = re.sub('^Examples?: ', '', examples).rstrip('.').replace(' | ', '\n')
    return '\n\n'.join(filter(None, [f'### {program} {cmd.name}', raw(html.escape(usage, quote=False)), dashes(cmd.help), table(('','','default'), rows), f'```sh\n{examples}\n```' if examples else '', dashes(rest)]))

def is_public(t): return isinstance(t, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (t.name[0]!='_' or t.name[:2]=='__')

def is_command(t): return any(ast.unparse(d).startswith('app.command') for d in t.decorator_list)

class Entries(Processor):
    "A place for an entry after each exported cell, for what it exports; it is written when all pages are known."
    def begin(self):
        cells = self.nb.cells; exported = [c for c in cells if c.cell_type=='code' and 'export' in c.directives_ and 'hide' not in c.directives_]; self.nb.names_ = []
        for c in reversed(exported):
            for t in reversed([t for t in c.parsed_() or [] if is_public(t)]): # the last first, since each goes right after the cell
                cells.insert(c.idx_+1, new := mk_cell('', 'markdown')); new.entry_ = (t, c.source); self.nb.names_ += [] if is_command(t) else [showdoc_nm(t)]
        self.nb.module_ = next((f"quantnb.{c.directives_['default_exp'][0]}" for c in cells if 'default_exp' in getattr(c, 'directives_', {})), None)
        if self.nb.module_ and exported: cells.insert(1, mk_cell(f'<p class="qnb-module">Module <code>{self.nb.module_}</code></p>', 'markdown'))

def write_entries(
    nb, # Notebook that `Entries` has processed
    links, # Function of a name: its address, or None
    commands:dict, # Name of a function to its command
):
    "Fill the places."
    for c in nb.cells:
        if not hasattr(c, 'entry_'): continue
        t,src = c.entry_; c.source = command(commands[t.name]) if is_command(t) else entry(t, src, showdoc_nm(t), links)
