// Body of a bokeh CustomJSTickFormatter: the smallest size in a bucket of a histogram.
if (tick <= 0) return "0";
const units = ["B", "KiB", "MiB", "GiB", "TiB"];
const unit = Math.min(Math.floor((tick - 1) / 10), units.length - 1);
return `${2 ** (tick - 1 - 10 * unit)} ${units[unit]}`;
