// Body of a bokeh CustomJSTickFormatter: sizes to the byte, as UCX's tables have them.
const unit = tick % (1 << 20) === 0 ? "MiB" : tick % 1024 === 0 ? "KiB" : "B";
const factor = { MiB: 1 << 20, KiB: 1024, B: 1 }[unit];
return `${(tick / factor).toLocaleString("en")} ${unit}`;
