// Body of a bokeh CustomJSHover: the text that a number stands for.
return words.data.word[value] ?? "not connected";
