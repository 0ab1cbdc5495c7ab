// What the views of episodes share, in front of their own files.
// A record is a row of bytes: episode int32, flags uint8, one float32 a metric, then weight and activation bits, uint8, of every layer.

const FEASIBLE = 1, FAILED = 2, WARMUP = 4, CACHED = 8;

// The model that holds the rows: the widget's own, or that of the widget it looks at.
async function sourceOf(model) {
  const v = model.get('source'), s = Array.isArray(v) ? v.join('') : v; // what processes notebooks may take it for a cell's source and make it a list of lines
  return !s ? model : typeof s === 'string' ? model.widget_manager.get_model(s.slice('IPY_MODEL_'.length)) : s;
}

// Rows as they arrive; each call only looks at those that are new.
function reader(src) {
  let rows = [], gen;
  return () => {
    if (gen !== src.get('generation')) { gen = src.get('generation'); rows = []; }
    const per = src.get('block'), ms = src.get('metrics'), size = 5 + 4 * ms.length + 2 * src.get('layers').length;
    for (let i = rows.length; i < src.get('n'); i++) {
      const v = src.get(`block_${Math.floor(i / per)}`), at = (i % per) * size;
      if (!v || v.byteLength < at + size) break; // the count may come before the bytes
      const r = { episode: v.getInt32(at, true), flags: v.getUint8(at + 4), at: at + 5 + 4 * ms.length, view: v };
      ms.forEach((m, k) => { r[m] = v.getFloat32(at + 5 + 4 * k, true); });
      rows.push(r);
    }
    return rows;
  };
}
const widthOf = (r, k, what) => r.view.getUint8(r.at + 2 * k + (what === 'a' ? 1 : 0));
const DATA = ['n', 'generation', 'metrics', 'layers', 'directions', 'targets', 'floats', 'labels', 'objectives', 'best', 'mark'];
const starred = (r, src) => r.episode === src.get('best') && (src.get('mark') || 'best so far'); // one word for the star, everywhere
const status = (r, src) => [starred(r, src), r.flags & FAILED ? 'failed' : r.flags & FEASIBLE ? '' : 'misses a target', r.flags & WARMUP && 'warm-up', r.flags & CACHED && 'repeated'].filter(Boolean).join(', ');
