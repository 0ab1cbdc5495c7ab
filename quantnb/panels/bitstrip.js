// Layers as a strip of cells: the width of a layer is in its cell, the cell is the wider the more weights (or MACs) the layer has.

const MIN = 27, GAP = 2, SIDE = 24, BLOCKS = 6;

function render({ model, el }) {
  const ui = frame(el, 'bitstrip', 'Bit-widths of the layers', draw);
  const get = k => model.get(k);
  let cells = new Map(), shape = '', focus = ['', 'w'], order = [];

  const bits = p => get('strategy')[p] || { w: 32, a: 32 };
  const tied = () => !get('act_candidates').length;
  const list = what => what === 'a' && !tied() ? get('act_candidates') : get('candidates');
  const fixed = l => l.reason || (get('pinned').includes(l.path) ? 'pinned' : '');
  const editable = (l, what) => !get('readonly') && !fixed(l) && list(what).length > 1;
  const floating = () => get('act_candidates').every(a => a === 32) && get('layers').every(l => bits(l.path).a === 32);
  const both = () => !floating() && (!tied() || get('layers').some(l => bits(l.path).w !== bits(l.path).a));
  const words = l => { const b = bits(l.path); return fixed(l) && b.w === 32 ? 'float' : b.w === b.a && tied() ? `${b.w} bits` : `weights ${b.w} bits, activation ${b.a} bits`; };

  const undo = make('button', { class: 'qnb-undo', text: '↶ Undo', title: 'Take the last change back (Ctrl+Z)', onclick: takeBack });
  const size = pick('cell width', [['n', 'weights'], ['macs', 'MACs'], ['', 'equal']], get('size_by'), v => set(model, { size_by: v }), 'qnb-size');
  const key = make('span', { class: 'qnb-legend' }), sum = make('span', { class: 'qnb-soft qnb-sum' });
  const rows = make('div', { class: 'qnb-rows' }), detail = make('div', { class: 'qnb-detail' }), caption = make('div', { class: 'qnb-caption qnb-soft' });
  ui.ready(make('div', { class: 'qnb-bar' }, undo, size, key, make('span', { class: 'qnb-end' }, sum)), rows, detail, caption);

  // What is changed, and the way back: every entry of `past` holds what the layers had before.
  function change(path, what, to) {
    const old = bits(path), b = what === 'w' && tied() ? { w: to, a: to } : { ...old, [what]: to };
    if (old.w === b.w && old.a === b.a) return;
    set(model, { past: [...get('past'), { [path]: old }], strategy: { ...get('strategy'), [path]: b }, selected: path });
    ui.say(`${path}: ${words({ path })}`);
  }
  function takeBack() {
    const past = get('past');
    if (!past.length) return;
    const last = past[past.length - 1], paths = Object.keys(last);
    set(model, { past: past.slice(0, -1), strategy: { ...get('strategy'), ...last }, selected: paths[0] });
    ui.say(`undone, ${paths.map(p => `${p}: ${words({ path: p })}`).join('; ')}`);
  }
  function step(l, what, by, wrap) {
    if (!editable(l, what)) { ui.say(`${l.path}: ${fixed(l) || 'cannot be changed'}`); return; }
    const c = list(what), i = c.indexOf(bits(l.path)[what]), j = i < 0 ? 0 : i + by;
    change(l.path, what, c[wrap ? (j + c.length) % c.length : Math.max(0, Math.min(c.length - 1, j))]);
  }

  function onkey(e, l, what) {
    const ls = order, i = ls.findIndex(o => o.path === l.path);
    const go = j => { const o = ls[Math.max(0, Math.min(ls.length - 1, j))]; set(model, { selected: o.path }); cell(o.path, what).focus(); };
    const act = { ArrowRight: () => go(i + 1), ArrowLeft: () => go(i - 1), Home: () => go(0), End: () => go(ls.length - 1),
      ArrowUp: () => step(l, what, 1), ArrowDown: () => step(l, what, -1), Enter: () => step(l, what, 1, true), ' ': () => step(l, what, 1, true) }[e.key];
    if (act && !e.ctrlKey && !e.metaKey) { act(); }
    else if ((e.ctrlKey || e.metaKey) && e.key === 'z') takeBack();
    else if (/^\d$/.test(e.key) && list(what).includes(+e.key)) { if (editable(l, what)) change(l.path, what, +e.key); }
    else return;
    e.preventDefault(); e.stopPropagation();
  }

  // As much of a path as fits, cut between its parts: without an ending that most layers share, then without beginnings.
  const pen = document.createElement('canvas').getContext('2d');
  function short(path, w) {
    pen.font = `10px ${getComputedStyle(ui.root).fontFamily}`;
    const ps = path.split('.'), end = ps[ps.length - 1], ls = get('layers'), shared = ps.length > 1 && ls.length > 2 && ls.filter(l => l.path.endsWith('.' + end)).length > ls.length / 2;
    const own = shared ? ps.slice(0, -1) : ps, ways = [path, ...own.map((_, i) => own.slice(i).join('.'))];
    return ways.find(t => pen.measureText(t).width <= w - 2) || '';
  }

  // Cells are `MIN` wide and share what is left of the rows by `n` or `macs`; the last row is not stretched.
  function strip(ls, width) {
    const by = get('size_by'), total = ls.reduce((s, l) => s + (l[by] || 0), 0);
    const n = Math.max(1, Math.ceil(ls.length * (MIN + GAP) / (width * (by ? .72 : 1))));
    const spare = by && total ? Math.max(0, n * width * .98 - ls.length * (MIN + GAP)) : 0;
    const even = by ? MIN : Math.max(MIN, Math.min(64, width / Math.ceil(ls.length / n) - GAP));
    const res = []; let row = null, x = Infinity;
    for (const l of ls) {
      const w = Math.min(width - GAP, spare ? MIN + spare * (l[by] || 0) / total : even);
      if (x + w > width + 1) { row = []; res.push({ cells: row }); x = 0; }
      row.push([l, w]); x += w + GAP;
    }
    return res;
  }

  const bare = l => !l.n && l.reason; // a product of two activations, for instance: nothing of it can be changed

  // Blocks that are repeated: their layers' paths begin alike, have a number there, and go on alike in each block. { place: grid or nothing }
  function repeated(ls) {
    const found = new Map();
    for (const l of ls.filter(o => !bare(o))) {
      const m = /^(.*?)(\d+)(\D.*)$/.exec(l.path);
      if (!m) continue;
      const g = found.get(m[1]) || found.set(m[1], { columns: new Map(), rows: new Map(), n: 0 }).get(m[1]), kind = m[3].replace(/\d+/g, '#');
      const block = g.columns.get(m[2]) || g.columns.set(m[2], new Map()).get(m[2]), k = block.get(kind) || 0; block.set(kind, k + 1); g.n++;
      const key = kind.replace(/^[._]/, '') + (k ? ` ${k + 1}` : ''); (g.rows.get(key) || g.rows.set(key, []).get(key)).push(l);
    }
    const grids = [...found].filter(([, g]) => g.columns.size >= BLOCKS && g.rows.size > 1 && g.n === g.columns.size * g.rows.size && [...g.rows.values()].every(r => r.length === g.columns.size));
    return new Map(grids.flatMap(([name, g]) => { const grid = { name, heads: [...g.columns.keys()], rows: [...g.rows] }; return grid.rows.flatMap(([, r]) => r.map(l => [l.path, grid])); }));
  }

  // A row for each kind of layer and a column for each block, where blocks are repeated; strips of the layers before, between and behind.
  function layout(ls, width) {
    const of = repeated(ls), res = [], done = new Set(), shown = of.size ? ls.filter(l => !bare(l)) : ls; let loose = [];
    const flush = () => { if (loose.length) res.push(...strip(loose, width)); loose = []; };
    for (const l of shown) {
      const g = of.get(l.path);
      if (!g) { loose.push(l); continue; }
      if (done.has(g)) continue;
      flush(); done.add(g);
      pen.font = `11px ${getComputedStyle(ui.root).fontFamily}`;
      const side = Math.min(width / 3, 12 + Math.max(...g.rows.map(([k]) => pen.measureText(k).width))), w = Math.max(16, Math.min(MIN + 9, (width - side) / g.heads.length - GAP));
      g.rows.forEach(([kind, r], i) => res.push({ kind, side, heads: i ? null : g.heads, cells: r.map(o => [o, w]) }));
    }
    flush();
    if (shown.length < ls.length) res.push({ cells: [], text: `${plural(ls.length - shown.length, 'layer')} without weights of their own` });
    return res;
  }

  function build() {
    const ls = get('layers'), two = both();
    cells = new Map();
    const plan = layout(ls, ui.width - 6 - SIDE); order = plan.flatMap(r => r.cells.map(([l]) => l));
    rows.replaceChildren(...plan.map(r => r.text ? make('div', { class: 'qnb-soft', text: r.text }) : make('div', { class: 'qnb-row' + (r.kind ? ' qnb-kind' : '') + (r.heads ? ' qnb-first' : '') },
      make('div', { class: 'qnb-sides', 'aria-hidden': 'true' }, make('span'), make('span', { text: two ? 'W' : '' }), two && make('span', { text: 'A', class: 'qnb-a' })),
      r.kind && make('div', { class: 'qnb-label', text: r.kind, title: r.kind, style: { width: `${r.side}px` } }),
      ...r.cells.map(([l, w], i) => {
        const at = what => make('div', { class: 'qnb-w' + (what === 'a' ? ' qnb-a' : ''), role: 'spinbutton', tabindex: -1, 'data-path': l.path, 'data-what': what,
          onkeydown: e => onkey(e, l, what), onfocus: () => { focus = [l.path, what]; roving(); },
          onclick: e => { if (editable(l, what)) step(l, what, e.shiftKey ? -1 : 1, true); else set(model, { selected: l.path }); cell(l.path, what).focus(); } });
        const c = [at('w'), two && at('a')];
        const box = make('div', { class: 'qnb-layer', style: { width: `${w}px` },
          onpointermove: e => { ui.show(() => cells.has(l.path) ? note(get('layers').find(o => o.path === l.path)) : null, () => [e.clientX, e.clientY]); }, onpointerleave: () => ui.hide() },
          (!r.kind || r.heads) && make('div', { class: 'qnb-name', text: r.heads ? r.heads[i] : short(l.path, w), 'aria-hidden': 'true' }), ...c);
        cells.set(l.path, { box, w: c[0], a: c[1], l });
        return box;
      }))));
  }
  const cell = (p, what) => { const c = cells.get(p); return c && (c[what] || c.w); };
  function roving() {
    const first = focus[0] && cells.has(focus[0]) ? focus[0] : cells.keys().next().value;
    for (const [p, c] of cells) for (const o of [c.w, c.a]) if (o) o.tabIndex = p === first ? 0 : -1;
  }

  function paint() {
    const sel = get('selected');
    for (const [p, { box, w, a, l }] of cells) {
      const b = bits(p), why = fixed(l);
      box.classList.toggle('qnb-on', p === sel); box.classList.toggle('qnb-fixed', !!why || get('readonly'));
      for (const [e, what] of [[w, 'w'], [a, 'a']]) {
        if (!e) continue;
        const v = b[what], c = list(what);
        e.textContent = v; e.style.background = color(v); e.style.color = ink(color(v)); e.classList.toggle('qnb-float', v === 32);
        for (const [k, s] of Object.entries({ 'aria-valuenow': v, 'aria-valuemin': Math.min(v, ...c), 'aria-valuemax': Math.max(v, ...c), 'aria-valuetext': `${v} bits${why ? ', ' + why : ''}`,
          'aria-label': `${what === 'w' ? tied() ? 'weights and activation' : 'weights' : 'activation'} of ${p}`, 'aria-readonly': !editable(l, what) })) e.setAttribute(k, s);
      }
    }
    const ls = get('layers'), n = ls.reduce((s, l) => s + l.n, 0), used = ls.reduce((s, l) => s + l.n * bits(l.path).w, 0);
    sum.textContent = n ? `${fmt(used / n, 3)} bits a weight on average · ${fmt(used / 8e3, 4)} KB of weights (float ${fmt(n / 250, 4)})${floating() && used < 32 * n ? ' · activations float' : ''}` : '';
    undo.disabled = !get('past').length || get('readonly'); undo.title = undo.disabled ? 'Nothing was changed by hand' : 'Take the last change back (Ctrl+Z)'; undo.hidden = get('readonly');
    const shown = [...new Set(ls.flatMap(l => [bits(l.path).w, bits(l.path).a]).concat(get('candidates')))].sort((x, y) => x - y);
    key.replaceChildren(legend(shown, shown.includes(32) ? 'bits (32 = float)' : 'bits'));
    caption.textContent = get('caption'); caption.hidden = !get('caption');
    about(ls.find(l => l.path === sel));
    roving();
  }

  function note(l) {
    const ls = get('layers'), all = k => ls.reduce((s, o) => s + (o[k] || 0), 0) || 1, kb = o => o.n * bits(o.path).w / 8e3, size = ls.reduce((s, o) => s + kb(o), 0) || 1, share = v => `${fmt(100 * v, 3)} %`;
    return [make('b', { text: l.path }), make('div', { text: `${words(l)}: ${fmt(kb(l), 3)} KB of weights, ${share(kb(l) / size)} of all${bits(l.path).w < 32 ? ` (float ${fmt(l.n / 250, 3)} KB)` : ''}` }), make('div', { class: 'qnb-soft', text: `${plural(l.n, 'weight')}${l.macs ? ` · ${count(l.macs)} MACs, ${share(l.macs / all('macs'))} of all` : ''}` }), l.note && make('div', { class: 'qnb-soft', text: l.note }), fixed(l) && make('div', { text: `not changed: ${fixed(l)}` })].filter(Boolean);
  }
  function about(l) {
    if (!l) { detail.replaceChildren(make('span', { class: 'qnb-soft', text: get('readonly') ? 'Point at a layer to read about it.' : 'Click a cell for the next width, shift-click for the one before; or ←→ to walk, ↑↓ or a digit to change.' })); return; }
    const chips = what => make('span', { class: 'qnb-chips', role: 'group', 'aria-label': what === 'a' ? 'activation' : 'weights' },
      make('span', { class: 'qnb-soft', text: what === 'a' ? 'activation' : tied() ? 'width' : 'weights' }),
      ...list(what).map(b => make('button', { 'aria-pressed': bits(l.path)[what] === b, 'data-bits': b, 'data-what': what, title: `${b} bits`, onclick: () => { change(l.path, what, b); detail.querySelector(`button[data-what="${what}"][data-bits="${b}"]`)?.focus(); } },
        make('i', { style: { background: color(b) } }), String(b))));
    const why = fixed(l);
    detail.replaceChildren(...[make('b', { text: l.path }), make('span', { class: 'qnb-soft', text: [plural(l.n, 'weight'), l.macs && `${count(l.macs)} MACs`, l.note].filter(Boolean).join(' · ') }),
      why ? make('span', { text: `stays at ${words(l)}: ${why}` }) : get('readonly') ? make('span', { text: words(l) }) : null,
      editable(l, 'w') && chips('w'), !tied() && editable(l, 'a') && chips('a')].filter(Boolean));
  }

  function draw() {
    const two = both();
    const now = JSON.stringify([ui.width, get('size_by'), get('act_candidates').length > 0, two, get('layers').map(l => [l.path, l.n, l.macs])]);
    if (now !== shape) { const had = rows.contains(document.activeElement || null) || rows.contains(el.getRootNode().activeElement); shape = now; build(); if (had) cell(...focus)?.focus(); }
    size.querySelector('select').value = get('size_by');
    paint();
  }
  const end = follow(model, ['layers', 'candidates', 'act_candidates', 'strategy', 'selected', 'size_by', 'pinned', 'readonly', 'past', 'caption'], () => ui.ask());
  return () => { end(); ui.end(); };
}
export default { render };
