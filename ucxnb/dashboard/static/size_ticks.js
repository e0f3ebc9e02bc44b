// Body of a bokeh CustomJSTickFormatter: message sizes in powers of 1024.
const units = ["B", "KiB", "MiB", "GiB"];
let power = 0;
while (power + 1 < units.length && tick >= 1024 ** (power + 1)) power += 1;
return `${Number((tick / 1024 ** power).toPrecision(4))} ${units[power]}`;
