// Layers x episodes: the colour of a cell is the width of that layer in that episode.

async function render({ model, el }) {
  const src = await sourceOf(model), all = reader(src);
  const ui = frame(el, 'bitmap', 'Widths of every layer in every episode', draw);
  const label = m => src.get('labels')[m] || m;
  let rows = [], order = [], box = null, H = 0, cursor = null;

  const what = pick('bits of the', [['w', 'weights'], ['a', 'activations']], 'w', v => set(model, { what: v }), 'qnb-what');
  const by = pick('order', [], '', v => set(model, { order: v }), 'qnb-order'), key = make('span', { class: 'qnb-legend' });
  const base = make('canvas', { 'aria-hidden': 'true' }), top = make('canvas', { tabindex: 0, role: 'application', class: 'qnb-canvas' });
  ui.ready(make('div', { class: 'qnb-bar' }, what, by, key), make('div', { class: 'qnb-plot' }, base, top));

  const css = k => getComputedStyle(ui.root).getPropertyValue(k).trim(), font = px => `${px}px ${getComputedStyle(ui.root).fontFamily}`;
  function canvas(c) {
    const d = window.devicePixelRatio || 1, w = ui.width;
    if (c.width !== Math.round(w * d) || c.height !== Math.round(H * d)) { c.width = Math.round(w * d); c.height = Math.round(H * d); c.style.height = `${H}px`; }
    const g = c.getContext('2d'); g.setTransform(d, 0, 0, d, 0, 0); g.clearRect(0, 0, w, H);
    return g;
  }
  const spot = c => `${order[c[0]]?.episode} ${src.get('layers')[c[1]]}`; let stood = ''; // what the cursor stands on
  const rgb = b => [1, 3, 5].map(i => parseInt(color(b).slice(i, i + 2), 16));

  function draw() {
    rows = all();
    const layers = src.get('layers'), L = layers.length, names = ['episode', ...src.get('metrics')], w = model.get('what'), o = model.get('order');
    const s = by.querySelector('select');
    if (s.length !== names.length || names.some((m, i) => s.options[i].value !== m)) s.replaceChildren(...names.map(m => make('option', { value: m, text: label(m) })));
    s.value = o; what.querySelector('select').value = w;
    const up = (src.get('directions')[o] || 'MIN') === 'MAX', last = v => Number.isFinite(v) ? v : up ? -Infinity : Infinity;
    order = o === 'episode' ? rows : [...rows].sort((a, b) => (up ? last(a[o]) - last(b[o]) : last(b[o]) - last(a[o])) || a.episode - b.episode); // the best at the right
    if (cursor && stood !== spot(cursor)) cursor = null; // another episode or layer stands there now
    const n = order.length, rh = Math.max(4, Math.min(22, 360 / Math.max(1, L))), g0 = base.getContext('2d'); g0.font = font(11);
    const longest = Math.max(0, ...layers.map(p => g0.measureText(p).width)), l = Math.min(longest + 10, ui.width * .28, 190);
    H = Math.round(L * rh) + 46; box = { l, t: 14, r: ui.width - 10, b: 14 + L * rh, rh, cw: n ? Math.min(26, (ui.width - 10 - l) / n) : 1 };
    const g = canvas(base), soft = css('--soft'), back = css('--back'), seen = new Set();
    if (n && L) {
      const img = new ImageData(n, L), px = new Map();
      for (let i = 0; i < n; i++) for (let k = 0; k < L; k++) {
        const b = widthOf(order[i], k, w); let c = px.get(b); if (!c) { px.set(b, c = rgb(b)); seen.add(b); }
        const q = 4 * (k * n + i); img.data[q] = c[0]; img.data[q + 1] = c[1]; img.data[q + 2] = c[2]; img.data[q + 3] = 255;
      }
      const t = document.createElement('canvas'); t.width = n; t.height = L; t.getContext('2d').putImageData(img, 0, 0);
      g.imageSmoothingEnabled = false; g.drawImage(t, box.l, box.t, n * box.cw, L * rh);
      g.fillStyle = back;
      if (box.cw >= 5) for (let i = 1; i < n; i++) g.fillRect(box.l + i * box.cw - .5, box.t, 1, L * rh);
      if (rh >= 7) for (let k = 1; k < L; k++) g.fillRect(box.l, box.t + k * rh - .5, n * box.cw, 1);
      g.globalAlpha = .8; order.forEach((r, i) => { if (r.flags & FAILED) g.fillRect(box.l + i * box.cw, box.t, Math.max(1, box.cw), L * rh); }); g.globalAlpha = 1;
    }
    g.font = font(Math.min(11, Math.max(9, rh - 1))); g.fillStyle = soft; g.textAlign = 'right'; g.textBaseline = 'middle';
    const every = Math.ceil(11 / rh);
    layers.forEach((p, k) => { if (k % every === 0) { let t = p; while (t.length > 4 && g.measureText(t).width > l - 8) t = '…' + t.slice(t[0] === '…' ? 2 : 1); g.fillText(t, l - 6, box.t + (k + .5) * rh); } });
    g.font = font(11); g.textBaseline = 'top';
    const step = n ? Math.max(1, ticks(0, n, Math.max(2, n * box.cw / 80))[1] || 1) : 1; g.textAlign = 'center';
    for (let i = 0; i < n; i += Math.ceil(step)) g.fillText(o === 'episode' ? fmt(order[i].episode) : fmt(order[i][o], 3), box.l + (i + .5) * box.cw, box.b + 4);
    g.fillStyle = css('--fg'); g.font = font(12); g.textAlign = n * box.cw < 130 ? 'left' : 'center'; g.textBaseline = 'bottom';
    g.fillText(o === 'episode' ? 'episode' : `episodes by ${label(o)}`, n * box.cw < 130 ? box.l : box.l + n * box.cw / 2, H - 1);
    const ws = [...seen].sort((a, b) => a - b); key.replaceChildren(legend(ws, ws.includes(32) ? 'bits (32 = float)' : 'bits'));
    top.setAttribute('aria-label', `${plural(n, 'episode')}, ${plural(L, 'layer')}. Arrow keys walk over episodes and layers; Enter selects an episode.`);
    over(); el.dataset.drawn = n;
  }

  function over() {
    if (!box) return;
    const g = canvas(top), c = css('--mark'), L = src.get('layers').length, h = L * box.rh;
    const at = e => order.findIndex(r => r.episode === e), x = i => box.l + i * box.cw;
    const b = at(src.get('best')), s = at(src.get('selected'));
    const mark = (i, text) => { g.fillStyle = c; g.font = font(12); g.textAlign = 'center'; g.textBaseline = 'bottom'; g.fillText(text, x(i) + box.cw / 2, box.t); };
    if (b >= 0) mark(b, '★');
    if (s >= 0) { if (s !== b) mark(s, '▾'); g.strokeStyle = c; g.lineWidth = 2; g.strokeRect(x(s) - .5, box.t - .5, Math.max(2, box.cw) + 1, h + 1); }
    if (cursor) { g.strokeStyle = css('--fg'); g.lineWidth = 1.5; g.strokeRect(x(cursor[0]), box.t + cursor[1] * box.rh, Math.max(3, box.cw), box.rh); }
  }
  const words = (r, k) => `W${widthOf(r, k, 'w')} A${widthOf(r, k, 'a')}`.replace(/32/g, '32 (float)');
  function card(r, k, p) {
    const st = status(r, src), first = src.get('objectives') || [], vals = [...new Set([...first.length ? first : ['accuracy', 'compress_ratio', 'latency'], 'reward'])].filter(m => Number.isFinite(r[m])).map(m => make('tr', {}, make('td', { text: label(m) }), make('td', { text: fmt(r[m]) })));
    return [make('b', { text: `episode ${r.episode}` }), st && make('span', { class: 'qnb-soft', text: ` · ${st}` }), make('table', {}, ...vals), make('div', {}, make('b', { text: p }), ` ${words(r, k)}`)].filter(Boolean);
  }
  function point(c, speak) {
    cursor = c; stood = c ? spot(c) : ''; over();
    if (!c) { ui.hide(); return; }
    const r = order[c[0]], p = src.get('layers')[c[1]], st = status(r, src);
    ui.show(() => cursor === c ? card(order[c[0]], c[1], p) : null, () => { const q = top.getBoundingClientRect(); return [q.left + box.l + (c[0] + 1) * box.cw, q.top + box.t + (c[1] + 1) * box.rh]; });
    if (speak) ui.say(`episode ${r.episode}, ${p}: ${words(r, c[1])}${st ? ', ' + st : ''}`);
  }
  function under(e) {
    const r = top.getBoundingClientRect(), i = Math.floor((e.clientX - r.left - box.l) / box.cw), k = Math.floor((e.clientY - r.top - box.t) / box.rh);
    return i >= 0 && i < order.length && k >= 0 && k < src.get('layers').length ? [i, k] : null;
  }
  const choose = i => { set(src, { selected: order[i] ? order[i].episode : -1 }); if (order[i]) ui.say(`selected episode ${order[i].episode}`); };
  top.addEventListener('pointermove', e => { const c = under(e); top.style.cursor = c ? 'pointer' : 'default'; if (String(c) !== String(cursor)) point(c); });
  top.addEventListener('pointerleave', () => point(null));
  top.addEventListener('blur', () => point(null));
  top.addEventListener('click', e => { const c = under(e); if (c) choose(c[0]); });
  top.addEventListener('keydown', e => {
    const n = order.length, L = src.get('layers').length; if (!n || !L || e.ctrlKey || e.metaKey) return;
    const [i, k] = cursor || [Math.max(0, order.findIndex(r => r.episode === (src.get('selected') >= 0 ? src.get('selected') : src.get('best')))), 0];
    const go = (a, b) => point([Math.max(0, Math.min(n - 1, a)), Math.max(0, Math.min(L - 1, b))], true);
    const act = { ArrowRight: () => go(i + (cursor ? 1 : 0), k), ArrowLeft: () => go(i - 1, k), ArrowUp: () => go(i, k - 1), ArrowDown: () => go(i, k + 1), Home: () => go(0, k), End: () => go(n - 1, k),
      Enter: () => cursor && choose(i), ' ': () => cursor && choose(i), Escape: () => { point(null); choose(-1); } }[e.key];
    if (!act) return;
    act(); e.preventDefault(); e.stopPropagation();
  });
  const end = [follow(src, DATA, () => ui.ask()), follow(model, ['what', 'order'], () => ui.ask()), follow(src, ['selected'], () => over())];
  return () => { end.forEach(f => f()); ui.end(); };
}
export default { render };
