// Body of a bokeh CustomJSHover: when, by the clock and as seconds before the end of the axis.
const clock = new Date(value * 1000).toLocaleTimeString();
return `${clock} (${Math.max(0, range.end - value).toFixed(1)} s ago)`;
