"""The course as a static site that needs no network: `build.build_site` stages it, Sphinx makes it.

`pages` knows which file becomes which page and rewrites links; `cells` makes a notebook's cells fit
for a page; `staging` writes all sources; `index` and `reference` write the pages that no file of
the repository holds.
"""
