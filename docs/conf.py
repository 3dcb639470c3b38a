"""Sphinx's settings: `sphinx-build -W -n -b html docs docs/_build/html`; needs no network."""

import os
import sys
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"  # compiled functions keep their signatures and docstrings
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray: no warning at import

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import numbers_of_results  # noqa: E402

import rllib_mec  # noqa: E402

project = "rllib_mec"
author = "The rllib_mec developers"
copyright = f"2025–2026, {author}"
version = release = rllib_mec.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "docstrings",
    "generated",
    "mathml",
]
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = f"rllib_mec {release}"
html_static_path = ["_static"]
html_css_files = ["rllib_mec.css"]
html_math_renderer = "mathml"  # browsers draw it by themselves: no script, no CDN
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = numbers_of_results.substitutions(HERE.parent)

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "show-inheritance": True,
    "ignore-module-all": True,  # what is exported is documented where it is defined
}
autodoc_typehints = "none"  # docstrings.py shows those of signatures as they are written
autodoc_preserve_defaults = True
add_module_names = False
default_role = "literal"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

nitpicky = True
# Without a network there is no inventory of other projects' names, nor are types as they are
# written (`np.ndarray`, `Count`) full names. What docstrings and pages refer to must resolve.
nitpick_ignore_regex = [("py:class", r"(?!rllib_mec\.).*"), ("py:mod", r"(ray|http)\..*")]
suppress_warnings = ["ref.python"]  # `Probe` of a signature may be that of either room
