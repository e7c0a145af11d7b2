"""`make site`: the course as a static site, made by Sphinx from the stored outputs."""

import io
import shutil
import time
from pathlib import Path
from typing import Any

from dlrm_mini.course.generated import public_address
from dlrm_mini.course.progress import say
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir, checkout
from dlrm_mini.site.staging import downloads, stage

SETTINGS: dict[str, Any] = {
    "project": "dlrm-mini",
    "language": "en",
    "extensions": [
        "myst_nb",
        "sphinx.ext.autodoc",
        "sphinx.ext.napoleon",
        "sphinx.ext.mathjax",
        "dlrm_mini.site.docstrings",
    ],
    # Notebooks: the stored outputs, nothing is run.
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_dmath_double_inline": True,
    "myst_heading_anchors": 4,
    # page: is ours, for anchors that are no headings (see site.pages).
    "myst_url_schemes": {
        "http": None,
        "https": None,
        "mailto": None,
        "page": "{{path}}#{{fragment}}",
    },
    # Reference: engines that not everybody has are stood in for.
    "autodoc_mock_imports": ["torchrec", "fbgemm_gpu", "triton"],
    "autodoc_typehints": "signature",
    "autodoc_preserve_defaults": True,
    "python_use_unqualified_type_names": True,
    "python_maximum_signature_line_length": 80,
    "add_module_names": False,
    "napoleon_google_docstring": True,
    "napoleon_use_ivar": True,
    "napoleon_use_rtype": False,
    "default_role": "py:obj",  # single backticks in docstrings: a link where there is such a name
    # A short name in a docstring may be that of two classes; it then leads to the first.
    "suppress_warnings": ["ref.python"],
    # The look.
    "html_context": {"default_mode": "auto"},
    "toc_object_entries_show_parents": "hide",
    "html_theme": "sphinx_book_theme",
    "html_title": "dlrm-mini",
    "html_favicon": "_static/favicon.svg",
    "html_static_path": ["_static"],
    "html_css_files": ["course.css"],
    "html_copy_source": False,
    "html_use_index": False,
    "html_domain_indices": False,
    "html_show_sphinx": False,
    "html_last_updated_fmt": None,
    "html_theme_options": {
        "show_navbar_depth": 1,
        "collapse_navbar": True,
        "show_toc_level": 2,
        "use_download_button": False,
        "use_source_button": False,
        "home_page_in_toc": True,
        "search_bar_text": "Search the course",
        "pygments_light_style": "a11y-high-contrast-light",
        "pygments_dark_style": "a11y-high-contrast-dark",
        "footer_content_items": "",
    },
    "mathjax_path": "mathjax.js",
    "mathjax3_config": {
        "options": {"enableMenu": False, "processHtmlClass": "math", "ignoreHtmlClass": "document"},
        "svg": {"fontCache": "local", "scale": 0.95},
    },
    "myst_update_mathjax": False,
}


def build_site(target: Path | None = None, *, address: str | None = None) -> int:
    """Build the whole site, offline, from the stored outputs of the notebooks.

    Args:
        target: the site's folder; `build/site` when None. Beside it lie the sources, and what lets
            a second build make only the pages that changed.
        address: the repository's public address; that of pyproject.toml when None.

    Returns:
        The exit status: 0 done, 1 when Sphinx had a complaint, which is then printed.

    Raises:
        UserError: when Sphinx is missing or this is no checkout.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.util.console import nocolor
        from sphinx.util.docutils import docutils_namespace, patch_docutils
    except ImportError:
        raise UserError("Sphinx is not installed: `make site` does that first.") from None
    root = checkout()
    if root is None:
        raise UserError("The site is made from a checkout of the repository: clone it first.")
    began = time.perf_counter()
    target = target or build_dir() / "site"
    source, trees = target.parent / f"{target.name}-source", target.parent / f"{target.name}-trees"
    course = stage(root, source, public_address() if address is None else address)
    complaints = io.StringIO()
    nocolor()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=source,
            confdir=None,
            outdir=target,
            doctreedir=trees,
            buildername="html",
            confoverrides=SETTINGS,
            status=None,
            warning=complaints,
        )
        app.build()
    _forget(target, set(app.env.found_docs) | {"search"})
    shutil.rmtree(target / "download", ignore_errors=True)
    downloads(root, target / "download")
    if complaints.getvalue():
        say(complaints.getvalue())
        return 1
    seconds = time.perf_counter() - began
    say(f"{len(course)} chapters in {seconds:.0f} s: {target / 'index.html'}")
    return 0


def _forget(target: Path, documents: set[str]) -> None:
    """Remove the pages of an earlier site whose documents are gone."""
    for page in target.rglob("*.html"):
        name = page.relative_to(target).with_suffix("").as_posix()
        if not name.startswith("_") and name not in documents:
            page.unlink()
