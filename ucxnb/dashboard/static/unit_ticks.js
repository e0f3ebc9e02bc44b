// Body of a bokeh CustomJSTickFormatter for a logarithmic axis: each tick in its own unit.
let power = 0;
while (power + 1 < units.length && tick >= 999.5 * 1000 ** power) power += 1;
return `${Number((tick / 1000 ** power).toPrecision(3))} ${units[power]}`;
