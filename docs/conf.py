"""The documentation site: `python -m sphinx -W docs <folder>`."""

from __future__ import annotations

import shutil
from importlib.metadata import version as _version
from pathlib import Path

_DOCS = Path(__file__).parent
_NOTEBOOKS = _DOCS / "notebooks"

# Sphinx reads what is below this folder only. The copies are not in the repository.
shutil.rmtree(_NOTEBOOKS, ignore_errors=True)
_NOTEBOOKS.mkdir()
for _file in sorted((_DOCS.parent / "notebooks").glob("*.ipynb")):
    shutil.copy(_file, _NOTEBOOKS)

project = "ucxnb"
author = "the ucxnb developers"
project_copyright = "2026, the ucxnb developers"
release = version = _version("ucxnb")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

# ---- pages and notebooks

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True
# Without a kernel behind them widgets show nothing, and their JavaScript comes from elsewhere.
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "text/plain", 100),
]

# ---- reference

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have types, with units and shapes
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = False

# ---- looks

html_theme = "pydata_sphinx_theme"
html_title = "ucxnb"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sourcelink_suffix = ""
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
# Pages without others beside them need no list of those.
_ALONE = ("index", "quickstart", "concepts", "troubleshooting", "coming-from-ucx-py", "changelog")
html_sidebars = {page: [] for page in _ALONE}
