// Put in front of every widget's own file, behind `const COLORS` (width in bits -> colour), which Python writes.

const SVG = 'http://www.w3.org/2000/svg';

// An element: properties that begin with `on` are listeners, `style` is a dict, `text` is its content.
function make(tag, props = {}, ...kids) {
  const e = 'svg g path rect line circle text defs pattern polygon clipPath'.split(' ').includes(tag)
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (v === null || v === undefined || v === false && !k.startsWith('aria-')) continue;
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (k === 'style') for (const [p, s] of Object.entries(v)) p.startsWith('--') ? e.style.setProperty(p, s) : (e.style[p] = s);
    else if (k === 'text') e.textContent = v;
    else e.setAttribute(k, v === true && !k.startsWith('aria-') ? '' : v);
  }
  e.append(...kids.filter(o => o !== null && o !== undefined && o !== false));
  return e;
}

// A number as people read it: four digits, thousands apart.
function fmt(v, digits = 4) {
  if (v === null || v === undefined || Number.isNaN(v)) return '–';
  if (!Number.isFinite(v)) return v > 0 ? '∞' : '−∞';
  const a = Math.abs(v);
  if (Number.isInteger(v) && a < 1e9) return v.toLocaleString('en-US');
  if (a && (a < 1e-3 || a >= 1e9)) return v.toExponential(digits - 2).replace(/e\+?(-?)(\d+)/, (_, s, n) => '·10' + (s && '⁻') + [...n].map(c => '⁰¹²³⁴⁵⁶⁷⁸⁹'[c]).join('')).replace('-', '−');
  return v.toLocaleString('en-US', { maximumSignificantDigits: digits }).replace('-', '−');
}
const count = v => v >= 1e9 ? fmt(v / 1e9, 3) + ' G' : v >= 1e6 ? fmt(v / 1e6, 3) + ' M' : v >= 1e4 ? fmt(v / 1e3, 3) + ' k' : fmt(v);
const plural = (n, word) => `${fmt(n)} ${word}${n === 1 ? '' : 's'}`;

// Ink that can be read on a colour.
function ink(hex) {
  const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b > .18 ? '#111' : '#fff';
}
const color = bits => COLORS[bits] || COLORS[32];

// Whether the page behind an element is dark, whatever host drew it.
function isDark(el) {
  for (let e = el; e; e = e.parentElement || e.getRootNode().host) {
    const m = getComputedStyle(e).backgroundColor.match(/[\d.]+/g);
    if (m && m.length >= 3 && (m.length < 4 || +m[3] > .5)) return .299 * m[0] + .587 * m[1] + .114 * m[2] < 128;
  }
  const kind = document.body.dataset.vscodeThemeKind || document.body.className;
  if (/vscode-(dark|high-contrast(?!-light))/.test(kind)) return true;
  return /dark/.test(getComputedStyle(document.documentElement).colorScheme) && matchMedia('(prefers-color-scheme: dark)').matches;
}

