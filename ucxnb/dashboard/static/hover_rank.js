// Body of a bokeh CustomJSHover: the worker in whose row or column the mouse is.
const rank = Math.floor(value);
return names.data.name[rank] ?? String(rank);
