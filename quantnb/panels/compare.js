// Several runs over one another: their fronts, and the widths of their layers. Nothing here needs a kernel.

const INK = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9']; // Okabe and Ito, 2008
const DARK = ['#56b4e9', '#ff8c42', '#2fc79a', '#e59ac4', '#f0b429', '#9ad7ff'];
const SHAPES = [
  (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (x, y, r) => `M${x} ${y - 1.2 * r}L${x + 1.1 * r} ${y + r}H${x - 1.1 * r}z`,
  (x, y, r) => `M${x} ${y - 1.3 * r}L${x + 1.3 * r} ${y}L${x} ${y + 1.3 * r}L${x - 1.3 * r} ${y}z`,
  (x, y, r) => `M${x} ${y + 1.2 * r}L${x + 1.1 * r} ${y - r}H${x - 1.1 * r}z`];
const star = (x, y, r) => 'M' + [...Array(10).keys()].map(i => { const a = i * Math.PI / 5 - Math.PI / 2, q = i % 2 ? r * .45 : r; return `${(x + q * Math.cos(a)).toFixed(1)} ${(y + q * Math.sin(a)).toFixed(1)}`; }).join('L') + 'z';

function fronts({ model, el }) {
  const get = k => model.get(k), runs = get('runs'), ui = frame(el, 'compare', 'Fronts of several runs', draw), hidden = new Set();
  const label = m => get('labels')[m] || m, up = m => get('directions')[m] === 'MAX', inked = k => (ui.dark ? DARK : INK)[k % INK.length], shape = k => SHAPES[k % SHAPES.length];
  const axis = k => pick(k === 'x' ? 'across' : 'up', get('metrics').map(m => [m, label(m)]), get(k), v => { model.set(k, v); ui.hide(); ui.ask(); }, `qnb-${k}`);
  const keys = runs.map((r, k) => make('button', { type: 'button', class: 'qnb-run', 'aria-pressed': true, title: 'show or hide this run', onclick: () => { hidden.has(k) ? hidden.delete(k) : hidden.add(k); ui.ask(); } }));
  const box = make('div', { tabindex: 0, role: 'application', class: 'qnb-plot' });
  ui.ready(make('div', { class: 'qnb-bar' }, axis('y'), axis('x')), make('div', { class: 'qnb-bar' }, ...keys), box);
  let points = [], cursor = -1;

  // No other episode of the run is better in one of the two metrics and at least as good in the other.
  function pareto(rows, x, y) {
    const sx = up(x) ? -1 : 1, sy = up(y) ? -1 : 1, res = [];
    for (const p of rows.filter(p => Number.isFinite(p[x]) && Number.isFinite(p[y])).sort((a, b) => sx * (a[x] - b[x]) || sy * (a[y] - b[y]))) if (!res.length || sy * p[y] < sy * res[res.length - 1][y]) res.push(p);
    return res;
  }
  function draw() {
    const x = get('x'), y = get('y'), W = ui.width, H = W < 560 ? 300 : 380, l = 62, r = W - 14, t = 10, b = H - 42;
    keys.forEach((e, k) => { e.setAttribute('aria-pressed', !hidden.has(k)); e.replaceChildren(make('svg', { viewBox: '0 0 22 12', height: 12 }, make('path', { d: 'M0 6H22', stroke: inked(k), 'stroke-width': 1.6 }), make('path', { d: shape(k)(11, 6, 3.6), fill: inked(k) })), make('span', { text: runs[k].name })); });
    const seen = runs.map((o, k) => hidden.has(k) ? { front: [], best: null } : { front: pareto(o.rows, x, y), best: o.rows.find(p => p.episode === o.delivered) });
    const all = seen.flatMap(o => [...o.front, ...(o.best ? [o.best] : [])]).filter(p => Number.isFinite(p[x]) && Number.isFinite(p[y]));
    const range = m => {
      const vs = all.map(p => p[m]); if (!vs.length) return [0, 1];
      let lo = Math.min(...vs), hi = Math.max(...vs); const span = hi - lo || Math.abs(hi) * .02 || 1;
      for (const o of [get('floats')[m], get('targets')[m]]) if (Number.isFinite(o) && o > lo - .4 * span && o < hi + .4 * span) { lo = Math.min(lo, o); hi = Math.max(hi, o); }
      const pad = .06 * (hi - lo || span); return [lo - pad, hi + pad];
    };
    const rx = range(x), ry = range(y), px = v => l + (v - rx[0]) / (rx[1] - rx[0]) * (r - l), py = v => b - (v - ry[0]) / (ry[1] - ry[0]) * (b - t);
    const tx = ticks(...rx, Math.max(3, (r - l) / 95)), ty = ticks(...ry, Math.max(3, (b - t) / 48)), svg = make('svg', { viewBox: `0 0 ${W} ${H}`, height: H });
    const line = (cls, x1, y1, x2, y2) => svg.append(make('line', { class: cls, x1, y1, x2, y2 })), text = (s, x, y, anchor, cls = '', more = {}) => svg.append(make('text', { x, y, 'text-anchor': anchor, class: cls, text: s, ...more }));
    tx.forEach(v => line('grid', px(v), t, px(v), b)); ty.forEach(v => line('grid', l, py(v), r, py(v)));
    numbers(tx).forEach((s, i) => text(s, px(tx[i]), b + 15, 'middle', 'soft')); numbers(ty).forEach((s, i) => text(s, l - 7, py(ty[i]) + 4, 'end', 'soft'));
    text(label(x), (l + r) / 2, H - 4, 'middle', '', { style: { 'font-size': '12px' } }); text(label(y), 0, 0, 'middle', '', { transform: `translate(12 ${(t + b) / 2}) rotate(-90)` });
    const inside = (v, [lo, hi]) => Number.isFinite(v) && v >= lo && v <= hi, T = get('targets'), F = get('floats')[y];
    if (inside(T[x], rx)) { line('target', px(T[x]), t, px(T[x]), b); const end = px(T[x]) + 80 > r; text(`asked ${up(x) ? '≥' : '≤'} ${fmt(T[x])}`, px(T[x]) + (end ? -5 : 5), b - 5, end ? 'end' : 'start', 'halo on'); }
    if (inside(T[y], ry)) { line('target', l, py(T[y]), r, py(T[y])); text(`asked ${up(y) ? '≥' : '≤'} ${fmt(T[y])}`, r - 5, py(T[y]) - 4, 'end', 'halo on'); }
    if (inside(F, ry)) { line('float', l, py(F), r, py(F)); text(`float ${fmt(F)}`, l + 5, py(F) - 4, 'start', 'halo soft'); }
    points = []; const stars = [];
    seen.forEach((o, k) => {
      const c = inked(k), first = !up(x); // with smaller across better, what was reached holds to the right
      let d = ''; o.front.slice().sort((a, b) => a[x] - b[x]).forEach((p, i, ps) => { const q = ps[i - 1]; d += !i ? `M${px(p[x])} ${py(p[y])}` : first ? `H${px(p[x])}V${py(p[y])}` : `V${py(p[y])}H${px(p[x])}`; });
      svg.append(make('path', { d, fill: 'none', stroke: c, 'stroke-width': 1.6, opacity: .8 }));
      for (const p of o.front) { svg.append(make('path', { d: shape(k)(px(p[x]), py(p[y]), 4), fill: c, stroke: 'var(--back)', 'stroke-width': 1 })); points.push({ k, p, x: px(p[x]), y: py(p[y]) }); }
      if (o.best && Number.isFinite(o.best[x]) && Number.isFinite(o.best[y])) { const q = { k, p: o.best, x: px(o.best[x]), y: py(o.best[y]), star: true }; stars.push(make('path', { d: star(q.x, q.y, 10), fill: c, stroke: 'var(--fg)', 'stroke-width': 1.2 })); points = points.filter(o => o.k !== k || o.p !== q.p); points.push(q); }
    });
    points.sort((a, b) => a.x - b.x || a.k - b.k); cursor = -1; ui.hide();
    svg.append(...stars, make('circle', { class: 'qnb-at', r: 9, fill: 'none', stroke: 'var(--mark)', 'stroke-width': 2, visibility: 'hidden' }));
    box.replaceChildren(svg); box.setAttribute('aria-label', `${plural(points.length, 'point')} of ${plural(runs.length - hidden.size, 'run')}. Arrow keys walk along them.`); el.dataset.drawn = points.length;
  }
  function at(i, speak) {
    cursor = i; const o = points[i], ring = box.querySelector('.qnb-at');
    if (!o) { ui.hide(); ring?.setAttribute('visibility', 'hidden'); return; }
    const run = runs[o.k], words = o.star ? ` · ${run.mark}` : '';
    ring.setAttribute('cx', o.x); ring.setAttribute('cy', o.y); ring.setAttribute('visibility', 'visible');
    const vals = get('metrics').filter(m => Number.isFinite(o.p[m])).map(m => make('tr', {}, make('td', { text: label(m) }), make('td', { text: fmt(o.p[m]) })));
    ui.show(() => points[cursor] === o ? [make('b', { text: run.name }), make('div', { class: 'qnb-soft', text: `episode ${o.p.episode}${words}${o.p.feasible ? '' : ' · misses a target'}` }), make('table', {}, ...vals)] : null, () => { const r = box.getBoundingClientRect(); return [r.left + o.x, r.top + o.y]; });
    if (speak) ui.say(`${run.name}, episode ${o.p.episode}${words}: ` + get('metrics').filter(m => Number.isFinite(o.p[m])).map(m => `${label(m)} ${fmt(o.p[m])}`).join(', '));
  }
  box.addEventListener('pointermove', e => {
    const r = box.getBoundingClientRect(); let best = -1, near = 24 ** 2;
    points.forEach((o, i) => { const d = (o.x - e.clientX + r.left) ** 2 + (o.y - e.clientY + r.top) ** 2; if (d < near) { near = d; best = i; } });
    at(best);
  });
  box.addEventListener('pointerleave', () => at(-1)); box.addEventListener('blur', () => at(-1));
  box.addEventListener('keydown', e => {
    const n = points.length, to = { ArrowRight: cursor + 1, ArrowLeft: cursor < 0 ? n - 1 : cursor - 1, Home: 0, End: n - 1, Escape: -1 }[e.key];
    if (to === undefined || !n) return;
    e.preventDefault(); at(e.key === 'Escape' ? -1 : (to + n) % n, true);
  });
  return ui.end;
}

function layers({ model, el }) {
  const get = k => model.get(k), rows = get('layers'), names = get('names'), ui = frame(el, 'compare', 'Widths of the layers in several runs', draw);
  const differs = r => new Set(r.bits.map(String)).size > 1, n = rows.filter(differs).length, many = new Set(rows.flatMap(r => r.bits.map(b => b && b[1]))).size > 1;
  let all = !n;
  const key = (b, word) => make('span', { class: 'qnb-key' + (b === 32 ? ' qnb-float' : ''), text: b === 32 ? 'float' : `${word}${b}`, style: { background: color(b), color: ink(color(b)) } });
  const widths = [...new Set(rows.flatMap(r => r.bits.filter(Boolean).map(b => b[0])))].sort((a, b) => a - b), body = make('tbody');
  const said = make('span', { class: 'qnb-soft qnb-end', text: n ? `${n} of ${plural(rows.length, 'layer')} differ` : 'all layers have the same widths' });
  ui.ready(make('div', { class: 'qnb-bar' }, check('all layers', all, v => { all = v; ui.ask(); }, 'qnb-all'), legend(widths, 'bits'), said),
    make('div', { class: 'qnb-scroll qnb-differ', tabindex: 0 }, make('table', {}, make('thead', {}, make('tr', {}, make('th', { text: 'layer' }), make('th', { text: 'weights', style: { textAlign: 'right' } }), ...names.map(s => make('th', { text: s, title: s })))), body)));
  function draw() {
    body.replaceChildren(...rows.filter(r => all || differs(r)).map(r => make('tr', { onpointermove: e => tell(r, e), onpointerleave: () => ui.hide() },
      make('td', { text: r.path }), make('td', { class: 'qnb-num', text: count(r.n) }), ...r.bits.map(b => make('td', { class: differs(r) ? '' : 'same' }, ...(b ? [key(b[0], 'W'), ...(many ? [key(b[1], 'A')] : [])] : [make('span', { class: 'qnb-soft', text: 'not there' })]))))));
    el.dataset.drawn = body.children.length;
  }
  function tell(r, e) {
    const size = b => b ? `W${b[0]} A${b[1]}`.replace(/32/g, '32 (float)') + ` · ${fmt(r.n * b[0] / 8e3, 3)} KB` : 'not there';
    ui.show(() => [make('b', { text: r.path }), make('div', { class: 'qnb-soft', text: `${r.kind} · ${count(r.n)} weights · ${count(r.macs)} MACs` }), make('table', {}, ...names.map((s, k) => make('tr', {}, make('td', { text: s }), make('td', { text: size(r.bits[k]) }))))], () => [e.clientX, e.clientY]);
  }
  return ui.end;
}

export default { render: o => o.model.get('layers') ? layers(o) : fronts(o) };
