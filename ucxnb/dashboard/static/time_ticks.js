// Body of a bokeh CustomJSTickFormatter: seconds before the end of the axis, as words.
const ago = Math.round((range.end - tick) * 1000) / 1000;
if (ago === 0) return "now";
const suffix = index === 0 ? " ago" : "";
if (ago % 3600 === 0) return `${ago / 3600} h${suffix}`;
if (ago >= 120 && ago % 60 === 0) return `${ago / 60} min${suffix}`;
return `${Number(ago.toPrecision(3))} s${suffix}`;
