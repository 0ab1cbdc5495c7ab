// Episodes as points in two metrics, with the front, the targets and the float network.
const VIEW = ['x', 'y', 'log_x', 'log_y', 'near'];

async function render({ model, el }) {
  const src = await sourceOf(model), all = reader(src);
  const ui = frame(el, 'front', 'Episodes of a search', draw);
  const get = k => (VIEW.includes(k) ? model : src).get(k);
  const label = m => get('labels')[m] || m;
  const up = m => (get('directions')[m] || 'MIN') === 'MAX';

  let rows = [];
  const widths = r => get('layers').map((p, k) => [p, r.view.getUint8(r.at + 2 * k), r.view.getUint8(r.at + 2 * k + 1)]);
  const same = (a, b) => widths(a).every(([, w, x], k) => { const c = a && b.view; return c.getUint8(b.at + 2 * k) === w && c.getUint8(b.at + 2 * k + 1) === x; });

  const axis = k => pick(k === 'x' ? 'across' : 'up', [], '', v => set(model, { [k]: v }), `qnb-${k}`);
  const ax = axis('x'), ay = axis('y');
  const lx = check('log', false, v => set(model, { log_x: v }), 'qnb-log-x'), ly = check('log', false, v => set(model, { log_y: v }), 'qnb-log-y');
  const near = check('near the front', false, v => set(model, { near: v }), 'qnb-near');
  const sum = make('span', { class: 'qnb-soft qnb-end qnb-sum' });
  const base = make('canvas', { 'aria-hidden': 'true' }), top = make('canvas', { tabindex: 0, role: 'application', class: 'qnb-canvas' });
  const marks = make('div', { class: 'qnb-marks' }), chosen = make('div', { class: 'qnb-chosen' });
  const plot = make('div', { class: 'qnb-plot' }, base, top);
  ui.ready(make('div', { class: 'qnb-bar' }, ay, ly, ax, lx, near, sum), plot, marks, chosen);

  let points = [], front = [], onFront = new Set(), at = {}, cursor = null, scale = null, H = 0;

  // No other point is better in one metric and at least as good in the other; doubles of a strategy count once.
  function pareto(x, y) {
    const sx = up(x) ? -1 : 1, sy = up(y) ? -1 : 1;
    const ps = [...points].sort((a, b) => sx * (a[x] - b[x]) || sy * (a[y] - b[y]) || a.episode - b.episode), res = [];
    for (const p of ps) {
      const l = res[res.length - 1];
      if (!l || sy * p[y] < sy * l[y]) res.push(p);
      else if (l[x] === p[x] && l[y] === p[y] && !res.some(o => o[x] === p[x] && o[y] === p[y] && same(o, p))) res.push(p);
    }
    return res.sort((a, b) => a[x] - b[x] || a[y] - b[y]);
  }

  function range(m, log) {
    const vs = (get('near') && front.length > 1 ? front : points).map(p => p[m]);
    if (!vs.length) return log ? [.1, 1] : [0, 1];
    let lo = Math.min(...vs), hi = Math.max(...vs), span = (log ? Math.log(hi / lo) : hi - lo) || Math.abs(hi) * .02 || 1;
    for (const o of [get('floats')[m], get('targets')[m]]) {
      if (o === null || o === undefined || log && o <= 0) continue;
      const d = log ? o < lo ? Math.log(lo / o) : Math.log(o / hi) : o < lo ? lo - o : o - hi;
      if (d <= .4 * span) { lo = Math.min(lo, o); hi = Math.max(hi, o); }
    }
    const pad = .05 * ((log ? Math.log(hi / lo) : hi - lo) || span);
    return log ? [lo * Math.exp(-pad), hi * Math.exp(pad)] : [lo - pad, hi + pad];
  }

  function prepare() {
    const x = get('x'), y = get('y'), lx = get('log_x'), ly = get('log_y');
    const fits = (v, log) => Number.isFinite(v) && (!log || v > 0);
    points = rows.filter(r => !(r.flags & FAILED) && fits(r[x], lx) && fits(r[y], ly));
    front = pareto(x, y); onFront = new Set(front);
    const W = ui.width; H = W < 560 ? 300 : 380;
    const box = { l: 66, r: W - 14, t: 10, b: H - 44 }, rx = range(x, lx), ry = range(y, ly);
    const f = (log, [lo, hi], a, b) => { const g = log ? Math.log : v => v, u = g(lo), s = (b - a) / (g(hi) - u); return v => a + (g(v) - u) * s; };
    scale = { box, rx, ry, x: f(lx, rx, box.l, box.r), y: f(ly, ry, box.b, box.t) };
    points.forEach(p => { p.px = scale.x(p[x]); p.py = scale.y(p[y]); });
  }

  function canvas(c) {
    const d = window.devicePixelRatio || 1, w = ui.width;
    if (c.width !== Math.round(w * d) || c.height !== Math.round(H * d)) { c.width = Math.round(w * d); c.height = Math.round(H * d); c.style.height = `${H}px`; }
    const g = c.getContext('2d'); g.setTransform(d, 0, 0, d, 0, 0); g.clearRect(0, 0, w, H);
    return g;
  }
  const css = k => getComputedStyle(ui.root).getPropertyValue(k).trim();
  const font = px => `${px}px ${getComputedStyle(ui.root).fontFamily}`;
  function star(g, x, y, r) { g.beginPath(); for (let i = 0; i < 10; i++) { const a = i * Math.PI / 5 - Math.PI / 2, q = i % 2 ? r * .45 : r; g.lineTo(x + q * Math.cos(a), y + q * Math.sin(a)); } g.closePath(); }
  function diamond(g, x, y, r) { g.beginPath(); g.moveTo(x, y - r); g.lineTo(x + r, y); g.lineTo(x, y + r); g.lineTo(x - r, y); g.closePath(); }

  function grid(g, c) {
    const { box } = scale, x = get('x'), y = get('y'), [lx, ly] = [get('log_x'), get('log_y')];
    g.font = font(11); g.lineWidth = 1; g.fillStyle = c.soft; g.strokeStyle = c.line;
    const tx = (lx ? logTicks : ticks)(...scale.rx, Math.max(3, (box.r - box.l) / 95)), ty = (ly ? logTicks : ticks)(...scale.ry, Math.max(3, (box.b - box.t) / 48));
    g.globalAlpha = .6; g.beginPath();
    for (const v of tx) { const p = Math.round(scale.x(v)) + .5; g.moveTo(p, box.t); g.lineTo(p, box.b); }
    for (const v of ty) { const p = Math.round(scale.y(v)) + .5; g.moveTo(box.l, p); g.lineTo(box.r, p); }
    g.stroke(); g.globalAlpha = 1;
    g.textAlign = 'center'; g.textBaseline = 'top'; numbers(tx).forEach((s, i) => g.fillText(s, scale.x(tx[i]), box.b + 6));
    g.textAlign = 'right'; g.textBaseline = 'middle'; numbers(ty).forEach((s, i) => g.fillText(s, box.l - 7, scale.y(ty[i])));
    g.font = font(12); g.fillStyle = c.fg; g.textAlign = 'center'; g.textBaseline = 'bottom';
    g.fillText(label(x) + (lx ? ', log' : ''), (box.l + box.r) / 2, H - 2);
    g.save(); g.translate(12, (box.t + box.b) / 2); g.rotate(-Math.PI / 2); g.textBaseline = 'middle'; g.fillText(label(y) + (ly ? ', log' : ''), 0, 0); g.restore();
  }

  // A target is a line, and the side that misses it is shaded.
  function target(g, m, vertical, c, later) {
    const v = get('targets')[m], { box } = scale, log = get(vertical ? 'log_x' : 'log_y');
    if (v === null || v === undefined || log && v <= 0) return;
    const p = vertical ? scale.x(v) : scale.y(v), lo = vertical ? box.l : box.t, hi = vertical ? box.r : box.b;
    const q = Math.max(lo, Math.min(hi, p)), toLow = vertical ? up(m) : !up(m);
    g.save(); g.beginPath(); const a = toLow ? lo : q, n = toLow ? q - lo : hi - q;
    vertical ? g.rect(a, box.t, n, box.b - box.t) : g.rect(box.l, a, box.r - box.l, n);
    g.globalAlpha = ui.dark ? .10 : .07; g.fillStyle = c.mark; g.fill(); g.restore();
    if (q !== p) return;
    g.strokeStyle = c.mark; g.lineWidth = 1.5; g.setLineDash([6, 4]); g.beginPath();
    vertical ? (g.moveTo(p, box.t), g.lineTo(p, box.b)) : (g.moveTo(box.l, p), g.lineTo(box.r, p));
    g.stroke(); g.setLineDash([]);
    const text = `target ${up(m) ? '≥' : '≤'} ${fmt(v)}`, right = vertical && p + 90 > box.r;
    const where = vertical ? [p + (right ? -5 : 5), box.b - 4] : [box.r - 5, p + (p - box.t < 18 ? 4 : -3)];
    later.push(() => { g.font = font(11); g.fillStyle = c.mark; g.textBaseline = vertical || p - box.t >= 18 ? 'bottom' : 'top'; g.textAlign = vertical && !right ? 'left' : 'right'; g.strokeStyle = c.back; g.lineWidth = 4; g.lineJoin = 'round'; g.strokeText(text, ...where); g.fillText(text, ...where); });
  }

  function steps(g, c) {
    if (!front.length) return;
    const { box } = scale, first = !up(get('x')); // with smaller across better, what was reached holds to the right
    g.beginPath();
    front.forEach((p, i) => {
      if (!i) { first ? g.moveTo(p.px, p.py) : (g.moveTo(box.l, p.py), g.lineTo(p.px, p.py)); return; }
      const o = front[i - 1]; g.lineTo(first ? p.px : o.px, first ? o.py : p.py); g.lineTo(p.px, p.py);
    });
    if (first) g.lineTo(box.r, front[front.length - 1].py);
    g.strokeStyle = c.accent; g.lineWidth = 1.6; g.globalAlpha = .85; g.stroke(); g.globalAlpha = 1;
  }

  function draw() {
    rows = all();
    for (const [p, k] of [[ax, 'x'], [ay, 'y']]) {
      const s = p.querySelector('select'), names = ['episode', ...get('metrics')];
      if (s.length !== names.length || names.some((m, i) => s.options[i].value !== m || s.options[i].text !== label(m))) s.replaceChildren(...names.map(m => make('option', { value: m, text: label(m) })));
      s.value = get(k);
    }
    for (const [c, k] of [[lx, 'log_x'], [ly, 'log_y'], [near, 'near']]) c.querySelector('input').checked = get(k);
    prepare();
    const g = canvas(base), c = Object.fromEntries(['fg', 'soft', 'line', 'accent', 'mark', 'back'].map(k => [k, css(`--${k}`)])), { box } = scale;
    grid(g, c);
    g.save(); g.beginPath(); g.rect(box.l, box.t, box.r - box.l, box.b - box.t); g.clip();
    const texts = []; target(g, get('x'), true, c, texts); target(g, get('y'), false, c, texts);
    const size = points.length > 800 ? 2.4 : points.length > 200 ? 3 : 3.8, seen = points.length > 800 ? .5 : .75;
    g.globalAlpha = seen; g.strokeStyle = c.soft; g.lineWidth = 1.1; g.beginPath();
    for (const p of points) if (!(p.flags & FEASIBLE) && !onFront.has(p)) { g.moveTo(p.px + size, p.py); g.arc(p.px, p.py, size, 0, 7); }
    g.stroke();
    g.fillStyle = c.soft; g.beginPath();
    for (const p of points) if (p.flags & FEASIBLE && !onFront.has(p)) { g.moveTo(p.px + size, p.py); g.arc(p.px, p.py, size, 0, 7); }
    g.fill(); g.globalAlpha = 1;
    steps(g, c);
    for (const p of front) { g.beginPath(); g.arc(p.px, p.py, 4.6, 0, 7); g.fillStyle = p.flags & FEASIBLE ? c.accent : c.back; g.strokeStyle = p.flags & FEASIBLE ? c.back : c.accent; g.lineWidth = 1.6; g.fill(); g.stroke(); }
    const f = get('floats'), fx = f[get('x')], fy = f[get('y')];
    if (Number.isFinite(fx) && Number.isFinite(fy)) { diamond(g, scale.x(fx), scale.y(fy), 6); g.fillStyle = c.fg; g.fill(); }
    else if (Number.isFinite(fy)) { const p = scale.y(fy); g.strokeStyle = c.fg; g.setLineDash([1, 3]); g.lineWidth = 1.2; g.beginPath(); g.moveTo(box.l, p); g.lineTo(box.r, p); g.stroke(); g.setLineDash([]); }
    texts.forEach(f => f());
    const b = points.find(p => p.episode === get('best'));
    if (b) { star(g, b.px, b.py, 9.5); g.fillStyle = c.mark; g.strokeStyle = c.back; g.lineWidth = 1.5; g.fill(); g.stroke(); }
    g.restore();
    const failed = rows.filter(r => r.flags & FAILED).length, off = rows.length - failed - points.length;
    sum.textContent = `${plural(rows.length, 'episode')} · ${front.length} on the front${failed ? ` · ${failed} failed` : ''}${off ? ` · ${off} cannot be drawn on these axes` : ''}`;
    top.setAttribute('aria-label', `${label(get('y'))} against ${label(get('x'))}: ${sum.textContent}. Arrow keys walk along the front, with shift through all points; Enter selects.`);
    key(c, b, fx, fy); over(); tell();
    el.dataset.drawn = rows.length;
  }

  function key(c, best, fx, fy) {
    const s = (...k) => make('svg', { viewBox: '0 0 22 12', 'aria-hidden': 'true' }, ...k), dot = a => make('circle', { cx: 11, cy: 6, r: 3.6, 'stroke-width': 1.3, ...a });
    const T = get('targets'), any = Object.values(T).some(v => v !== null && v !== undefined), e = (icon, text) => make('span', {}, s(icon), text);
    marks.replaceChildren(...[e(dot({ fill: c.soft }), any ? 'meets the targets' : 'tried'), any && e(dot({ fill: 'none', stroke: c.soft }), 'misses one'),
      make('span', {}, s(make('line', { x1: 0, x2: 22, y1: 6, y2: 6, stroke: c.accent, 'stroke-width': 1.6 }), dot({ fill: c.accent })), get('x') === 'episode' || get('x') === 'images' ? 'best so far' : 'front'),
      best && e(make('path', { d: 'M11 0l1.8 3.9 4.2.4-3.1 2.9.9 4.2L11 9.3 7.2 11.4l.9-4.2L5 4.3l4.2-.4z', fill: c.mark }), get('mark') || 'best so far'),
      Number.isFinite(fx) && Number.isFinite(fy) && fx >= scale.rx[0] && fx <= scale.rx[1] && e(make('path', { d: 'M11 0l6 6-6 6-6-6z', fill: c.fg }), 'float'),
      !Number.isFinite(fx) && Number.isFinite(fy) && e(make('line', { x1: 0, x2: 22, y1: 6, y2: 6, stroke: c.fg, 'stroke-dasharray': '1 3' }), 'float')].filter(Boolean));
  }

  // What changes with the pointer is drawn on a canvas of its own.
  function over() {
    const g = canvas(top), c = css('--mark'), s = rows.find(r => r.episode === get('selected'));
    const ring = (p, r, w) => { g.beginPath(); g.arc(p.px, p.py, r, 0, 7); g.strokeStyle = c; g.lineWidth = w; g.stroke(); };
    if (s && points.includes(s)) ring(s, 9, 2.5);
    if (cursor && points.includes(cursor)) ring(cursor, 7, 1.5);
  }
  const state = r => [starred(r, src), onFront.has(r) && 'on the front', r.flags & FAILED ? 'failed' : r.flags & FEASIBLE ? '' : 'misses a target', r.flags & WARMUP && 'warm-up'].filter(Boolean).join(', ');
  function strip(r) {
    const ws = widths(r), tied = ws.every(o => o[1] === o[2]), row = k => make('div', { class: 'qnb-strip' + (ws.length > 48 ? ' qnb-many' : '') }, ...ws.map(o => make('span', { class: 'qnb-key' + (o[k] === 32 ? ' qnb-float' : ''), title: `${o[0]}: W${o[1]} A${o[2]}`, text: o[k], style: { background: color(o[k]), color: ink(color(o[k])) } })));
    const as = [...new Set(ws.map(o => o[2]))];
    return tied || !ws.length ? [row(1)] : as.length === 1 ? [row(1), make('div', { class: 'qnb-soft', text: `activations ${as[0]} bits` })] : [row(1), row(2)];
  }
  const first = () => [...get('objectives') || [], get('x'), get('y'), ...get('metrics')].filter((m, i, a) => m !== 'episode' && a.indexOf(m) === i);
  function card(r) {
    const rowsOf = first().filter(m => Number.isFinite(r[m])).slice(0, 8).map(m => make('tr', {}, make('td', { text: label(m) }), make('td', { text: fmt(r[m]) })));
    return [make('b', { text: `episode ${r.episode}` }), make('span', { class: 'qnb-soft', text: state(r) ? ` · ${state(r)}` : '' }), make('table', {}, ...rowsOf), ...strip(r)];
  }
  const words = r => `episode ${r.episode}: ${[get('x'), get('y')].filter(m => m !== 'episode').map(m => `${label(m)} ${fmt(r[m])}`).join(', ')}${state(r) ? ', ' + state(r) : ''}`;
  function tell() {
    const r = rows.find(o => o.episode === get('selected'));
    chosen.hidden = src !== model; // a view of another plot's rows leaves it to that one
    if (!r) { chosen.replaceChildren(make('span', { class: 'qnb-soft', text: 'Click a point to select its episode; or ←→ along the front and Enter.' })); return; }
    chosen.replaceChildren(make('div', { class: 'qnb-pairs' }, make('b', { text: `episode ${r.episode}` }), state(r) && make('span', { class: 'qnb-soft', text: state(r) }),
      ...first().filter(m => Number.isFinite(r[m])).map(m => make('span', {}, make('span', { class: 'qnb-soft', text: `${label(m)} ` }), fmt(r[m])))), ...strip(r));
  }

  function nearest(e) {
    const r = top.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top;
    let best = null, d = 15 * 15;
    for (const p of points) { const q = (p.px - x) ** 2 + (p.py - y) ** 2 - (onFront.has(p) ? 9 : 0); if (q < d) { d = q; best = p; } }
    return best;
  }
  function point(p, speak) {
    cursor = p; over();
    if (!p) { ui.hide(); return; }
    ui.show(() => points.includes(p) ? card(p) : null, () => { const r = top.getBoundingClientRect(); return [r.left + p.px, r.top + p.py]; });
    if (speak) ui.say(words(p));
  }
  const choose = p => { set(src, { selected: p ? p.episode : -1 }); if (p) ui.say('selected ' + words(p)); };
  top.addEventListener('pointermove', e => { const p = nearest(e); top.style.cursor = p ? 'pointer' : 'default'; if (p !== cursor) point(p); });
  top.addEventListener('pointerleave', () => point(null));
  top.addEventListener('click', e => { const p = nearest(e); if (p) choose(p); });
  top.addEventListener('blur', () => point(null));
  top.addEventListener('keydown', e => {
    const by = e.shiftKey || e.key === 'ArrowUp' || e.key === 'ArrowDown' ? [...points].sort((a, b) => a.px - b.px || a.py - b.py) : front;
    const here = cursor || points.find(p => p.episode === get('selected')) || points.find(p => p.episode === get('best'));
    let i = by.indexOf(here); if (i < 0 && here) { i = by.findIndex(p => p.px >= here.px); if (i < 0) i = by.length - 1; }
    const go = j => by.length && point(by[Math.max(0, Math.min(by.length - 1, j))], true);
    const act = { ArrowRight: () => go(i + 1), ArrowLeft: () => go(i < 0 ? 0 : i - 1), ArrowUp: () => go(i + 1), ArrowDown: () => go(i - 1), Home: () => go(0), End: () => go(by.length - 1),
      Enter: () => cursor && choose(cursor), ' ': () => cursor && choose(cursor), Escape: () => { point(null); choose(null); } }[e.key];
    if (!act || e.ctrlKey || e.metaKey) return;
    act(); e.preventDefault(); e.stopPropagation();
  });

  const end = [follow(src, DATA, () => ui.ask()), follow(model, VIEW, () => ui.ask()),
    follow(src, ['selected'], () => { if (scale) { over(); tell(); } })];
  return () => { end.forEach(f => f()); ui.end(); };
}
export default { render };
