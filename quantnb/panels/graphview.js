// A network, layered from top to bottom, and the table of its layers beside it. Positions come from the kernel, in two versions: with and without views.

const KINDS = { conv1d: 'conv 1d', conv2d: 'conv', dense: 'dense' };

function render({ model, el }) {
  const ui = frame(el, 'graphview', 'Graph of the network', draw);
  const get = k => model.get(k);
  const layer = p => get('layers').find(l => l.path === p);
  const bits = p => get('strategy')[p];
  const views = check('views', false, v => set(model, { views: v }), 'qnb-views'), blocks = check('blocks closed', false, v => set(model, { blocks: v, ...v ? { node: null } : {} }), 'qnb-blocks'), sum = make('span', { class: 'qnb-soft qnb-end qnb-sum' }), key = make('span', { class: 'qnb-legend' });
  const svg = make('svg', { class: 'qnb-svg', tabindex: 0, role: 'application', 'aria-label': 'Drawing of the network' }), world = make('g');
  const tool = (text, title, f) => make('button', { text, title, 'aria-label': title, onclick: f });
  const scene = make('div', { class: 'qnb-scene' }, svg, make('div', { class: 'qnb-tools' }, tool('+', 'zoom in (+)', () => zoom(1.3)), tool('−', 'zoom out (−)', () => zoom(1 / 1.3)), tool('fit', 'show all (0)', fit)));
  const find = make('input', { class: 'qnb-find', type: 'search', placeholder: 'filter: part of a path, kind, width or reason', 'aria-label': 'filter the layers', oninput: e => set(model, { query: e.target.value }) });
  const table = make('table', { 'aria-label': 'Layers' }), scroll = make('div', { class: 'qnb-scroll' }, table);
  const two = make('div', { class: 'qnb-two' }, scene, make('div', { class: 'qnb-side' }, find, scroll)), said = make('div', { class: 'qnb-said qnb-soft' });
  const pat = `qnb-hatch-${Math.random().toString(36).slice(2)}`;
  svg.append(make('defs', {}, make('pattern', { id: pat, width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, make('rect', { width: 6, height: 6, fill: '#c8ccd2' }), make('rect', { width: 2, height: 6, fill: '#aab0b8' }))), world);
  ui.ready(make('div', { class: 'qnb-bar' }, key, blocks, views, sum), two, said);

  let view = { x: 0, y: 0, k: 1 }, drawn = '', boxes = new Map(), paths = [], byLayer = new Map(), sort = { col: -1, down: false }, fitted = null;
  const closable = () => (get('scene_blocks').nodes || []).length > 0, closed = () => get('blocks') && closable();
  const data = () => get(closed() ? 'scene_blocks' : get('views') ? 'scene_all' : 'scene');

  // Pan and zoom move one group; what is drawn stays.
  function move() {
    world.setAttribute('transform', `translate(${view.x} ${view.y}) scale(${view.k})`);
    scene.classList.toggle('qnb-far', view.k < .33);
  }
  const area = () => { const r = svg.getBoundingClientRect(); return [r.width || 400, r.height || 400]; };
  function fit() { const [w, h] = area(), d = data(); const k = Math.min(1.25, (w - 24) / d.width, (h - 24) / d.height); view = { k, x: (w - d.width * k) / 2, y: Math.max(12, (h - d.height * k) / 2) }; move(); }
  function start() { const [w, h] = area(), d = data(); fit(); if (view.k < .7) { const k = Math.min(1, Math.max(.7, (w - 24) / d.width)), f = d.nodes[0]; view = { k, x: w / 2 - (f ? f.x : 0) * k, y: 12 }; if (d.width * k < w) view.x = (w - d.width * k) / 2; move(); } }
  function zoom(f, x, y) { const [w, h] = area(); x ??= w / 2; y ??= h / 2; const k = Math.max(.04, Math.min(4, view.k * f)); view = { k, x: x - (x - view.x) * k / view.k, y: y - (y - view.y) * k / view.k }; move(); }
  function show(n) { // bring a node into sight
    const [w, h] = area(), x = view.x + n.x * view.k, y = view.y + n.y * view.k;
    if (view.k < .45) { view.k = .8; } else if (x > 60 && x < w - 60 && y > 30 && y < h - 30) return;
    view.x = w / 2 - n.x * view.k; view.y = h / 2 - n.y * view.k; move();
  }

  const why = l => l && l.reason;
  const width = p => { const b = bits(p); return b ? b.w === b.a ? `${b.w}` : `W${b.w} A${b.a}` : ''; };
  const short = (s, n) => { for (let p = s.split('.'); s.length > n && p.length > 1;) { p = p.slice(1); s = '…' + p.join('.'); } return s.length > n ? s.slice(0, n - 1) + '…' : s; };

  function build() {
    const d = data(); boxes = new Map(); byLayer = new Map(); paths = [];
    const edges = make('g'), nodes = make('g');
    for (const [a, b, pts] of d.edges) {
      let s = `M${pts[0][0]} ${pts[0][1]}`;
      for (let i = 1; i < pts.length; i++) { const [x0, y0] = pts[i - 1], [x1, y1] = pts[i], m = (y0 + y1) / 2; s += ` C${x0} ${m} ${x1} ${m} ${x1} ${y1}`; }
      const p = make('path', { class: 'qnb-edge', d: s }); edges.append(p); paths.push([a, b, p]);
    }
    for (const n of d.nodes) {
      const l = n.layer ? layer(n.layer) : null, e = make('g', { class: 'qnb-node' + (l ? why(l) ? ' qnb-not' : ' qnb-lay' : n.id < 0 ? ' qnb-end' : ' qnb-op'), transform: `translate(${n.x} ${n.y})` },
        make('rect', { x: -n.w / 2, y: -n.h / 2, width: n.w, height: n.h, rx: l ? 5 : n.h / 2 }));
      if (n.layers) {
        const c = (n.w - 14) / n.layers.length; e.setAttribute('class', 'qnb-node qnb-block'); e.firstChild.setAttribute('rx', 5);
        e.append(make('text', { y: -9, text: n.block }), ...n.layers.map((p, i) => make('rect', { class: 'qnb-bar1', x: -n.w / 2 + 7 + i * c, y: 2, width: Math.max(1, c - 1), height: 13, rx: 1.5 })));
        e.addEventListener('dblclick', () => open(n));
      } else if (l) e.append(make('text', { y: -7, text: short(n.layer, 26) }), make('text', { y: 8, class: 'qnb-bits' })); else e.append(make('text', { y: .5, text: n.label }));
      e.addEventListener('pointermove', ev => ui.show(() => boxes.get(n.id)?.[0] === n ? card(n) : null, () => [ev.clientX, ev.clientY])); e.addEventListener('pointerleave', () => ui.hide());
      e.addEventListener('click', () => { if (!dragged) choose(n); });
      nodes.append(e); boxes.set(n.id, [n, e]); for (const p of n.layers || [n.layer]) if (p && !byLayer.has(p)) byLayer.set(p, n);
    }
    world.replaceChildren(edges, nodes);
  }

  function paint() {
    for (const [n, e] of boxes.values()) {
      (n.layers || []).forEach((p, i) => { const b = bits(p), out = layer(p)?.reason; e.children[2 + i].style.fill = out || b && b.w === 32 ? `url(#${pat})` : b ? color(b.w) : ui.dark ? '#1f4b7a' : '#cfe3f8'; });
      if (!n.layer) continue;
      const l = layer(n.layer), b = bits(n.layer), r = e.firstChild, t = e.children[1], u = e.children[2];
      const fill = why(l) || b && b.w === 32 ? `url(#${pat})` : b ? color(b.w) : ui.dark ? '#1f4b7a' : '#cfe3f8', fg = why(l) || b && b.w === 32 ? '#111' : b ? ink(color(b.w)) : ui.dark ? '#fff' : '#111';
      r.style.fill = fill; t.style.fill = fg; u.style.fill = fg;
      u.textContent = why(l) ? 'float' : b ? width(n.layer) + (b.w === b.a ? ' bits' : '') : KINDS[l.kind] || l.kind;
    }
    const sel = get('selected'), id = get('node');
    for (const [n, e] of boxes.values()) e.classList.toggle('qnb-on', id !== null ? n.id === id : !!sel && (n.layer === sel || !!n.layers?.includes(sel)));
    const on = id !== null ? id : byLayer.get(sel)?.id;
    for (const [a, b, p] of paths) p.classList.toggle('qnb-near', on !== undefined && (a === on || b === on));
    const ls = get('layers'), ok = ls.filter(l => !l.reason), used = [...new Set(ok.map(l => bits(l.path)?.w).filter(Boolean))].sort((a, b) => a - b);
    key.replaceChildren(used.length ? legend(used.includes(32) || ok.length === ls.length ? used : [...used, 32], 'bits of the weights') : make('span', { class: 'qnb-legend' }, make('span', { class: 'qnb-key', style: { background: ui.dark ? '#1f4b7a' : '#cfe3f8' } }), make('span', { text: 'can be quantized' }), ...(ok.length < ls.length ? [make('span', { class: 'qnb-key qnb-float', style: { background: COLORS[32], marginLeft: '10px' } }), make('span', { text: 'stays float' })] : [])));
    sum.textContent = `${plural(get('operators'), 'operator')} · ${plural(ls.length, 'layer')}, ${ok.length} can be quantized`;
  }

  function facts(n) {
    if (n.layers) { const ws = n.layers.filter(p => !layer(p)?.reason); return [`${plural(n.layers.length, 'layer')}, ${ws.length} can be quantized`, ws.some(p => bits(p)) ? `weights: ${ws.map(p => `${p.slice(n.block.length + 1)} ${bits(p) ? bits(p).w : ''}`).join(', ')} bits` : '', 'double-click or Enter: open the blocks']; }
    const l = n.layer && layer(n.layer);
    return l ? [`${KINDS[l.kind] || l.kind} ${n.label}${n.shape ? ' → ' + n.shape : ''}`, `${plural(l.n, 'weight')}${l.macs ? ` · ${count(l.macs)} MACs` : ''}`, why(l) ? `stays float: ${why(l)}` : bits(n.layer) ? `weights ${bits(n.layer).w} bits, activation ${bits(n.layer).a} bits` : 'can be quantized', l.note || '']
      : [n.id < 0 ? n.shape || '' : `${n.shape ? '→ ' + n.shape : ''}`, n.scope ? `in ${n.scope}` : ''];
  }
  const card = n => [make('b', { text: n.layer || n.label }), ...facts(n).filter(Boolean).map(t => make('div', { text: t }))];
  function choose(n, see) {
    set(model, { node: n.id, selected: n.layer || '' }); ui.say([n.layer || n.label, ...facts(n)].filter(Boolean).join(', '));
    if (see) show(n);
  }
  function open(n) { set(model, { blocks: false, node: null, selected: n.layers[0] }); }
  function tell() {
    const n = boxes.get(get('node'))?.[0] || byLayer.get(get('selected')), l = !n && layer(get('selected'));
    said.textContent = n ? [n.layer || n.label, ...facts(n)].filter(Boolean).join(' · ') : l ? [l.path, l.reason, l.note].filter(Boolean).join(' · ') : 'Drag to move, Ctrl+wheel or + and − to zoom; click an operator, or walk with the arrow keys.';
  }

  // The table: filtered by words, sorted by a column.
  const cols = [['layer', l => l.path], ['kind', l => KINDS[l.kind] || l.kind], ['weights', l => l.n, 1], ['MACs', l => l.macs, 1], ['bits', l => why(l) ? 'float' : width(l.path)], ['why not, or note', l => l.reason || l.note || '']];
  function rowsOf() {
    const words = get('query').toLowerCase().split(/\s+/).filter(Boolean);
    const ls = get('layers').filter(l => { const t = cols.map(c => c[1](l)).join(' ').toLowerCase(); return words.every(w => t.includes(w)); });
    if (sort.col >= 0) { const f = cols[sort.col][1]; ls.sort((a, b) => { const x = f(a), y = f(b); return (typeof x === 'number' ? x - y : String(x).localeCompare(String(y), 'en', { numeric: true })) * (sort.down ? -1 : 1); }); }
    return ls;
  }
  function list() {
    if (find.value !== get('query')) find.value = get('query');
    const had = table.contains(el.getRootNode().activeElement) && el.getRootNode().activeElement.dataset.path;
    const has = i => i < 4 && get('layers').some(l => cols[i][1](l)) || i === 4 && get('layers').some(l => bits(l.path)) || i === 5 && get('layers').some(l => l.reason || l.note), use = cols.map((c, i) => i).filter(has), ls = rowsOf();
    const head = make('tr', {}, ...use.map(i => make('th', { class: cols[i][2] ? 'qnb-num' : '', scope: 'col', 'aria-sort': sort.col === i ? sort.down ? 'descending' : 'ascending' : 'none' },
      make('button', { text: cols[i][0] + (sort.col === i ? sort.down ? ' ▾' : ' ▴' : ''), onclick: () => { sort = sort.col === i ? sort.down ? { col: -1, down: false } : { col: i, down: true } : { col: i, down: !!cols[i][2] && false }; list(); } }))));
    const sel = get('selected');
    const body = ls.map((l, j) => make('tr', { tabindex: l.path === sel || !ls.some(o => o.path === sel) && !j ? 0 : -1, 'data-path': l.path, 'aria-selected': l.path === sel, onclick: () => take(l.path), onkeydown: e => {
      const o = { ArrowDown: j + 1, ArrowUp: j - 1, Home: 0, End: ls.length - 1 }[e.key];
      if (o === undefined && e.key !== 'Enter' && e.key !== ' ') return;
      e.preventDefault(); e.stopPropagation(); const t = ls[Math.max(0, Math.min(ls.length - 1, o ?? j))]; take(t.path); table.querySelector(`tr[data-path="${CSS.escape(t.path)}"]`)?.focus(); } },
      ...use.map(i => { const v = cols[i][1](l), b = i === 4 && bits(l.path); return make('td', { class: (cols[i][2] ? 'qnb-num' : '') + (i === 5 ? ' qnb-why' : '') },
        i === 4 && (b || why(l)) ? make('span', { class: 'qnb-key' + (why(l) || b.w === 32 ? ' qnb-float' : ''), text: v, style: { background: color(why(l) ? 32 : b.w), color: ink(color(why(l) ? 32 : b.w)) } }) : typeof v === 'number' ? count(v) : v); })));
    table.replaceChildren(make('thead', {}, head), make('tbody', {}, ...(body.length ? body : [make('tr', {}, make('td', { class: 'qnb-soft', colspan: use.length, text: 'no layer contains all these words' }))])));
    if (had) table.querySelector(`tr[data-path="${CSS.escape(had)}"]`)?.focus();
  }
  function take(path) { const n = byLayer.get(path); if (n?.layers) { set(model, { node: null, selected: path }); show(n); } else if (n) choose(n, true); else { set(model, { selected: path, node: null }); } }

  // Keys in the drawing: down and up along the edges, left and right within a rank.
  svg.addEventListener('keydown', e => {
    const d = data(), n = boxes.get(get('node'))?.[0] || byLayer.get(get('selected'));
    const by = list => { const o = list.filter(Boolean); if (o.length) choose(o.reduce((a, b) => Math.abs(b.x - n.x) < Math.abs(a.x - n.x) ? b : a), true); };
    const near = (i, j) => d.edges.filter(o => o[i] === n.id).map(o => boxes.get(o[j])[0]);
    const side = s => { const o = d.nodes.filter(m => m.rank === n.rank && (m.x - n.x) * s > 0).sort((a, b) => (a.x - b.x) * s)[0]; if (o) choose(o, true); };
    const act = { '+': () => zoom(1.3), '=': () => zoom(1.3), '-': () => zoom(1 / 1.3), '0': fit, Escape: () => set(model, { node: null, selected: '' }), Enter: () => n?.layers && open(n),
      ArrowDown: () => n ? by(near(0, 1)) : d.nodes[0] && choose(d.nodes[0], true), ArrowUp: () => n && by(near(1, 0)), ArrowRight: () => n && side(1), ArrowLeft: () => n && side(-1),
      Home: () => d.nodes[0] && choose(d.nodes[0], true), End: () => d.nodes.length && choose(d.nodes[d.nodes.length - 1], true) }[e.key];
    if (!act || e.ctrlKey || e.metaKey) return;
    act(); e.preventDefault(); e.stopPropagation();
  });
  let grip = null, dragged = false;
  svg.addEventListener('pointerdown', e => { if (e.button) return; grip = [e.clientX, e.clientY, view.x, view.y]; dragged = false; });
  svg.addEventListener('pointermove', e => {
    if (!grip) return;
    const dx = e.clientX - grip[0], dy = e.clientY - grip[1];
    if (!dragged && Math.hypot(dx, dy) > 4) { dragged = true; svg.setPointerCapture(e.pointerId); svg.classList.add('qnb-drag'); ui.hide(); }
    if (dragged) { view.x = grip[2] + dx; view.y = grip[3] + dy; move(); }
  });
  const drop = () => { grip = null; svg.classList.remove('qnb-drag'); setTimeout(() => { dragged = false; }); };
  svg.addEventListener('pointerup', drop); svg.addEventListener('pointercancel', drop);
  svg.addEventListener('wheel', e => { // the page keeps its wheel, unless the drawing has the focus
    const r = svg.getBoundingClientRect();
    if (e.ctrlKey || e.metaKey) zoom(Math.exp(-e.deltaY * .0022), e.clientX - r.left, e.clientY - r.top);
    else if (el.getRootNode().activeElement === svg) { view.x -= e.deltaX; view.y -= e.deltaY; move(); }
    else return;
    e.preventDefault(); ui.hide();
  }, { passive: false });

  let shown = null;
  function draw() {
    two.classList.toggle('qnb-narrow', ui.width < 900);
    blocks.querySelector('input').checked = closed(); blocks.hidden = !closable(); views.querySelector('input').checked = get('views'); views.hidden = closed() || get('scene_all').nodes.length === get('scene').nodes.length;
    if (shown !== data()) { shown = data(); build(); start(); const n = boxes.get(get('node'))?.[0] || byLayer.get(get('selected')); if (n) show(n); }
    else if (fitted !== ui.width) start();
    fitted = ui.width;
    paint(); list(); tell();
  }
  let last = '';
  const end = follow(model, ['scene', 'scene_all', 'scene_blocks', 'layers', 'strategy', 'selected', 'node', 'views', 'blocks', 'query', 'operators'], () => ui.ask());
  const jump = follow(model, ['selected'], () => { const n = byLayer.get(get('selected')); if (n && last !== get('selected') && shown === data()) show(n); last = get('selected'); });
  return () => { end(); jump(); ui.end(); };
}
export default { render };
