// Body of a bokeh CustomJSTickFormatter: one unit for the whole axis, chosen by its largest tick.
const largest = Math.max(...ticks.map(Math.abs));
let power = 0;
while (power + 1 < units.length && largest >= 1000 ** (power + 1)) power += 1;
if (tick === 0) return "0";
return `${Number((tick / 1000 ** power).toPrecision(4))} ${units[power]}`;
