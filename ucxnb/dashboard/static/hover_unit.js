// Body of a bokeh CustomJSHover: a number with its unit.
if (!Number.isFinite(value)) return "none";
let power = 0;
while (power + 1 < units.length && Math.abs(value) >= 999.5 * 1000 ** power) power += 1;
return `${Number((value / 1000 ** power).toPrecision(5))} ${units[power]}`;
