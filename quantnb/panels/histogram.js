// One tensor: how often its values occur, the levels of its grid, and what the grid cuts off.

function render({ model, el }) {
  const ui = frame(el, 'histogram', 'Histogram of a tensor and its grid', draw);
  const get = k => model.get(k);
  const path = pick('layer', [], '', v => set(model, { path: v }), 'qnb-path');
  const which = pick('tensor', [['weight', 'weight'], ['act', 'activation']], 'weight', v => set(model, { which: v }), 'qnb-which');
  const chips = make('span', { class: 'qnb-chips', role: 'group', 'aria-label': 'bits' });
  const log = check('log counts', false, v => set(model, { log: v }), 'qnb-log');
  const svg = make('svg', { tabindex: 0, role: 'application', class: 'qnb-svg' }), facts = make('div', { class: 'qnb-facts' }), readout = make('div', { class: 'qnb-soft' });
  ui.ready(make('div', { class: 'qnb-bar' }, path, which, chips, log), make('div', { class: 'qnb-plot' }, svg), facts, readout);

  let cursor = -1, geo = null, was = '';
  const d = () => get('data')[get('bits')];
  const widths = () => Object.keys(get('data')).map(Number).sort((a, b) => a - b);
  const stale = () => get('shown').path !== get('path') || get('shown').which !== get('which');
  const edge = i => d().lo + i * d().step;

  function draw() {
    const ps = get('paths'), s = path.querySelector('select');
    if (s.length !== ps.length || ps.some((p, i) => s.options[i].value !== p)) s.replaceChildren(...ps.map(p => make('option', { value: p, text: p })));
    s.value = get('path'); path.hidden = ps.length < 2; which.hidden = !ps.length; which.querySelector('select').value = get('which'); log.querySelector('input').checked = get('log');
    const root = el.getRootNode(), had = chips.contains(root.activeElement);
    chips.replaceChildren(make('span', { text: 'bits' }), ...widths().map(b => make('button', { 'aria-pressed': b === get('bits'), 'data-bits': b, title: `${b} bits`, onclick: () => set(model, { bits: b }) }, make('i', { style: { background: color(b) } }), b === 32 ? 'float' : String(b))));
    if (had) chips.querySelector('[aria-pressed=true]')?.focus();
    const now = [get('shown').path, get('shown').which, get('bits')].join('|');
    if (now !== was) { was = now; cursor = -1; }
    svg.style.opacity = stale() ? .35 : 1;
    if (!d()) { svg.replaceChildren(); facts.textContent = get('note') || 'nothing to show'; readout.textContent = ''; return; }
    plot(); tell();
  }

  function plot() {
    const h = d(), W = ui.width, H = W < 560 ? 240 : 280, box = { l: 58, r: W - 12, t: 18, b: H - 42 }, n = h.counts.length;
    svg.setAttribute('viewBox', `0 0 ${W} ${H}`); svg.style.height = `${H}px`;
    const lo = h.lo, hi = h.lo + n * h.step, x = v => box.l + (v - lo) / (hi - lo) * (box.r - box.l), most = Math.max(1, ...h.counts);
    const f = get('log') ? v => v > 0 ? Math.log10(v) + .3 : 0 : v => v, top = f(most) * 1.04, y = v => box.b - f(v) / top * (box.b - box.t);
    geo = { box, x, lo, hi, n };
    const kids = [], line = (cls, x1, y1, x2, y2) => make('line', { class: cls, x1, y1, x2, y2 }), put = (...k) => kids.push(...k);
    const ty = get('log') ? Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, i) => 10 ** i) : ticks(0, most, 4), tx = ticks(lo, hi, Math.max(3, (box.r - box.l) / 90));
    for (const v of ty) put(line('qnb-gridline', box.l, y(v), box.r, y(v)), make('text', { x: box.l - 6, y: y(v) + 4, 'text-anchor': 'end', text: v >= 1e4 ? count(v).replace(' ', '') : fmt(v) }));
    const cut = h.clip && [Math.max(lo, h.clip[0]), Math.min(hi, h.clip[1])];
    if (cut) for (const [a, b, some] of [[lo, cut[0], h.counts.some((c, i) => c && edge(i + 1) < h.clip[0] + h.step / 2)], [cut[1], hi, h.counts.some((c, i) => c && edge(i) > h.clip[1] - h.step / 2)]]) if (some && x(b) - x(a) > .5) put(make('rect', { class: 'qnb-out', x: x(a), y: box.t, width: x(b) - x(a), height: box.b - box.t }));
    // levels as lines while they can be told apart, else as ticks below the bars
    if (h.levels) {
      const apart = Math.abs(x(h.levels.step) - x(0)) >= 5;
      if (apart || h.levels.n <= 512) for (let i = 0; i < h.levels.n; i++) { const v = x(h.levels.first + i * h.levels.step); if (v >= box.l - .5 && v <= box.r + .5) put(apart ? line('qnb-level', v, box.t, v, box.b + 4) : line('qnb-level', v, box.b, v, box.b + 5)); }
    }
    const bars = ['', ''];
    h.counts.forEach((c, i) => { if (!c) return; const a = x(edge(i)), b = x(edge(i + 1)), m = (edge(i) + edge(i + 1)) / 2, out = h.clip && (m < h.clip[0] || m > h.clip[1]) ? 1 : 0; bars[out] += `M${a.toFixed(2)} ${box.b}V${Math.min(y(c), box.b - 1).toFixed(2)}H${b.toFixed(2)}V${box.b}z`; });
    put(make('path', { class: 'qnb-bars', d: bars[0] }), make('path', { class: 'qnb-barsout', d: bars[1] }));
    if (h.clip) h.clip.forEach((v, i) => { if (v < lo || v > hi) return; const end = x(v) + (i ? 60 : -60); put(line('qnb-bound', x(v), box.t - 2, x(v), box.b), make('text', { class: 'qnb-clip', x: x(v) + (i ? end > box.r ? -4 : 4 : end < box.l ? 4 : -4), y: box.t - 6, 'text-anchor': (i ? end > box.r : end >= box.l) ? 'end' : 'start', text: fmt(v, 3) })); });
    put(line('qnb-gridline', box.l, box.b, box.r, box.b));
    numbers(tx).forEach((t, i) => put(make('text', { x: x(tx[i]), y: box.b + 17, 'text-anchor': 'middle', text: t })));
    put(make('text', { class: 'qnb-title', x: (box.l + box.r) / 2, y: H - 6, text: h.unit }), make('line', { class: 'qnb-cursor', visibility: 'hidden' }));
    svg.replaceChildren(...kids);
    const g = get('shown');
    svg.setAttribute('aria-label', `Histogram of the ${g.which === 'act' ? 'activation into' : 'weight of'} ${g.path} at ${get('bits')} bits. ${summary().join(', ')}. Left and right walk over the bars, up and down change the bits, L toggles the logarithm.`);
  }

  const summary = () => { const h = d(); return [h.sqnr !== null && h.sqnr !== undefined ? `signal to quantization noise ${fmt(h.sqnr, 3)} dB` : '', h.levels ? `${fmt(h.levels.n)} levels` : '', h.clip ? `${fmt(100 * h.clipped, 3)} % clipped` : ''].filter(Boolean); };
  function tell() {
    const h = d(), g = get('shown'), fact = (a, b, big) => make('span', {}, make('span', { class: 'qnb-soft', text: a + ' ' }), make('b', { text: b, class: big ? 'qnb-big' : '' }));
    facts.replaceChildren(...[make('span', {}, make('b', { text: g.path }), ` ${g.which === 'act' ? 'activation' : 'weight'}`), h.sqnr !== null && h.sqnr !== undefined && fact('SQNR', `${fmt(h.sqnr, 3)} dB`, true), h.levels && fact('levels', fmt(h.levels.n)), h.levels && h.levels.scale && fact('step', fmt(h.levels.scale, 3)),
      h.clip && fact('clipped', `${fmt(100 * h.clipped, 3)} %`), fact('values', count(h.total)), fact('range', `${fmt(h.range[0], 3)} … ${fmt(h.range[1], 3)}`)].filter(Boolean));
    const l = svg.querySelector('.qnb-cursor');
    if (cursor < 0) { l.setAttribute('visibility', 'hidden'); readout.textContent = stale() ? `${get('path')}: drawn as soon as the kernel answers` : 'Point at a bar, or ←→; ↑↓ change the bits, L the scale of the counts.'; return; }
    const a = edge(cursor), b = edge(cursor + 1), m = (a + b) / 2, X = geo.x(m), c = h.counts[cursor];
    for (const [k, v] of [['x1', X], ['x2', X], ['y1', geo.box.t], ['y2', geo.box.b], ['visibility', 'visible']]) l.setAttribute(k, v);
    let to = '';
    if (h.levels) { const k = Math.max(0, Math.min(h.levels.n - 1, Math.round((m - h.levels.first) / h.levels.step))); to = ` → level ${fmt(h.levels.first + k * h.levels.step, 3)}${m < h.clip[0] || m > h.clip[1] ? ', clipped' : ''}`; }
    readout.textContent = `${fmt(a, 3)} … ${fmt(b, 3)}: ${fmt(c)} values (${fmt(100 * c / h.total, 3)} %)${to}`;
  }

  const at = i => { cursor = Math.max(0, Math.min(geo.n - 1, i)); tell(); };
  svg.addEventListener('pointermove', e => { if (!geo) return; const x = e.clientX - svg.getBoundingClientRect().left; if (x < geo.box.l || x > geo.box.r) { cursor = -1; tell(); } else at(Math.floor((x - geo.box.l) / (geo.box.r - geo.box.l) * geo.n)); });
  svg.addEventListener('pointerleave', () => { if (geo && d()) { cursor = -1; tell(); } });
  svg.addEventListener('keydown', e => {
    if (!d() || e.ctrlKey || e.metaKey) return;
    const ws = widths(), i = ws.indexOf(get('bits')), go = j => { at(cursor < 0 ? Math.floor(geo.n / 2) : cursor + j); ui.say(readout.textContent); };
    const bits = j => { set(model, { bits: ws[Math.max(0, Math.min(ws.length - 1, j))] }); ui.say(`${get('bits')} bits, ${summary().join(', ')}`); };
    const act = { ArrowRight: () => go(e.shiftKey ? 10 : 1), ArrowLeft: () => go(e.shiftKey ? -10 : -1), Home: () => go(-1e9), End: () => go(1e9), ArrowUp: () => bits(i + 1), ArrowDown: () => bits(i - 1), l: () => set(model, { log: !get('log') }), L: () => set(model, { log: !get('log') }) }[e.key];
    if (!act) return;
    act(); e.preventDefault(); e.stopPropagation();
  });
  const end = follow(model, ['data', 'shown', 'paths', 'path', 'which', 'bits', 'log', 'note'], () => ui.ask());
  return () => { end(); ui.end(); };
}
export default { render };
