// Body of a bokeh CustomJSTickFormatter: seconds relative to now, as words.
if (tick === 0) return "now";
const ago = -tick;
const suffix = index === 0 ? " ago" : "";
if (ago % 3600 === 0) return `${ago / 3600} h${suffix}`;
if (ago >= 120 && ago % 60 === 0) return `${ago / 60} min${suffix}`;
return `${Number(ago.toPrecision(3))} s${suffix}`;
