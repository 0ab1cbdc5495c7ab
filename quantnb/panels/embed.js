// Draws a widget from its saved state in a page that has neither a kernel nor a widget manager.
function mount(el, state, widget) {
  const heard = {};
  const each = (ev, fn) => ev.split(' ').forEach(fn);
  const model = {
    get: k => state[k],
    set(k, v) { if (state[k] !== v) { state[k] = v; (heard[`change:${k}`] || []).slice().forEach(f => f()); } },
    save_changes() {}, send() {},
    on(ev, f) { each(ev, e => (heard[e] ||= []).push(f)); },
    off(ev, f) { each(ev, e => heard[e] = (heard[e] || []).filter(o => o !== f)); },
  };
  for (const [k, v] of Object.entries(state)) if (v && v.base64 !== undefined) state[k] = new DataView(Uint8Array.from(atob(v.base64), c => c.charCodeAt(0)).buffer);
  el.model = model;
  widget.render({ model, el });
}
