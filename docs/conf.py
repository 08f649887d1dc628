"""The settings of Sphinx for the site; `python -m course.site` copies this file beside the pages that it lays out."""

import fnlib
from course.links import published

repository, tag = published()
project = "fnlib"
author = "The authors of the fnlib teaching kit"
copyright = f"{author}. Code MIT, text and pictures CC BY 4.0"  # noqa: A001
version = release = fnlib.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["findings_intro.txt", "extra"]
suppress_warnings = [
    "myst.header"
]  # a page of the instructor's guide begins some sections at level 3

nb_execution_mode = "off"  # the notebooks have been run when Sphinx sees them
nb_merge_streams = True
nb_ipywidgets_js = {}  # the widgets of a page need a kernel; nothing of theirs is loaded
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
highlight_language = "none"
pygments_style = "a11y-high-contrast-light"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_rtype = False  # "A new gradient: the bits that ..." stays one sentence
python_use_unqualified_type_names = True

html_theme = "sphinx_book_theme"
html_title = "fnlib: who owns the state?"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_extra_path = ["teach/cards.html", "teach/question_bank.gift", "extra"]
html_copy_source = False
html_domain_indices = False  # an index of two modules helps nobody
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "repository_url": f"https://github.com/{repository}",
    "repository_branch": tag,
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_source_button": False,
    "use_download_button": True,
    "home_page_in_toc": False,
    # Only the section that a page is in is unfolded: with all of them, every page names every other, and takes three times as long.
    "collapse_navbar": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "navbar_persistent": [],
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    },
}


def setup(app):  # noqa: ANN001, ANN201  # Sphinx calls it
    """Leave one button for a download: the one that prints the page, or saves it as PDF."""

    def only_print(app, page, template, context, doctree):  # noqa: ANN001, ANN202
        for group in context.get("header_buttons", ()):
            if group.get("label") == "download-buttons":
                group["buttons"] = [one for one in group["buttons"] if one["type"] == "javascript"]

    app.connect("html-page-context", only_print, priority=900)
