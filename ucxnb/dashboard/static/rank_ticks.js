// Body of a bokeh CustomJSTickFormatter: ticks stand in the middle of their cells.
return String(Math.floor(tick));
