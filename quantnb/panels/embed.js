// Draws a widget from its saved state in a page that has neither a kernel nor a widget manager.
// Widgets that look at another one's rows find it by its name among those of the page.
function asModel(state) {
  const heard = {};
  const each = (ev, fn) => ev.split(' ').forEach(fn);
  for (const [k, v] of Object.entries(state)) if (v && v.base64 !== undefined) state[k] = new DataView(Uint8Array.from(atob(v.base64), c => c.charCodeAt(0)).buffer);
  return {
    get: k => state[k],
    set(k, v) { if (state[k] !== v) { state[k] = v; (heard[`change:${k}`] || []).slice().forEach(f => f()); } },
    save_changes() {}, send() {},
    on(ev, f) { each(ev, e => (heard[e] ||= []).push(f)); },
    off(ev, f) { each(ev, e => heard[e] = (heard[e] || []).filter(o => o !== f)); },
  };
}
function mount(el, widget, state, name, links, answers) {
  const page = window.quantnbModels ||= {}, model = page[name] ||= asModel(state), from = state.source;
  if (from && from.name) state.source = page[from.name] ||= asModel(from.state);
  for (const [trait, word] of Object.entries(links)) {
    const all = (window.quantnbLinks ||= {})[word] ||= []; all.push([model, trait]);
    model.on(`change:${trait}`, () => { const v = model.get(trait); if (v) all.forEach(([m, t]) => m.set(t, v)); });
  }
  if (answers) for (const k of answers[0]) model.on(`change:${k}`, () => { for (const [t, v] of Object.entries(answers[1][answers[0].map(o => model.get(o)).join('|')] || {})) model.set(t, v); });
  el.model = model; el.replaceChildren();
  widget.render({ model, el });
}
