"""Settings of Sphinx, which builds the documentation: `make docs`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the site's own extension, and the package of this clone

from mdfa_core.base.distribution import VERSION

project = "mdfa"
author = "the mdfa authors"
copyright = "the mdfa authors, MIT licence"
version = release = VERSION

extensions = [
    "_site",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_site", "deploy"]
default_role = "code"  # docstrings write `name`, as Markdown does
highlight_language = "none"
smartquotes = False  # options begin with two hyphens

# Markdown that a code host shows as it is.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

# Tutorials are run at every build; a cell that fails, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_ipywidgets_js = {}  # nothing is loaded from another machine
nb_render_markdown_format = "myst"  # with tables
os.environ["TQDM_DISABLE"] = "1"  # a page has no use for progress bars

# The reference, from signatures and docstrings.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Columns", "params_style")]
napoleon_use_ivar = True  # a field is described once

# Every link of a page is checked. Types in signatures are linked if the site has them; other packages are not here.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]
suppress_warnings = ["ref.python"]  # a field that several classes have

html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme = "pydata_sphinx_theme"
html_title = "mdfa"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
