"""Settings of the documentation site; `python docs/build.py` builds it."""

import re

import keras_tl.quiet

import keras_tl

project = "keras-tl"
author = "the keras-tl developers"
copyright = "the keras-tl developers, Apache-2.0"
version = release = keras_tl.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_site", "jupyter_execute"]

# Markdown and notebooks: they are stored executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 0)]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings: one backtick is code.
default_role = "code"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Otherwise what stands before a colon in "Returns" is taken for a type.
napoleon_custom_sections = ["Returns", "Reference"]
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "pydata_sphinx_theme"
html_title = "keras-tl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# Pages without further pages below them.
html_sidebars = {name: [] for name in ("index", "start", "your_data", "concepts")}
html_theme_options = {
    "logo": {"text": "keras-tl"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "show_version_warning_banner": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "promises": []},
}

# Links that are right in the repository -> page of the site.
LINKS = {
    r"benchmarks/README\.md": "/project/benchmarks.md",
    r"CONTRIBUTING\.md": "/project/contributing.md",
    r"README\.md": "/index.md",
    r"results": "/results.md",
    r"recipes/(\w+)\.py": r"/recipes/\1.md",
    r"notebooks/(\w+)\.ipynb": r"/notebooks/\1.ipynb",
}


def setup(app):
    def adapt(app, name, source):
        for link, page in LINKS.items():
            source[0] = re.sub(rf"\]\((?:\.\./)+{link}\)", f"]({page})", source[0])

    app.connect("source-read", adapt)