// The frame of a widget: root element, what screen readers hear, the floating note, redrawing when the theme or the size changes.
function frame(el, name, label, draw) {
  const root = make('div', { class: `qnb qnb-${name}`, role: 'group', 'aria-label': label });
  const live = make('div', { class: 'qnb-hear', 'aria-live': 'polite' });
  const tip = make('div', { class: 'qnb-tip', role: 'tooltip', popover: 'manual', hidden: true }), floats = 'popover' in tip; // above everything, so that no box around the widget cuts it
  el.append(root);
  // Plain keys are the widget's: to the notebook around it `d d` means delete the cell, and Notebook 7 looks at a key before the widget does.
  const own = e => !e.altKey && ((!e.ctrlKey && !e.metaKey && e.key !== 'Tab' && !(e.shiftKey && e.key === 'Enter')) || (e.ctrlKey || e.metaKey) && e.key === 'z');
  const guard = e => { const t = e.target; if (e.key === 'Escape') ui.hide(); if (own(e) && root.contains(t)) { t.setAttribute('data-lm-suppress-shortcuts', ''); setTimeout(() => t.removeAttribute('data-lm-suppress-shortcuts')); } };
  window.addEventListener('keydown', guard, true);
  root.addEventListener('keydown', e => { if (own(e)) e.stopPropagation(); });
  let width = 0, asked = 0, told = null, where = null; // what the note says and where it stands, asked again whenever the widget is drawn
  function place() {
    const text = told(); if (!text) { ui.hide(); return; }
    tip.replaceChildren(...[text].flat()); tip.hidden = false; if (floats && !tip.matches(':popover-open')) tip.showPopover();
    const r = floats ? { left: 0, top: 0, width: document.documentElement.clientWidth, height: window.innerHeight } : root.getBoundingClientRect(), t = tip.getBoundingClientRect();
    const fit = (v, size, room) => Math.max(4, Math.min(v + 14 + size > room - 4 ? v - 14 - size : v + 14, room - size - 4)), [x, y] = where();
    tip.style.left = `${fit(x - r.left, t.width, r.width)}px`; tip.style.top = `${fit(y - r.top, t.height, r.height)}px`;
  }
  const ui = {
    root, live, tip, dark: false, get width() { return width; },
    say(text) { live.textContent = text; },
    ask() { if (!asked) asked = requestAnimationFrame(() => { asked = 0; if (width) { draw(); if (told) place(); } }); }, // many changes, one drawing
    show(text, at) { told = text; where = at; place(); }, // functions: the content of the note, or null once there is nothing to say any more; the point of the window it is about
    hide() { told = null; if (floats && tip.matches(':popover-open')) tip.hidePopover(); tip.hidden = true; },
  };
  const moved = () => { if (!told) return; const [x, y] = where(); if (x < 0 || y < 0 || x > window.innerWidth || y > window.innerHeight) ui.hide(); else place(); }; // the note stays with what it is about
  const theme = () => { const d = isDark(root.parentElement || root); if (d !== ui.dark) { ui.dark = d; root.classList.toggle('qnb-dark', d); ui.ask(); } };
  const sized = new ResizeObserver(() => { const w = root.clientWidth; theme(); if (w !== width) { width = w; ui.ask(); } });
  const later = () => { theme(); setTimeout(theme, 100); setTimeout(theme, 600); }; // a theme's styles arrive after its name
  const changed = new MutationObserver(later);
  const media = matchMedia('(prefers-color-scheme: dark)');
  for (const o of [document.body, document.documentElement]) changed.observe(o, { attributes: true });
  media.addEventListener('change', later); sized.observe(root); window.addEventListener('scroll', moved, true);
  ui.end = () => { sized.disconnect(); changed.disconnect(); media.removeEventListener('change', later); window.removeEventListener('keydown', guard, true); window.removeEventListener('scroll', moved, true); cancelAnimationFrame(asked); };
  ui.ready = (...kids) => { root.replaceChildren(...kids.filter(Boolean), tip, live); };
  return ui;
}

// Follow traits of the model for as long as the view lives; gives back what ends it.
function follow(model, names, fn) {
  const ev = names.map(n => `change:${n}`).join(' ');
  model.on(ev, fn);
  return () => model.off(ev, fn);
}
function set(model, values) {
  for (const [k, v] of Object.entries(values)) model.set(k, v);
  model.save_changes();
}

// A row of labelled choices.
function pick(label, options, value, onchange, cls = '') {
  const s = make('select', { class: cls, 'aria-label': label, onchange: e => onchange(e.target.value) },
    ...options.map(o => { const [v, t] = Array.isArray(o) ? o : [o, o]; return make('option', { value: v, text: t }); }));
  s.value = value;
  return make('label', { class: 'qnb-pick' }, make('span', { text: label }), s);
}
function check(label, value, onchange, cls = '') {
  const i = make('input', { type: 'checkbox', class: cls, onchange: e => onchange(e.target.checked) });
  i.checked = value;
  return make('label', { class: 'qnb-pick' }, i, make('span', { text: label }));
}
// The colours of widths, with their numbers.
function legend(widths, words = 'bits') {
  return make('span', { class: 'qnb-legend', 'aria-hidden': 'true' }, ...widths.map(b => make('span', { class: 'qnb-key' + (b === 32 ? ' qnb-float' : ''), text: b, style: { background: color(b), color: ink(color(b)) } })),
    make('span', { text: words }));
}

// Round numbers for an axis from `lo` to `hi`.
function ticks(lo, hi, n) {
  const raw = (hi - lo) / Math.max(1, n), p = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find(m => m * p >= raw * .7) * p, res = [];
  for (let v = Math.ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-9; v += step) res.push(Math.abs(v) < step * 1e-9 ? 0 : +v.toPrecision(12));
  return res;
}
function logTicks(lo, hi, n) {
  const res = [], a = Math.floor(Math.log10(lo)), b = Math.ceil(Math.log10(hi));
  for (let e = a; e <= b; e++) for (const m of hi / lo > 1e3 ? [1] : hi / lo > 12 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8]) { const v = m * 10 ** e; if (v >= lo * .999 && v <= hi * 1.001) res.push(+v.toPrecision(6)); }
  return res.length > 2 ? res : ticks(lo, hi, n);
}

// Numbers of an axis, all with as many decimals as one of them needs.
function numbers(vs) {
  const d = Math.max(0, ...vs.map(v => (String(+v.toPrecision(6)).split('.')[1] || '').length));
  return vs.map(v => vs.some(v => v && Math.abs(v) < 1e-3) || d > 4 ? fmt(v) : v.toLocaleString('en-US', { minimumFractionDigits: d, maximumFractionDigits: d }).replace('-', '−'));
}
