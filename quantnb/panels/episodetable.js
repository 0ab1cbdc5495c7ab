// Episodes as a table: only the rows that can be seen are elements.

const ROW = 25;

async function render({ model, el }) {
  const src = await sourceOf(model), all = reader(src);
  const ui = frame(el, 'table', 'Table of episodes', draw);
  const get = k => model.get(k), label = m => src.get('labels')[m] || m;
  let rows = [], list = [], wrong = '', from = -1, to = -1, cols = [], shape = '';

  const find = make('input', { class: 'qnb-find', type: 'search', placeholder: 'filter: accuracy>91 latency<2 fc=4 failed …', 'aria-label': 'filter', oninput: e => set(model, { query: e.target.value }) });
  const sum = make('span', { class: 'qnb-soft qnb-end qnb-sum' });
  const head = make('tr', { role: 'row' }), body = make('tbody', { role: 'rowgroup' }), table = make('table', { role: 'grid' }, make('thead', {}, head), body);
  const scroll = make('div', { class: 'qnb-scroll qnb-episodes', tabindex: 0, 'aria-label': 'episodes' }, table);
  const above = make('tr', { 'aria-hidden': 'true' }), below = make('tr', { 'aria-hidden': 'true' }), made = new Map(); // what is out of sight, and the rows in sight by episode
  ui.ready(make('div', { class: 'qnb-bar' }, find, sum), scroll);

  // Words are looked for in the status; `name>value` compares a metric, or the width of a layer's weights.
  function tests(query) {
    wrong = '';
    const layers = src.get('layers'), ms = ['episode', ...src.get('metrics')], ops = { '<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b, '>=': (a, b) => a >= b, '=': (a, b) => a === b };
    return query.trim().split(/\s+/).filter(Boolean).map(t => {
      const m = t.match(/^([^<>=]+)(<=|>=|<|>|=)(-?[\d.]*)$/);
      if (!m) return r => (status(r, src) || 'meets the targets').includes(t.toLowerCase());
      const [, name, op, v] = m, k = layers.indexOf(name), f = ops[op];
      if (!v) return () => true; // still being written
      if (!ms.includes(name) && k < 0) { wrong = `nothing is called ${name}`; return () => true; }
      return r => f(ms.includes(name) ? +(+r[name]).toPrecision(7) : widthOf(r, k, 'w'), +v);
    });
  }

  function draw() {
    rows = all();
    const firsts = ['reward', 'accuracy', 'compress_ratio', 'latency', 'size_kb', 'divergence'];
    const varies = m => rows.length < 3 || rows.some(r => Number.isFinite(r[m]) && r[m] !== rows[0][m]); // what no strategy changes is no column
    const used = src.get('metrics').filter(m => rows.some(r => Number.isFinite(r[m])) && (firsts.includes(m) || varies(m)));
    cols = ['episode', ...firsts.filter(m => used.includes(m)), 'status', ...used.filter(m => !firsts.includes(m))];
    const by = get('sort'), down = get('descending'), now = JSON.stringify([cols, by, down, cols.map(label)]);
    if (now !== shape) {
      shape = now;
      head.replaceChildren(...cols.map(m => make('th', { role: 'columnheader', scope: 'col', class: m === 'status' ? '' : 'qnb-num', 'aria-sort': m === by ? down ? 'descending' : 'ascending' : 'none' },
        make('button', { 'data-col': m, text: label(m) + (m === by ? down ? ' ▾' : ' ▴' : ''), onclick: () => set(model, m === get('sort') ? { descending: !get('descending') } : { sort: m, descending: (src.get('directions')[m] || 'MIN') === 'MAX' }) }))));
    }
    const ts = tests(get('query')), s = down ? -1 : 1;
    const val = r => by === 'status' ? status(r, src) : r[by];
    list = rows.filter(r => ts.every(f => f(r))).sort((a, b) => {
      const u = val(a), v = val(b), x = typeof u === 'string' || Number.isFinite(u), y = typeof v === 'string' || Number.isFinite(v);
      return x && y ? s * (u < v ? -1 : u > v ? 1 : 0) || a.episode - b.episode : x ? -1 : y ? 1 : a.episode - b.episode;
    });
    if (document.activeElement !== find && el.getRootNode().activeElement !== find) find.value = get('query');
    sum.textContent = wrong || (list.length === rows.length ? plural(rows.length, 'episode') : `${fmt(list.length)} of ${plural(rows.length, 'episode')}`);
    table.setAttribute('aria-rowcount', list.length);
    scroll.style.height = `${Math.min(310, top() + ROW * Math.max(1, list.length) + 4)}px`;
    from = to = -1; rowsIn();
    el.dataset.drawn = rows.length;
  }
  function rowsIn() {
    const a = Math.max(0, Math.floor(scroll.scrollTop / ROW) - 6), b = Math.min(list.length, a + Math.ceil(scroll.clientHeight / ROW) + 14);
    if (a === from && b === to) return;
    from = a; to = b;
    const seen = list.slice(a, b), want = [above, ...seen.map((r, i) => rowOf(r, a + i + 1)), below], keep = new Set(want);
    above.style.height = `${a * ROW}px`; below.style.height = `${(list.length - b) * ROW}px`; above.hidden = !a; below.hidden = b === list.length;
    for (const t of [...body.children]) if (!keep.has(t)) { t.remove(); made.delete(+t.dataset.episode); }
    want.forEach((t, i) => { if (body.children[i] !== t) body.insertBefore(t, body.children[i] || null); });
  }
  // A row stays the same element as long as it is drawn: a browser gives no click to what was replaced between press and release.
  function rowOf(r, index) {
    let t = made.get(r.episode);
    if (!t || t.children.length !== cols.length) { t?.remove(); made.set(r.episode, t = make('tr', { role: 'row', 'data-episode': r.episode, style: { height: `${ROW}px` }, onclick: () => choose(r.episode === src.get('selected') ? -1 : r.episode) }, ...cols.map(() => make('td', { role: 'gridcell' })))); }
    t.setAttribute('aria-rowindex', index); t.setAttribute('aria-selected', r.episode === src.get('selected')); t.className = r.flags & FAILED ? 'qnb-bad' : '';
    cols.forEach((m, k) => { const d = t.children[k], text = m === 'status' ? status(r, src) : fmt(r[m], 5); d.className = m === 'status' ? '' : 'qnb-num'; if (d.textContent !== text) d.textContent = text; });
    return t;
  }
  const choose = e => { set(src, { selected: e }); }, top = () => head.offsetHeight || 34;
  function show() {
    const e = src.get('selected'); for (const t of body.children) if (t.dataset.episode) t.setAttribute('aria-selected', +t.dataset.episode === e);
    const i = list.findIndex(r => r.episode === e); if (i < 0) return;
    const y = i * ROW, h = scroll.clientHeight - top(); if (y < scroll.scrollTop || y + ROW > scroll.scrollTop + h) scroll.scrollTop = Math.max(0, y - h / 2);
  }
  scroll.addEventListener('scroll', rowsIn);
  scroll.addEventListener('keydown', e => {
    if (e.target !== scroll || e.ctrlKey || e.metaKey || !list.length) return;
    const i = list.findIndex(r => r.episode === src.get('selected')), go = j => { const r = list[Math.max(0, Math.min(list.length - 1, j))]; choose(r.episode); ui.say(`episode ${r.episode}: ${cols.slice(1, 5).map(m => `${label(m)} ${fmt(r[m])}`).join(', ')}`); };
    const act = { ArrowDown: () => go(i + 1), ArrowUp: () => go(i - 1), Home: () => go(0), End: () => go(list.length - 1), PageDown: () => go(i + 10), PageUp: () => go(i - 10), Escape: () => choose(-1) }[e.key];
    if (!act) return;
    act(); e.preventDefault(); e.stopPropagation();
  });
  const end = [follow(src, DATA, () => ui.ask()), follow(model, ['sort', 'descending', 'query'], () => ui.ask()), follow(src, ['selected'], show)];
  return () => { end.forEach(f => f()); ui.end(); };
}
export default { render };
